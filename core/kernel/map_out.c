/*
 * map_out: sigmoid, resize to the frame's size, 8 bits. The sigmoid runs on the small side; each output row then mixes
 * small rows, resamples the mix and rounds it. Bands of output rows run in parallel.
 */
#include "core/kernel/map_out.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/kernel/simd.h"

int map_out_init(struct map_out *m, int in_w, int in_h, int out_w, int out_h, struct err *e)
{
    memset(m, 0, sizeof(*m));
    int rc = resample_axis(&m->x, in_w, out_w, e);
    if (!rc)
        rc = resample_axis(&m->y, in_h, out_h, e);
    if (rc)
        map_out_fini(m);
    return rc;
}

void map_out_fini(struct map_out *m)
{
    resample_free(&m->x);
    resample_free(&m->y);
}

static SIMD_BODY void mix_row_body(float *restrict acc, const float *restrict src, float w, int n, int first)
{
    if (first)
        for (int i = 0; i < n; i++)
            acc[i] = resample_tap(0, w, src[i]);
    else
        for (int i = 0; i < n; i++)
            acc[i] = resample_tap(acc[i], w, src[i]);
}
SIMD_KERNEL(mix_row, (float *acc, const float *src, float w, int n, int first), (acc, src, w, n, first))

struct job {
    const struct map_out *m;
    const float *logits;
    float *p, *scratch; /* p: the sigmoid of logits; scratch: a row of in_w floats per band */
    uint8_t *dst;
    ptrdiff_t stride;
    int bands;
};

static void squash(void *arg, int row)
{
    const struct job *j = arg;
    size_t w = (size_t)j->m->x.in, at = (size_t)row * w;
    for (size_t i = 0; i < w; i++)
        j->p[at + i] = map_out_sigmoid(j->logits[at + i]);
}

static void band(void *arg, int n)
{
    const struct job *j = arg;
    const struct resample_axis *x = &j->m->x, *y = &j->m->y;
    float *row = j->scratch + (size_t)n * (size_t)x->in;
    int begin = (int)((int64_t)y->out * n / j->bands), end = (int)((int64_t)y->out * (n + 1) / j->bands);
    for (int o = begin; o < end; o++) {
        const float *w = y->weight + (size_t)o * (size_t)y->taps;
        for (int k = 0; k < y->count[o]; k++)
            mix_row(row, j->p + (size_t)(y->first[o] + k) * (size_t)x->in, w[k], x->in, k == 0);
        uint8_t *dst = j->dst + (ptrdiff_t)o * j->stride;
        for (int i = 0; i < x->out; i++)
            dst[i] = map_out_pixel(x, i, row);
    }
}

int map_out_run(const struct map_out *m, const float *logits, uint8_t *dst, ptrdiff_t stride, struct err *e)
{
    int bands = 2 * par_threads();
    if (bands > m->y.out)
        bands = m->y.out;
    size_t w = (size_t)m->x.in, h = (size_t)m->y.in;
    float *memory = malloc((w * h + (size_t)bands * w) * sizeof(float));
    if (!memory)
        return err_set(e, ERR_NOMEM, "a map of %d x %d", m->x.out, m->y.out);
    struct job j = {m, logits, memory, memory + w * h, dst, stride, bands};
    par_for(m->y.in, squash, &j);
    par_for(bands, band, &j);
    free(memory);
    return 0;
}
