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

int map_out_init(struct map_out *m, int in_w, int in_h, int out_w, int out_h, struct err *e);
void map_out_fini(struct map_out *m); /* fine on a zeroed one */
/* Threaded. logits: in_h x in_w floats; dst: rows `stride` bytes apart. ERR_NOMEM. */
int map_out_run(const struct map_out *m, const float *logits, uint8_t *dst, ptrdiff_t stride, struct err *e);

#endif
