/* From logits to the map of a frame, in one pass: sigmoid, resize to the frame's size, 8 bits. */
#ifndef CORE_KERNEL_MAP_OUT_H
#define CORE_KERNEL_MAP_OUT_H

#include <stddef.h>
#include <stdint.h>

#include "core/kernel/resample.h"

struct map_out {
    struct resample_axis x, y;
};

/* 1 / (1 + exp(-x)); exact at the ends, NaN gives 0 so that a map never holds noise. */
KERNEL_INLINE float map_out_sigmoid(float x)
{
    return x != x ? 0.0F : 1.0F / (1.0F + expf(-x));
}

/* p in [0,1] to the nearest of 0..255 */
KERNEL_INLINE unsigned char map_out_byte(float p)
{
    float v = p * 255.0F + 0.5F;
    return (unsigned char)(v <= 0.0F ? 0.0F : v >= 255.0F ? 255.0F : v);
}

/* First half: mixed[o][x] is the mix of the saliency rows under output row o. */
struct map_out_columns {
    struct resample_axis y;
    int width;
    const float *logits; /* y.in x width */
    float *mixed;        /* y.out x width */
};

KERNEL_INLINE void map_out_columns_at(const struct map_out_columns *k, int x, int o)
{
    const float *w = k->y.weight + (size_t)o * (size_t)k->y.taps;
    const float *p = k->logits + (size_t)k->y.first[o] * (size_t)k->width + (size_t)x;
    float v = 0;
    for (int t = 0; t < k->y.count[o]; t++, p += k->width)
        v = resample_tap(v, w[t], map_out_sigmoid(*p));
    k->mixed[(size_t)o * (size_t)k->width + (size_t)x] = v;
}

/* Second half: output pixel o of one mixed row. */
KERNEL_INLINE uint8_t map_out_pixel(const struct resample_axis *x, int o, const float *row)
{
    return map_out_byte(resample_pixel(x, o, row, 1));
}

#ifdef __cplusplus
extern "C" {
#endif

int map_out_init(struct map_out *m, int in_w, int in_h, int out_w, int out_h, struct err *e);
void map_out_fini(struct map_out *m); /* fine on a zeroed one */
/* Threaded. logits: in_h x in_w floats; dst: rows `stride` bytes apart. ERR_NOMEM. */
int map_out_run(const struct map_out *m, const float *logits, uint8_t *dst, ptrdiff_t stride, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
