/* From the pixels of a frame to the network's input, in one pass: resize, scale to [0,1], normalise, split into planes.
 */
#ifndef CORE_KERNEL_FRAME_IN_H
#define CORE_KERNEL_FRAME_IN_H

#include <stddef.h>
#include <stdint.h>

#include "core/kernel/resample.h"

struct frame_in {
    struct resample_axis x, y;
    int channels;             /* of the source: 3 (RGB), or 1 whose value goes to all three planes */
    float scale[3], shift[3]; /* plane = byte * scale + shift */
};

/* (byte / 255 - mean) / std */
KERNEL_INLINE float frame_in_value(float byte, float scale, float shift)
{
    return byte * scale + shift;
}

/* in_w x in_h pixels of 1 or 3 bytes -> 3 planes of out_w x out_h floats. ERR_INVALID, ERR_NOMEM. */
int frame_in_init(struct frame_in *f, int channels, int in_w, int in_h, int out_w, int out_h, const float mean[3],
                  const float std[3], struct err *e);
void frame_in_fini(struct frame_in *f); /* fine on a zeroed one */
/* Threaded (core/base/par.h). src: rows `stride` bytes apart; dst: three planes of out_w * out_h floats. ERR_NOMEM. */
int frame_in_run(const struct frame_in *f, const uint8_t *src, ptrdiff_t stride, float *dst, struct err *e);

#endif
