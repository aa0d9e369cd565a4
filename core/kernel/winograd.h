/*
 * winograd: 3x3 convolution of stride 1 by Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016): 36 multiplications where the direct form
 * takes 144. Any size and dilation (a dilated convolution is one over each of dilation^2 interleaved grids), padded so that the size stays.
 * Rounding grows to some 1e-5 of the values' size.
 */
#ifndef CORE_KERNEL_WINOGRAD_H
#define CORE_KERNEL_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WINOGRAD_IN 16  /* input channels come in multiples of this, */
#define WINOGRAD_OUT 32 /* output channels of this */

/* Floats of the transformed weights. */
size_t winograd_packed(int in, int out);
/* w (out, in, 3, 3) -> packed, winograd_packed() floats. */
void winograd_pack(int in, int out, const float *w, float *packed);

struct winograd {
    int in, out;         /* channels */
    const float *packed; /* from winograd_pack */
    const float *bias;   /* out, or NULL */
    int dilation;
    bool relu;
};

/* x: frames x h x w x in -> y: frames x h x w x out, both packed. Threaded (core/base/par.h). ERR_INVALID for channels that are no multiples
 * and for empty sizes; ERR_NOMEM. */
int winograd_run(const struct winograd *u, const float *x, int frames, int w, int h, float *y, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
