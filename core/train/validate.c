/* Validation: forward passes without gradients, maps quantised to 8 bits as `detect` writes them, metrics of
 * core/metric. */
#include "core/train/validate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/metric/metric.h"

struct totals {
    struct metric_scratch *scratch;
    struct metric_frame frame;
    double s, mae, f[METRIC_THRESHOLDS];
    uint64_t n, n_s;
    uint8_t *pred, *truth;
};

static int measure(struct totals *t, const float *logit, const float *target, int size, struct err *e)
{
    size_t n = (size_t)size * (size_t)size;
    for (size_t i = 0; i < n; i++) {
        t->pred[i] = (uint8_t)lrintf(255 / (1 + expf(-logit[i])));
        t->truth[i] = target[i] >= 0.5F ? 255 : 0;
    }
    struct metric_image p = {t->pred, size, size, size}, g = {t->truth, size, size, size};
    int rc = metric_frame(t->scratch, &p, &g, &metric_opts_default, &t->frame, e);
    if (rc)
        return rc;
    t->mae += t->frame.mae;
    if (!isnan(t->frame.s_measure)) {
        t->s += t->frame.s_measure;
        t->n_s++;
    }
    for (int i = 0; i < METRIC_THRESHOLDS; i++)
        t->f[i] += t->frame.f[i];
    t->n++;
    return 0;
}

/* One clip (or still) through the network; logits come back in `logits`. */
static int forward(const struct net_arch *a, const struct weights *w, const struct batch_shape *b, bool video,
                   struct tensor_device dev, const float *input, float *logits, struct err *e)
{
    struct scope *s = scope_new(NULL, dev);
    if (!s)
        return err_set(e, ERR_NOMEM, "validation: out of memory");
    int64_t shape[4] = {b->frames, b->channels, b->size, b->size};
    struct tensor *x = tensor_channels_last(s, tensor_from(s, input, TENSOR_F32, 4, shape));
    struct net_mode mode = {.bn = NET_BN_FROZEN, .clip = b->frames};
    struct tensor *y = video ? net_video(a, w, s, x, mode) : net_image(a, w, s, x, mode);
    tensor_read_f32(s, y, logits, (int64_t)b->frames * b->size * b->size);
    int rc = scope_status(s, e);
    scope_free(s);
    return rc;
}

static int run(const struct net_arch *a, const struct weights *w, struct sampler *sampler, const struct batch_shape *b,
               uint64_t limit, bool video, struct tensor_device dev, struct totals *t, struct err *e)
{
    size_t frames = (size_t)b->frames, n = (size_t)b->size * (size_t)b->size;
    float *mem = malloc(frames * (n * ((size_t)b->channels + 3) + 1) * sizeof(float));
    int rc = 0;
    if (!mem)
        return err_set(e, ERR_NOMEM, "validation: out of memory");
    struct batch at = {.input = mem};
    at.target = at.input + frames * (size_t)b->channels * n;
    at.weight = at.target + frames * n;
    float *logits = at.weight + frames * n;
    at.sample_weight = logits + frames * n;
    uint64_t all = sampler_held_out(sampler), count = all < limit ? all : limit;
    for (uint64_t i = 0; !rc && i < count; i++) {
        rc = sampler_make_held_out(sampler, i * all / count, &at, e);
        if (!rc)
            rc = forward(a, w, b, video, dev, at.input, logits, e);
        for (size_t f = 0; !rc && f < frames; f++)
            rc = measure(t, logits + f * n, at.target + f * n, b->size, e);
    }
    free(mem);
    return rc;
}

int validate(const struct net_arch *a, const struct weights *w, struct sampler *s, struct batch_shape shape,
             uint64_t limit, bool video, struct tensor_device dev, struct validation *out, struct err *e)
{
    size_t n = (size_t)shape.size * (size_t)shape.size;
    struct totals *t = calloc(1, sizeof(*t));
    int rc = 0;
    *out = (struct validation){0};
    if (t) {
        t->scratch = metric_scratch_new();
        t->pred = malloc(n);
        t->truth = malloc(n);
    }
    if (!t || !t->scratch || !t->pred || !t->truth)
        rc = err_set(e, ERR_NOMEM, "validation: out of memory");
    if (!rc)
        rc = run(a, w, s, &shape, limit, video, dev, t, e);
    if (!rc && t->n) {
        *out = (struct validation){
            .s_measure = t->n_s ? t->s / (double)t->n_s : 0, .mae = t->mae / (double)t->n, .n = t->n};
        for (int i = 0; i < METRIC_THRESHOLDS; i++)
            out->max_f = fmax(out->max_f, t->f[i] / (double)t->n);
    }
    if (t) {
        metric_scratch_free(t->scratch);
        free(t->pred);
        free(t->truth);
    }
    free(t);
    return rc;
}
