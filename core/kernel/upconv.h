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

struct upconv; /* packed weights; immutable, so shared by threads */

/* w1 (mid, in, 3, 3), b1 (mid), w2 (mid), b2: row-major. ERR_INVALID unless 1 <= in, mid <= 4096; ERR_NOMEM. */
int upconv_new(int in, int mid, const float *w1, const float *b1, const float *w2, float b2, struct upconv **out,
               struct err *e);
void upconv_free(struct upconv *u); /* NULL is fine */
/* x: small_h x small_w pixels of `in` channels each -> y: large_h x large_w. Threaded (core/base/par.h). ERR_INVALID, ERR_NOMEM. */
int upconv_run(const struct upconv *u, const float *x, int small_w, int small_h, float *y, int large_w, int large_h,
               struct err *e);

#endif
