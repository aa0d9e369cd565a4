/*
 * frame_in: resize, scale, normalise and split into planes. Each output row first gathers its source rows (contiguous
 * bytes, the part that vectorises), then resamples that one row. Bands of output rows run in parallel; a band needs one
 * row of scratch.
 */
#include "core/kernel/frame_in.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/kernel/simd.h"

int frame_in_init(struct frame_in *f, int channels, int in_w, int in_h, int out_w, int out_h, const float mean[3],
                  const float std[3], struct err *e)
{
    memset(f, 0, sizeof(*f));
    if (channels != 1 && channels != 3)
        return err_set(e, ERR_INVALID, "frames of %d channels", channels);
    f->channels = channels;
    for (int c = 0; c < 3; c++) {
        f->scale[c] = 1.0F / (255.0F * std[c]);
        f->shift[c] = -mean[c] / std[c];
    }
    int rc = resample_axis(&f->x, in_w, out_w, e);
    if (!rc)
        rc = resample_axis(&f->y, in_h, out_h, e);
    if (rc)
        frame_in_fini(f);
    return rc;
}

void frame_in_fini(struct frame_in *f)
{
    resample_free(&f->x);
    resample_free(&f->y);
}

/* acc[i] (+)= w * src[i] */
static SIMD_BODY void gather_row_body(float *restrict acc, const uint8_t *restrict src, float w, int n, int first)
{
    if (first)
        for (int i = 0; i < n; i++)
            acc[i] = w * (float)src[i];
    else
        for (int i = 0; i < n; i++)
            acc[i] += w * (float)src[i];
}
SIMD_KERNEL(gather_row, (float *acc, const uint8_t *src, float w, int n, int first), (acc, src, w, n, first))

static void resample_rgb(const struct frame_in *f, const float *row, float *dst, size_t plane)
{
    for (int o = 0; o < f->x.out; o++) {
        const float *w = f->x.weight + (size_t)o * (size_t)f->x.taps, *p = row + 3 * (size_t)f->x.first[o];
        float r = 0, g = 0, b = 0;
        for (int k = 0; k < f->x.count[o]; k++, p += 3) {
            r += w[k] * p[0];
            g += w[k] * p[1];
            b += w[k] * p[2];
        }
        dst[o] = frame_in_value(r, f->scale[0], f->shift[0]);
        dst[plane + (size_t)o] = frame_in_value(g, f->scale[1], f->shift[1]);
        dst[2 * plane + (size_t)o] = frame_in_value(b, f->scale[2], f->shift[2]);
    }
}

static void resample_grey(const struct frame_in *f, const float *row, float *dst, size_t plane)
{
    for (int o = 0; o < f->x.out; o++) {
        const float *w = f->x.weight + (size_t)o * (size_t)f->x.taps, *p = row + f->x.first[o];
        float v = 0;
        for (int k = 0; k < f->x.count[o]; k++)
            v += w[k] * p[k];
        for (size_t c = 0; c < 3; c++)
            dst[c * plane + (size_t)o] = frame_in_value(v, f->scale[c], f->shift[c]);
    }
}

struct job {
    const struct frame_in *f;
    const uint8_t *src;
    ptrdiff_t stride;
    float *dst, *scratch; /* scratch: a row of in_w * channels floats per band */
    int bands;
};

static void band(void *arg, int i)
{
    const struct job *j = arg;
    const struct frame_in *f = j->f;
    int n = f->x.in * f->channels;
    float *row = j->scratch + (size_t)i * (size_t)n;
    size_t plane = (size_t)f->x.out * (size_t)f->y.out;
    int begin = (int)((int64_t)f->y.out * i / j->bands), end = (int)((int64_t)f->y.out * (i + 1) / j->bands);
    for (int o = begin; o < end; o++) {
        const float *w = f->y.weight + (size_t)o * (size_t)f->y.taps;
        for (int k = 0; k < f->y.count[o]; k++)
            gather_row(row, j->src + (ptrdiff_t)(f->y.first[o] + k) * j->stride, w[k], n, k == 0);
        float *dst = j->dst + (size_t)o * (size_t)f->x.out;
        if (f->channels == 3)
            resample_rgb(f, row, dst, plane);
        else
            resample_grey(f, row, dst, plane);
    }
}

int frame_in_run(const struct frame_in *f, const uint8_t *src, ptrdiff_t stride, float *dst, struct err *e)
{
    int bands = 2 * par_threads();
    if (bands > f->y.out)
        bands = f->y.out;
    struct job j = {.f = f, .src = src, .stride = stride, .dst = dst, .bands = bands};
    j.scratch = malloc((size_t)bands * (size_t)f->x.in * (size_t)f->channels * sizeof(float));
    if (!j.scratch)
        return err_set(e, ERR_NOMEM, "resizing a frame of %d x %d", f->x.in, f->y.in);
    par_for(bands, band, &j);
    free(j.scratch);
    return 0;
}
