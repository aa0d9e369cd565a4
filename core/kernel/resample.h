/*
 * Triangle-filter resampling, the arithmetic of Pillow's and torchvision's antialiased bilinear resize: the filter is
 * as wide as one output pixel when shrinking, one input pixel when growing (then it is plain bilinear,
 * align_corners=False). Weights outside the image are dropped and the rest is normalised.
 *
 * The inline bodies are shared with the CUDA kernels.
 */
#ifndef CORE_KERNEL_RESAMPLE_H
#define CORE_KERNEL_RESAMPLE_H

#include <math.h>
#include <stddef.h>

#include "core/base/err.h"

#ifdef __CUDACC__
#define KERNEL_INLINE static inline __host__ __device__
#else
#define KERNEL_INLINE static inline
#endif

/* The run of input pixels under the filter of output pixel `o`. */
struct resample_span {
    int first, count;
    double centre, inv_support; /* in input pixels */
};

KERNEL_INLINE struct resample_span resample_span(int o, int in, int out)
{
    double scale = (double)in / (double)out, support = scale > 1.0 ? scale : 1.0;
    double centre = ((double)o + 0.5) * scale;
    int first = (int)(centre - support + 0.5), end = (int)(centre + support + 0.5);
    struct resample_span s;
    s.first = first > 0 ? first : 0;
    s.count = (end < in ? end : in) - s.first;
    s.centre = centre;
    s.inv_support = 1.0 / support;
    return s;
}

/* Weight, before normalisation, of input pixel s.first + k. */
KERNEL_INLINE double resample_weight(struct resample_span s, int k)
{
    double d = ((double)(s.first + k) + 0.5 - s.centre) * s.inv_support;
    d = 1.0 - (d < 0.0 ? -d : d);
    return d > 0.0 ? d : 0.0;
}

/* Every output pixel's taps along one axis, normalised. Plain memory; free with resample_free. */
struct resample_axis {
    int in, out, taps; /* taps: slots per output pixel, the most any of them has */
    int *first;        /* out */
    int *count;        /* out */
    float *weight;     /* out x taps, zero beyond count */
};

/* One tap of the sum that every resampling is. */
KERNEL_INLINE float resample_tap(float acc, float w, float v)
{
    return acc + w * v;
}

/* Output pixel `o` of a row whose pixels are `step` floats apart. */
KERNEL_INLINE float resample_pixel(const struct resample_axis *a, int o, const float *row, int step)
{
    const float *w = a->weight + (size_t)o * (size_t)a->taps, *p = row + (size_t)a->first[o] * (size_t)step;
    float v = 0;
    for (int k = 0; k < a->count[o]; k++, p += step)
        v = resample_tap(v, w[k], *p);
    return v;
}

/* An axis in one block of memory, for a device: size, filling it, and the axis at its place there. */
#ifdef __cplusplus
extern "C" {
#endif
size_t resample_packed_bytes(const struct resample_axis *a);
void resample_pack(const struct resample_axis *a, void *to);
struct resample_axis resample_packed_at(const struct resample_axis *a, void *packed);

/* ERR_INVALID unless 1 <= in, out <= RESAMPLE_MAX; ERR_NOMEM. */
#define RESAMPLE_MAX 65536
int resample_axis(struct resample_axis *a, int in, int out, struct err *e);
void resample_free(struct resample_axis *a); /* zeroes; fine on a zeroed one */

#ifdef __cplusplus
}
#endif

#endif
