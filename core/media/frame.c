/*
 * Frames and their pool. The pixels follow the header in one aligned block, so a frame is one allocation; rows start on
 * 64 bytes and a tail of 64 bytes follows the last row, since vector code may write past a row's end. A pool keeps
 * returned blocks and hands one out again when it is large enough and not wastefully larger; it outlives its owner
 * until its last frame is back.
 */
#include "core/media/frame.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#define FRAME_ALIGN 64
#define FRAME_IDLE_MAX 8 /* blocks an unbounded pool keeps */

struct frame_impl {
    struct frame pub;
    atomic_int refs;
    size_t capacity; /* bytes of pixels */
    struct frame_pool *pool;
    struct frame_impl *next; /* in the pool's list of idle blocks */
};

struct frame_pool {
    pthread_mutex_t lock;
    pthread_cond_t returned;
    struct frame_impl *idle;
    size_t n_idle, n_out, max;
    bool closed, orphaned; /* orphaned: the owner let go */
};

static size_t round_up(size_t n)
{
    return (n + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
}

/* 0 when the size is not representable: both sides are int, so the product fits 64 bits only after this check. */
static size_t frame_bytes(enum frame_format fmt, int width_px, int height_px, int *stride_bytes)
{
    if (width_px <= 0 || height_px <= 0 || width_px > (1 << 28))
        return 0;
    size_t stride = round_up((size_t)width_px * (size_t)frame_channels(fmt));
    *stride_bytes = (int)stride;
    return stride * (size_t)height_px + FRAME_ALIGN;
}

static struct frame_impl *impl_new(size_t capacity)
{
    size_t header = round_up(sizeof(struct frame_impl));
    if (capacity > SIZE_MAX / 2)
        return NULL;
    struct frame_impl *f = aligned_alloc(FRAME_ALIGN, header + round_up(capacity));
    if (!f)
        return NULL;
    *f = (struct frame_impl){.capacity = capacity};
    f->pub.data = (uint8_t *)f + header;
    return f;
}

static void impl_init(struct frame_impl *f, enum frame_format fmt, int width_px, int height_px, int stride_bytes)
{
    uint8_t *data = f->pub.data;
    f->pub = (struct frame){.data = data,
                            .width_px = width_px,
                            .height_px = height_px,
                            .stride_bytes = stride_bytes,
                            .fmt = fmt,
                            .pts_ms = -1,
                            .impl = f};
    atomic_store(&f->refs, 1);
}

int frame_new(enum frame_format fmt, int width_px, int height_px, struct frame **out, struct err *e)
{
    int stride = 0;
    size_t bytes = frame_bytes(fmt, width_px, height_px, &stride);
    struct frame_impl *f = bytes ? impl_new(bytes) : NULL;
    *out = NULL;
    if (!f)
        return err_set(e, ERR_NOMEM, "no memory for a picture of %d x %d", width_px, height_px);
    impl_init(f, fmt, width_px, height_px, stride);
    *out = &f->pub;
    return 0;
}

struct frame_pool *frame_pool_new(size_t max_frames)
{
    struct frame_pool *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->returned, NULL);
    p->max = max_frames;
    return p;
}

static void pool_destroy(struct frame_pool *p)
{
    while (p->idle) {
        struct frame_impl *f = p->idle;
        p->idle = f->next;
        free(f);
    }
    pthread_cond_destroy(&p->returned);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* With the lock held: an idle block of a fitting size, or NULL after dropping one that does not fit. */
static struct frame_impl *pool_take_idle(struct frame_pool *p, size_t bytes)
{
    for (struct frame_impl **at = &p->idle; *at; at = &(*at)->next) {
        struct frame_impl *f = *at;
        if (f->capacity < bytes || f->capacity / 2 > bytes)
            continue;
        *at = f->next;
        p->n_idle--;
        return f;
    }
    if (p->idle) {
        struct frame_impl *f = p->idle;
        p->idle = f->next;
        p->n_idle--;
        free(f);
    }
    return NULL;
}

int frame_pool_get(struct frame_pool *p, enum frame_format fmt, int width_px, int height_px, struct frame **out,
                   struct err *e)
{
    int stride = 0;
    size_t bytes = frame_bytes(fmt, width_px, height_px, &stride);
    *out = NULL;
    if (!bytes)
        return err_set(e, ERR_NOMEM, "no memory for a picture of %d x %d", width_px, height_px);
    pthread_mutex_lock(&p->lock);
    while (!p->closed && p->max && p->n_out >= p->max)
        pthread_cond_wait(&p->returned, &p->lock);
    bool closed = p->closed;
    struct frame_impl *f = closed ? NULL : pool_take_idle(p, bytes);
    p->n_out += !closed;
    pthread_mutex_unlock(&p->lock);
    if (closed)
        return err_set(e, ERR_CANCELED, "the frame pool was closed");
    if (!f && !(f = impl_new(bytes))) {
        pthread_mutex_lock(&p->lock);
        p->n_out--;
        pthread_cond_signal(&p->returned);
        pthread_mutex_unlock(&p->lock);
        return err_set(e, ERR_NOMEM, "no memory for a picture of %d x %d", width_px, height_px);
    }
    f->pool = p;
    impl_init(f, fmt, width_px, height_px, stride);
    *out = &f->pub;
    return 0;
}

void frame_pool_close(struct frame_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->closed = true;
    pthread_cond_broadcast(&p->returned);
    pthread_mutex_unlock(&p->lock);
}

void frame_pool_free(struct frame_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->orphaned = true;
    bool last = p->n_out == 0;
    pthread_mutex_unlock(&p->lock);
    if (last)
        pool_destroy(p);
}

static void pool_give_back(struct frame_pool *p, struct frame_impl *f)
{
    pthread_mutex_lock(&p->lock);
    bool keep = !p->orphaned && p->n_idle < (p->max ? p->max : FRAME_IDLE_MAX);
    if (keep) {
        f->next = p->idle;
        p->idle = f;
        p->n_idle++;
    }
    p->n_out--;
    bool last = p->orphaned && p->n_out == 0;
    pthread_cond_signal(&p->returned);
    pthread_mutex_unlock(&p->lock);
    if (!keep)
        free(f);
    if (last)
        pool_destroy(p);
}

struct frame *frame_ref(struct frame *f)
{
    BUG_ON(!f->impl); /* a borrowed view cannot be held */
    atomic_fetch_add(&f->impl->refs, 1);
    return f;
}

void frame_unref(struct frame *f)
{
    if (!f || !f->impl || atomic_fetch_sub(&f->impl->refs, 1) != 1)
        return;
    if (f->impl->pool)
        pool_give_back(f->impl->pool, f->impl);
    else
        free(f->impl);
}
