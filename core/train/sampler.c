/*
 * Samplers. The epoch's order is a permutation drawn from (seed, epoch); sample k of it seeds its own random state, so
 * samples can be made by any thread in any order.
 */
#include "core/train/sampler.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/train/guided.h"

struct sampler {
    struct dataset *d;
    struct sampler_opts o;
    size_t *train, n_train; /* items of the training part */
    size_t *held, n_held;
    uint64_t epoch_samples;
    pthread_mutex_t lock; /* over the permutation, which is made once per epoch */
    size_t *order;
    uint64_t order_epoch;
    struct guided *guided;
};

static uint64_t mix_seed(uint64_t a, uint64_t b)
{
    uint64_t h = a * UINT64_C(0x9E3779B97F4A7C15) + b;
    h = (h ^ (h >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    h = (h ^ (h >> 27)) * UINT64_C(0x94D049BB133111EB);
    return h ^ (h >> 31);
}

static int list_parts(struct sampler *s, struct err *e)
{
    s->train = malloc((s->d->n + 1) * sizeof(size_t));
    s->held = malloc((s->d->n + 1) * sizeof(size_t));
    s->order = malloc((s->d->n + 1) * sizeof(size_t));
    if (!s->train || !s->held || !s->order)
        return err_set(e, ERR_NOMEM, "sampler: out of memory");
    for (size_t i = 0; i < s->d->n; i++)
        if (s->d->items[i].held_out)
            s->held[s->n_held++] = i;
        else
            s->train[s->n_train++] = i;
    if (!s->n_train)
        return err_set(e, ERR_INVALID, "no picture to train on");
    return 0;
}

static int open_guided(struct sampler *s, struct err *e)
{
    struct fgplg_norm norm;
    memcpy(norm.mean, s->o.mean, sizeof(norm.mean));
    memcpy(norm.std, s->o.std, sizeof(norm.std));
    return guided_new(s->o.shape.size, s->o.plain_flow ? FGPLG_PLAIN : FGPLG_RELIABLE, &norm, &s->guided, e);
}

int sampler_new(struct dataset *d, const struct sampler_opts *o, struct sampler **out, struct err *e)
{
    struct sampler *s = calloc(1, sizeof(*s));
    *out = NULL;
    if (!s)
        return err_set(e, ERR_NOMEM, "sampler: out of memory");
    *s = (struct sampler){.d = d, .o = *o, .order_epoch = UINT64_MAX};
    pthread_mutex_init(&s->lock, NULL);
    int rc = list_parts(s, e);
    if (!rc && o->kind == SAMPLER_GUIDED)
        rc = open_guided(s, e);
    if (rc) {
        sampler_free(s);
        return rc;
    }
    uint64_t batch = (uint64_t)o->shape.samples, whole = s->n_train / batch * batch;
    if (o->epoch_samples)
        whole = (o->epoch_samples + batch - 1) / batch * batch;
    s->epoch_samples = whole ? whole : batch;
    *out = s;
    return 0;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    guided_free(s->guided);
    pthread_mutex_destroy(&s->lock);
    free(s->train);
    free(s->held);
    free(s->order);
    free(s);
}

uint64_t sampler_epoch_samples(const struct sampler *s)
{
    return s->epoch_samples;
}

uint64_t sampler_held_out(const struct sampler *s)
{
    return s->n_held;
}

/* Item of sample k of an epoch. Loader threads may straddle two epochs; the order is then drawn back and forth, which
 * costs little and happens once per epoch. */
static size_t pick_item(struct sampler *s, uint64_t epoch, uint64_t k)
{
    size_t item;
    if (s->o.in_order)
        return s->train[k % s->n_train];
    pthread_mutex_lock(&s->lock);
    if (s->order_epoch != epoch) {
        struct rng r;
        rng_seed(&r, mix_seed(s->o.seed, epoch ^ UINT64_C(0x6F72646572)));
        memcpy(s->order, s->train, s->n_train * sizeof(size_t));
        for (size_t i = s->n_train; i > 1; i--) {
            size_t j = (size_t)rng_int(&r, (int)i), t = s->order[i - 1];
            s->order[i - 1] = s->order[j];
            s->order[j] = t;
        }
        s->order_epoch = epoch;
    }
    item = s->order[k % s->n_train];
    pthread_mutex_unlock(&s->lock);
    return item;
}

static void normalise(const struct sampler *s, float *rgb)
{
    size_t n = (size_t)s->o.shape.size * (size_t)s->o.shape.size;
    for (size_t c = 0; c < 3; c++) {
        float k = 1 / s->o.std[c], b = -s->o.mean[c] / s->o.std[c];
        for (size_t i = 0; i < n; i++)
            rgb[c * n + i] = rgb[c * n + i] * k + b;
    }
}

/* Weights and normalisation of one drawn picture. */
static void finish(const struct sampler *s, size_t item, int frame, const struct batch *at, float *scratch)
{
    size_t n = (size_t)s->o.shape.size * (size_t)s->o.shape.size, f = (size_t)frame;
    normalise(s, at->input + f * (size_t)s->o.shape.channels * n);
    loss_weights(s->o.loss, at->target + f * n, s->o.shape.size, at->weight + f * n, scratch);
    at->sample_weight[f] = (float)s->d->items[item].weight;
}

/* Frames of a real clip around `item`, `step` apart, in the shot's view; the window is shifted to stay inside the clip.
 */
static int draw_real_clip(struct sampler *s, size_t item, const struct shot *shot, int step, bool reverse,
                          const struct batch *at, float *scratch, struct err *e)
{
    const struct dataset_group *g = &s->d->groups[s->d->items[item].group];
    size_t n = (size_t)s->o.shape.size * (size_t)s->o.shape.size, frames = (size_t)s->o.shape.frames;
    size_t span = (frames - 1) * (size_t)step, first = item;
    if (first + span >= g->first + g->n)
        first = g->n > span ? g->first + g->n - 1 - span : g->first;
    for (size_t f = 0; f < frames; f++) {
        size_t k = first + (reverse ? frames - 1 - f : f) * (size_t)step, last = g->first + g->n - 1;
        const struct picture *p;
        k = k > last ? last : k;
        int rc = dataset_get(s->d, k, &p, e);
        if (rc)
            return rc;
        shot_draw_frame(shot, p, s->o.shape.size, at->input + f * 3 * n, at->target + f * n, scratch);
        dataset_put(s->d, k, p);
        finish(s, k, (int)f, at, scratch);
    }
    return 0;
}

static bool is_real_clip(const struct sampler *s, size_t item)
{
    const struct dataset_group *g = &s->d->groups[s->d->items[item].group];
    return g->clip && g->n >= (size_t)s->o.shape.frames;
}

static int make_clip(struct sampler *s, size_t item, struct rng *r, const struct batch *at, float *scratch,
                     struct err *e)
{
    size_t n = (size_t)s->o.shape.size * (size_t)s->o.shape.size;
    int frames = s->o.shape.frames, step = 1 + rng_int(r, 3);
    bool real = is_real_clip(s, item) && (s->o.plain || rng_uniform(r) < 0.8),
         reverse = !s->o.in_order && rng_uniform(r) < 0.5;
    struct shot_opts o = s->o.shot;
    struct shot *shot;
    if (real)
        o.composite = o.occluder = 0;
    int rc = shot_new(s->d, item, &o, !real, r, &shot, e);
    if (rc)
        return rc;
    if (real)
        rc = draw_real_clip(s, item, shot, s->o.plain ? 1 : step, reverse, at, scratch, e);
    for (int f = 0; !real && f < frames; f++) {
        double t = frames > 1 ? (double)(reverse ? frames - 1 - f : f) / (frames - 1) : 0;
        shot_draw(shot, t, s->o.shape.size, at->input + (size_t)f * 3 * n, at->target + (size_t)f * n, scratch);
        finish(s, item, f, at, scratch);
    }
    shot_free(shot);
    return rc;
}

static int make_still(struct sampler *s, size_t item, struct rng *r, const struct batch *at, float *scratch,
                      struct err *e)
{
    struct shot *shot;
    struct shot_opts o = s->o.shot;
    bool blurred = o.motion_blur > 0 && rng_uniform(r) < o.motion_blur;
    o.motion_blur = 1;
    int rc = shot_new(s->d, item, &o, blurred, r, &shot, e);
    if (rc)
        return rc;
    shot_draw(shot, 0, s->o.shape.size, at->input, at->target, scratch);
    finish(s, item, 0, at, scratch);
    shot_free(shot);
    return 0;
}

static int make_guided(struct sampler *s, size_t item, struct rng *r, const struct batch *at, float *scratch,
                       struct err *e)
{
    int rc = guided_make(s->guided, s->d, item, &s->o.shot, r, at, e);
    if (!rc) {
        loss_weights(s->o.loss, at->target, s->o.shape.size, at->weight, scratch);
        at->sample_weight[0] = (float)s->d->items[item].weight;
    }
    return rc;
}

int sampler_make(void *sampler, uint64_t index, const struct batch *at, struct err *e)
{
    struct sampler *s = sampler;
    uint64_t epoch = index / s->epoch_samples, k = index % s->epoch_samples;
    size_t item = pick_item(s, epoch, k), side = (size_t)s->o.shape.size;
    float *scratch = malloc(5 * side * side * sizeof(float));
    struct rng r;
    if (!scratch)
        return err_set(e, ERR_NOMEM, "sampler: out of memory");
    rng_seed(&r, mix_seed(mix_seed(s->o.seed, epoch), k));
    int rc = s->o.kind == SAMPLER_STILLS  ? make_still(s, item, &r, at, scratch, e)
             : s->o.kind == SAMPLER_CLIPS ? make_clip(s, item, &r, at, scratch, e)
                                          : make_guided(s, item, &r, at, scratch, e);
    free(scratch);
    return rc;
}

int sampler_make_held_out(struct sampler *s, uint64_t i, const struct batch *at, struct err *e)
{
    size_t item = s->held[i], side = (size_t)s->o.shape.size;
    float *scratch = malloc(5 * side * side * sizeof(float));
    struct sampler plain = *s;
    struct rng r;
    int rc;
    if (!scratch)
        return err_set(e, ERR_NOMEM, "sampler: out of memory");
    rng_seed(&r, mix_seed(UINT64_C(0x68656C64), i)); /* not the run's seed: runs stay comparable */
    plain.o.plain = plain.o.in_order = true;
    if (s->o.kind != SAMPLER_GUIDED) {
        plain.o.shot.crop = false;
        plain.o.shot.composite = plain.o.shot.colour = plain.o.shot.occluder = plain.o.shot.motion_blur =
            plain.o.shot.zoom_out = 0;
    }
    if (s->o.kind == SAMPLER_GUIDED)
        rc = make_guided(&plain, item, &r, at, scratch, e);
    else if (s->o.kind == SAMPLER_CLIPS)
        rc = make_clip(&plain, item, &r, at, scratch, e);
    else
        rc = make_still(&plain, item, &r, at, scratch, e);
    free(scratch);
    return rc;
}
