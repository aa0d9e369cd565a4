/* resample: the taps of one axis, computed once per size. */
#include "core/kernel/resample.h"

#include <stdlib.h>
#include <string.h>

static int max_taps(int in, int out)
{
    int most = 1;
    for (int o = 0; o < out; o++) {
        int n = resample_span(o, in, out).count;
        most = n > most ? n : most;
    }
    return most;
}

static void fill(struct resample_axis *a, int o)
{
    struct resample_span s = resample_span(o, a->in, a->out);
    float *w = a->weight + (size_t)o * (size_t)a->taps;
    double sum = 0;
    for (int k = 0; k < s.count; k++)
        sum += resample_weight(s, k);
    for (int k = 0; k < s.count; k++)
        w[k] = (float)(resample_weight(s, k) / sum);
    a->first[o] = s.first;
    a->count[o] = s.count;
}

int resample_axis(struct resample_axis *a, int in, int out, struct err *e)
{
    memset(a, 0, sizeof(*a));
    if (in < 1 || out < 1 || in > RESAMPLE_MAX || out > RESAMPLE_MAX)
        return err_set(e, ERR_INVALID, "cannot resize %d pixels to %d", in, out);
    a->in = in;
    a->out = out;
    a->taps = max_taps(in, out);
    a->first = malloc((size_t)out * sizeof(*a->first));
    a->count = malloc((size_t)out * sizeof(*a->count));
    a->weight = calloc((size_t)out * (size_t)a->taps, sizeof(*a->weight));
    if (!a->first || !a->count || !a->weight) {
        resample_free(a);
        return err_set(e, ERR_NOMEM, "resize taps for %d to %d pixels", in, out);
    }
    for (int o = 0; o < out; o++)
        fill(a, o);
    return 0;
}

size_t resample_packed_bytes(const struct resample_axis *a)
{
    return (size_t)a->out * (2 * sizeof(int) + (size_t)a->taps * sizeof(float));
}

struct resample_axis resample_packed_at(const struct resample_axis *a, void *packed)
{
    struct resample_axis at = *a;
    at.first = packed;
    at.count = at.first + a->out;
    at.weight = (float *)(void *)(at.count + a->out);
    return at;
}

void resample_pack(const struct resample_axis *a, void *to)
{
    struct resample_axis at = resample_packed_at(a, to);
    memcpy(at.first, a->first, (size_t)a->out * sizeof(*at.first));
    memcpy(at.count, a->count, (size_t)a->out * sizeof(*at.count));
    memcpy(at.weight, a->weight, (size_t)a->out * (size_t)a->taps * sizeof(*at.weight));
}

void resample_free(struct resample_axis *a)
{
    free(a->first);
    free(a->count);
    free(a->weight);
    memset(a, 0, sizeof(*a));
}
