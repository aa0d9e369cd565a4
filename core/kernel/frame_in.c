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

int frame_in_init(struct frame_in *f, enum frame_in_format format, int in_w, int in_h, int out_w, int out_h,
                  const float mean[3], const float std[3], struct err *e)
{
    memset(f, 0, sizeof(*f));
    if (format != FRAME_IN_GREY && format != FRAME_IN_RGB && format != FRAME_IN_NV12)
        return err_set(e, ERR_INVALID, "frames of format %d", (int)format);
    f->format = format;
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

int frame_in_rows(const struct frame_in *f)
{
    return f->format == FRAME_IN_NV12 ? f->y.in + (f->y.in + 1) / 2 : f->y.in;
}

int frame_in_row_bytes(const struct frame_in *f)
{
    return f->format == FRAME_IN_NV12 ? (f->x.in + 1) / 2 * 2 : f->x.in * frame_in_channels(f->format);
}

/* acc[i] (+)= w * src[i] */
static SIMD_BODY void gather_row_body(float *restrict acc, const uint8_t *restrict src, float w, int n, int first)
{
    if (first)
        for (int i = 0; i < n; i++)
            acc[i] = resample_tap(0, w, (float)src[i]);
    else
        for (int i = 0; i < n; i++)
            acc[i] = resample_tap(acc[i], w, (float)src[i]);
}
SIMD_KERNEL(gather_row, (float *acc, const uint8_t *src, float w, int n, int first), (acc, src, w, n, first))

struct job {
    const struct frame_in *f;
    const uint8_t *src;
    ptrdiff_t stride;
    float *dst, *scratch; /* scratch: per band a row of floats, then a row of converted bytes */
    size_t band_floats;
    int bands;
};

/* Source row y as interleaved bytes: in place, or converted into `bytes`. */
static const uint8_t *source_row(const struct job *j, int y, uint8_t *bytes)
{
    if (j->f->format != FRAME_IN_NV12)
        return j->src + (ptrdiff_t)y * j->stride;
    for (int x = 0; x < j->f->x.in; x++)
        frame_in_nv12(j->src, j->stride, j->f->y.in, x, y, bytes + 3 * (size_t)x);
    return bytes;
}

static void band(void *arg, int i)
{
    const struct job *j = arg;
    const struct frame_in *f = j->f;
    int n = f->x.in * frame_in_channels(f->format);
    float *row = j->scratch + (size_t)i * j->band_floats;
    uint8_t *bytes = (uint8_t *)(row + n);
    size_t plane = (size_t)f->x.out * (size_t)f->y.out;
    int begin = (int)((int64_t)f->y.out * i / j->bands), end = (int)((int64_t)f->y.out * (i + 1) / j->bands);
    for (int y = begin; y < end; y++) {
        const float *w = f->y.weight + (size_t)y * (size_t)f->y.taps;
        float *dst = j->dst + (size_t)y * (size_t)f->x.out;
        for (int k = 0; k < f->y.count[y]; k++)
            gather_row(row, source_row(j, f->y.first[y] + k, bytes), w[k], n, k == 0);
        if (f->format == FRAME_IN_GREY)
            for (int o = 0; o < f->x.out; o++)
                frame_in_pixel(f, 1, o, row, dst, plane);
        else
            for (int o = 0; o < f->x.out; o++)
                frame_in_pixel(f, 3, o, row, dst, plane);
    }
}

int frame_in_run(const struct frame_in *f, const uint8_t *src, ptrdiff_t stride, float *dst, struct err *e)
{
    int bands = 2 * par_threads();
    if (bands > f->y.out)
        bands = f->y.out;
    struct job j = {.f = f, .src = src, .stride = stride, .dst = dst, .bands = bands};
    j.band_floats = 2 * (size_t)f->x.in * (size_t)frame_in_channels(f->format);
    j.scratch = malloc((size_t)bands * j.band_floats * sizeof(float));
    if (!j.scratch)
        return err_set(e, ERR_NOMEM, "resizing a frame of %d x %d", f->x.in, f->y.in);
    par_for(bands, band, &j);
    free(j.scratch);
    return 0;
}
