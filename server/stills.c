/*
 * See stills.h. An entry is one open clip; who works with it has marked it busy, others that want the same clip wait (their picture is
 * often on the way), those that want another one while all are busy open it for themselves. A file is known by its inode, size and time, so
 * a path that is used again is another file. An open decoder that fails is closed, and the picture tried once more afresh: the failure may
 * be of its age (its time limit counts all calls, its process can be killed), not of the clip.
 */
#include "server/stills.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/base/clock.h"
#include "core/media/image.h"

enum { OPEN_MAX = 4, KEPT_MAX = 24, AHEAD_MAX = 8, IDLE_MS = 10000, QUALITY = 90 };
#define KEPT_BYTES ((size_t)8 << 20) /* of one clip's kept pictures */

struct entry {
    bool used, busy;
    dev_t dev;
    ino_t inode;
    off_t size;
    struct timespec modified;
    int64_t asked_ms;
    struct clip *clip;
    int64_t next; /* the picture clip_next would give */
    struct {
        int64_t n;
        struct buf jpeg;
    } kept[KEPT_MAX]; /* a ring; an empty one has no data */
    size_t oldest, bytes;
};

struct stills {
    pthread_mutex_t lock;
    pthread_cond_t released;
    struct clip_limits limits;
    struct entry entry[OPEN_MAX];
};

/* ---- kept pictures --------------------------------------------------------------------------------------------------- */

static void drop(struct entry *t, size_t i)
{
    t->bytes -= t->kept[i].jpeg.len;
    buf_free(&t->kept[i].jpeg);
}

/* Takes what *jpeg holds. */
static void keep(struct entry *t, int64_t n, struct buf *jpeg)
{
    size_t at = t->oldest;
    drop(t, at);
    t->oldest = (at + 1) % KEPT_MAX;
    t->kept[at].n = n;
    t->kept[at].jpeg = *jpeg;
    t->bytes += jpeg->len;
    *jpeg = (struct buf)BUF_INIT;
    for (size_t i = t->oldest; t->bytes > KEPT_BYTES && i != at; i = (i + 1) % KEPT_MAX)
        drop(t, i);
}

static bool recall(const struct entry *t, int64_t n, struct buf *jpeg)
{
    for (size_t i = 0; i < KEPT_MAX; i++)
        if (t->kept[i].jpeg.len > 0 && t->kept[i].n == n) {
            buf_append(jpeg, t->kept[i].jpeg.data, t->kept[i].jpeg.len);
            return true;
        }
    return false;
}

/* ---- entries --------------------------------------------------------------------------------------------------------- */

static void close_clip(struct entry *t)
{
    clip_close(t->clip);
    t->clip = NULL;
    t->next = 0;
}

static void forget(struct entry *t)
{
    close_clip(t);
    for (size_t i = 0; i < KEPT_MAX; i++)
        drop(t, i);
}

static bool is_file(const struct entry *t, const struct stat *st)
{
    return t->used && t->dev == st->st_dev && t->inode == st->st_ino && t->size == st->st_size &&
           t->modified.tv_sec == st->st_mtim.tv_sec && t->modified.tv_nsec == st->st_mtim.tv_nsec;
}

/* The file's entry, else the one to give it: idle and unused, or asked longest ago. NULL: all are busy. */
static struct entry *choose(struct stills *s, const struct stat *st)
{
    struct entry *best = NULL;
    for (struct entry *t = s->entry; t < s->entry + OPEN_MAX; t++) {
        if (is_file(t, st))
            return t;
        if (!t->busy && (!best || (best->used && (!t->used || t->asked_ms < best->asked_ms))))
            best = t;
    }
    return best;
}

static struct entry *acquire(struct stills *s, const struct stat *st)
{
    pthread_mutex_lock(&s->lock);
    struct entry *t = choose(s, st);
    while (t && t->busy) {
        pthread_cond_wait(&s->released, &s->lock);
        t = choose(s, st);
    }
    bool other = t && !is_file(t, st);
    if (t) {
        t->busy = t->used = true;
        t->asked_ms = clock_mono_ms();
        t->dev = st->st_dev;
        t->inode = st->st_ino;
        t->size = st->st_size;
        t->modified = st->st_mtim;
    }
    pthread_mutex_unlock(&s->lock);
    if (other)
        forget(t);
    return t;
}

static void release(struct stills *s, struct entry *t)
{
    pthread_mutex_lock(&s->lock);
    t->asked_ms = clock_mono_ms();
    t->busy = false;
    pthread_cond_broadcast(&s->released);
    pthread_mutex_unlock(&s->lock);
}

/* ---- decoding -------------------------------------------------------------------------------------------------------- */

static int encode(struct frame *f, struct buf *jpeg, struct err *e)
{
    int rc = image_encode_jpeg(f, QUALITY, jpeg, e);
    frame_unref(f);
    return rc;
}

/* Reads on to picture n and keeps all on the way. */
static int read_to(struct entry *t, int64_t n, struct err *e)
{
    int rc = 0;
    while (rc == 0 && t->next <= n) {
        struct frame *f = NULL;
        struct buf jpeg = BUF_INIT;
        int got = clip_next(t->clip, &f, e);
        if (got <= 0)
            return got < 0 ? got : err_set(e, ERR_NOTFOUND, "there is no picture %lld", (long long)n);
        rc = encode(f, &jpeg, e);
        if (rc == 0)
            keep(t, t->next++, &jpeg);
        buf_free(&jpeg);
    }
    return rc;
}

static int jump_to(struct entry *t, int64_t n, struct err *e)
{
    struct frame *f = NULL;
    struct buf jpeg = BUF_INIT;
    int rc = clip_seek_frame(t->clip, n, &f, e);
    if (rc < 0)
        return rc;
    rc = encode(f, &jpeg, e);
    if (rc == 0) {
        keep(t, n, &jpeg);
        t->next = n + 1;
    }
    buf_free(&jpeg);
    return rc;
}

static int fetch(struct stills *s, struct entry *t, const char *path, int64_t n, struct buf *jpeg, struct err *e)
{
    if (recall(t, n, jpeg))
        return 0;
    int rc = t->clip ? 0 : clip_open(path, &s->limits, &t->clip, e);
    if (rc == 0)
        rc = n >= t->next && n - t->next < AHEAD_MAX ? read_to(t, n, e) : jump_to(t, n, e);
    if (rc == 0)
        recall(t, n, jpeg);
    else
        close_clip(t);
    return rc;
}

int stills_get(struct stills *s, const char *path, int64_t n, struct buf *jpeg, struct err *e)
{
    struct stat st;
    struct entry alone = {0};
    if (stat(path, &st) != 0)
        return err_errno(e, "the clip");
    struct entry *shared = acquire(s, &st), *t = shared ? shared : &alone;
    bool had = t->clip != NULL;
    int rc = fetch(s, t, path, n, jpeg, e);
    if (rc < 0 && rc != ERR_NOTFOUND && had)
        rc = fetch(s, t, path, n, jpeg, e);
    if (shared)
        release(s, shared);
    else
        forget(&alone);
    return rc == 0 && jpeg->failed ? err_set(e, ERR_NOMEM, "no memory for a picture") : rc;
}

/* ---- lifetime -------------------------------------------------------------------------------------------------------- */

struct stills *stills_new(const struct clip_limits *limits)
{
    struct stills *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->limits = *limits;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->released, NULL);
    return s;
}

void stills_tidy(struct stills *s)
{
    int64_t now = clock_mono_ms();
    for (struct entry *t = s->entry; t < s->entry + OPEN_MAX; t++) {
        pthread_mutex_lock(&s->lock);
        bool idle = t->used && !t->busy && now - t->asked_ms >= IDLE_MS;
        t->busy |= idle;
        t->used = t->used && !idle;
        pthread_mutex_unlock(&s->lock);
        if (!idle)
            continue;
        forget(t);
        release(s, t);
    }
}

void stills_free(struct stills *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < OPEN_MAX; i++)
        forget(&s->entry[i]);
    pthread_cond_destroy(&s->released);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
