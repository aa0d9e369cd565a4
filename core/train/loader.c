/*
 * A ring of batch slots. Makers take the next batch number in turn and fill slot number % slots, waiting until the
 * consumer is done with what was there; the consumer takes them in order.
 */
#include "core/train/loader.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct slot {
    struct batch batch;
    uint64_t number; /* which batch lies here */
    bool ready;
};

struct loader {
    struct batch_shape shape;
    sample_fn fn;
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct slot *slots;
    size_t n_slots;
    uint64_t next_made, next_used; /* batch numbers */
    bool holding;                  /* the consumer still reads batch next_used - 1 */
    bool stop;
    struct err failure;
    pthread_t *threads;
    int n_threads;
};

static size_t plane_floats(const struct batch_shape *s)
{
    return (size_t)s->size * (size_t)s->size;
}

static struct batch sample_at(const struct loader *l, const struct batch *b, int i)
{
    const struct batch_shape *s = &l->shape;
    size_t frames = (size_t)s->frames * (size_t)i, n = plane_floats(s);
    return (struct batch){.input = b->input + frames * (size_t)s->channels * n,
                          .target = b->target + frames * n,
                          .weight = b->weight + frames * n,
                          .sample_weight = b->sample_weight + frames};
}

static int fill(struct loader *l, struct slot *slot, uint64_t number, struct err *e)
{
    for (int i = 0; i < l->shape.samples; i++) {
        struct batch at = sample_at(l, &slot->batch, i);
        int rc = l->fn(l->arg, number * (uint64_t)l->shape.samples + (uint64_t)i, &at, e);
        if (rc)
            return rc;
    }
    return 0;
}

static void *make(void *arg)
{
    struct loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        uint64_t number = l->next_made++;
        struct slot *slot = &l->slots[number % l->n_slots];
        while (!l->stop && number + 1 > l->next_used + l->n_slots - l->holding)
            pthread_cond_wait(&l->changed, &l->lock);
        if (l->stop)
            break;
        pthread_mutex_unlock(&l->lock);
        struct err e = {0};
        int rc = fill(l, slot, number, &e);
        pthread_mutex_lock(&l->lock);
        slot->number = number;
        slot->ready = true;
        if (rc && !l->failure.code)
            l->failure = e;
        if (rc)
            l->stop = true;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static bool alloc_slots(struct loader *l)
{
    const struct batch_shape *s = &l->shape;
    size_t frames = (size_t)s->samples * (size_t)s->frames, n = frames * plane_floats(s);
    l->slots = calloc(l->n_slots, sizeof(*l->slots));
    for (size_t i = 0; l->slots && i < l->n_slots; i++) {
        struct batch *b = &l->slots[i].batch;
        b->input = malloc(n * (size_t)s->channels * sizeof(float));
        b->target = malloc(n * sizeof(float));
        b->weight = malloc(n * sizeof(float));
        b->sample_weight = malloc(frames * sizeof(float));
        if (!b->input || !b->target || !b->weight || !b->sample_weight)
            return false;
    }
    return l->slots != NULL;
}

int loader_new(struct batch_shape shape, sample_fn fn, void *arg, int threads, int ahead, uint64_t first,
               struct loader **out, struct err *e)
{
    struct loader *l = calloc(1, sizeof(*l));
    *out = NULL;
    if (!l)
        return err_set(e, ERR_NOMEM, "loader: out of memory");
    *l = (struct loader){
        .shape = shape, .fn = fn, .arg = arg, .n_slots = (size_t)ahead + 1, .next_made = first, .next_used = first};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    l->threads = calloc((size_t)threads, sizeof(*l->threads));
    if (!l->threads || !alloc_slots(l)) {
        loader_free(l);
        return err_set(e, ERR_NOMEM, "loader: out of memory for %d batches ahead", ahead);
    }
    for (; l->n_threads < threads; l->n_threads++)
        if (pthread_create(&l->threads[l->n_threads], NULL, make, l)) {
            int started = l->n_threads;
            loader_free(l);
            return err_set(e, ERR_NOMEM, "loader: cannot start thread %d", started);
        }
    *out = l;
    return 0;
}

int loader_next(struct loader *l, const struct batch **out, struct err *e)
{
    int rc = 0;
    pthread_mutex_lock(&l->lock);
    l->holding = false;
    pthread_cond_broadcast(&l->changed);
    struct slot *slot = &l->slots[l->next_used % l->n_slots];
    while (!(slot->ready && slot->number == l->next_used) && !l->failure.code)
        pthread_cond_wait(&l->changed, &l->lock);
    if (l->failure.code) {
        rc = err_set(e, l->failure.code, "%s", l->failure.msg);
    } else {
        slot->ready = false;
        l->next_used++;
        l->holding = true;
        *out = &slot->batch;
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

void loader_free(struct loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_threads; i++)
        pthread_join(l->threads[i], NULL);
    for (size_t i = 0; l->slots && i < l->n_slots; i++) {
        free(l->slots[i].batch.input);
        free(l->slots[i].batch.target);
        free(l->slots[i].batch.weight);
        free(l->slots[i].batch.sample_weight);
    }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    free(l->slots);
    free(l->threads);
    free(l);
}
