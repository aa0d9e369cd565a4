/*
 * upconv: bilinear upsampling, 3x3 convolution, bias, ReLU and a 1x1 convolution to one channel, factored.
 *
 * Upsampling and convolution are both linear and commute: conv3x3(up(x)) is the sum over the nine taps k of the upsampled product W_k x,
 * shifted by k, with zeros outside the large image. So the products with W_k run at the small size, and no plane of the large size exists
 * but the result. Exact up to rounding for any pair of sizes.
 */
#ifndef CORE_KERNEL_UPCONV_H
#define CORE_KERNEL_UPCONV_H

#include "core/base/err.h"
#include "core/kernel/resample.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

/* Where output position `o` of a bilinear resize (align_corners=False) reads: between input `lo` and `hi`, `f` of the way. */
struct upconv_source {
    int lo, hi;
    float f;
};

KERNEL_INLINE struct upconv_source upconv_source(int o, int in, int out)
{
    float at = ((float)o + 0.5F) * ((float)in / (float)out) - 0.5F;
    struct upconv_source s;
    at = at > 0.0F ? at : 0.0F;
    s.lo = (int)at < in - 1 ? (int)at : in - 1;
    s.hi = s.lo < in - 1 ? s.lo + 1 : s.lo;
    s.f = at - (float)s.lo;
    return s;
}

/* ---- what a CUDA thread does: one middle channel, products already made by a matrix product ---------------------- */

#define BODY(name) upconv_one_##name
#define BODY_REAL float
#define BODY_TARGET KERNEL_INLINE
#include "core/kernel/upconv_body.h"
#undef BODY
#undef BODY_REAL
#undef BODY_TARGET

#define UPCONV_TAPS 9

/* A band of large rows [first, first + rows). */
struct upconv_band {
    int small_w, small_h, large_w, large_h, mid;
    const void *products; /* small_h x small_w x UPCONV_TAPS x mid, tap = 3 * ky + kx: float, or __half on a device */
    int half;             /* the latter */
    int first, rows;
    const struct upconv_source *col; /* large_w */
    const float *bias, *last;        /* mid each */
    float last_bias;
    float *mixed; /* rows x 3 x small_w x mid */
    float *y;     /* large_h x large_w */
};

/* Where the product of tap (ky, kx), middle channel m, at small pixel (row, x) stands. */
KERNEL_INLINE size_t upconv_product_at(const struct upconv_band *b, int row, int x, int ky, int kx, int m)
{
    size_t pixel = (size_t)row * (size_t)b->small_w + (size_t)x;
    return (pixel * UPCONV_TAPS + (size_t)(3 * ky + kx)) * (size_t)b->mid + (size_t)m;
}

KERNEL_INLINE float upconv_product(const struct upconv_band *b, size_t i)
{
#ifdef __CUDACC__
    if (b->half)
        return __half2float(((const __half *)b->products)[i]);
#endif
    return ((const float *)b->products)[i];
}

/* Vertical half of row `r` of the band, horizontal tap kx, small column x, channel m. */
KERNEL_INLINE void upconv_vertical_at(const struct upconv_band *b, int r, int kx, int x, int m)
{
    float v = 0;
    for (int ky = 0; ky < 3; ky++) {
        int at = b->first + r + ky - 1;
        if (at < 0 || at >= b->large_h)
            continue;
        struct upconv_source s = upconv_source(at, b->small_h, b->large_h);
        v += upconv_one_blend(upconv_product(b, upconv_product_at(b, s.lo, x, ky, kx, m)),
                              upconv_product(b, upconv_product_at(b, s.hi, x, ky, kx, m)), s.f);
    }
    size_t row = (size_t)r * 3 + (size_t)kx;
    b->mixed[(row * (size_t)b->small_w + (size_t)x) * (size_t)b->mid + (size_t)m] = v;
}

/* Channel m's share of the logit at column x of row r. */
KERNEL_INLINE float upconv_share(const struct upconv_band *b, int r, int x, int m)
{
    size_t plane = (size_t)b->small_w * (size_t)b->mid;
    const float *rows = b->mixed + (size_t)r * 3 * plane + (size_t)m;
    float v = upconv_one_across(rows, plane, (size_t)b->mid, b->col, x, b->large_w, b->bias[m]);
    return v > 0.0F ? v * b->last[m] : 0.0F;
}

#ifdef __cplusplus
extern "C" {
#endif

struct upconv; /* packed weights; immutable, so shared by threads */

/* w1 (mid, in, 3, 3), b1 (mid), w2 (mid), b2: row-major. ERR_INVALID unless 1 <= in, mid <= 4096; ERR_NOMEM. */
int upconv_new(int in, int mid, const float *w1, const float *b1, const float *w2, float b2, struct upconv **out,
               struct err *e);
void upconv_free(struct upconv *u); /* NULL is fine */
/* x: small_h x small_w pixels of `in` channels each -> y: large_h x large_w. Threaded (core/base/par.h). ERR_INVALID, ERR_NOMEM. */
int upconv_run(const struct upconv *u, const float *x, int small_w, int small_h, float *y, int large_w, int large_h,
               struct err *e);

#ifdef __cplusplus
}
#endif
#endif
