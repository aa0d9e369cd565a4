/*
 * Launchers of the CUDA kernels: bounds, grids and streams around the inline bodies of the headers beside this one. Every pointer is device
 * memory unless said otherwise; everything runs on `stream` (a cudaStream_t), in order, without waiting. Nothing calls them
 * yet: `make check-cuda` compiles them, and tests/unit/kernel/test_bodies.c runs their bodies as the threads would.
 *
 * ERR_NOMEM, ERR_DEVICE_LOST for a fault after which the process must not use the device again, ERR_INTERNAL for a launch that was refused.
 */
#ifndef CORE_KERNEL_GPU_H
#define CORE_KERNEL_GPU_H

#include "core/kernel/frame_in.h"
#include "core/kernel/hist.h"
#include "core/kernel/map_out.h"
#include "core/kernel/upconv.h"
#include "core/kernel/warp.h"

#ifdef __cplusplus
extern "C" {
#endif

/* f's axes hold device tables (resample_packed_at). rows: scratch of f->y.out x f->x.in x channels floats; dst: three planes. */
int gpu_frame_in(const struct frame_in *f, const uint8_t *src, ptrdiff_t stride, float *rows, float *dst, void *stream,
                 struct err *e);
/* m's axes hold device tables. mixed: scratch of m->y.out x m->x.in floats; dst: packed rows of m->x.out bytes. */
int gpu_map_out(const struct map_out *m, const float *logits, float *mixed, uint8_t *dst, void *stream, struct err *e);
/* b->mixed has room for `band` rows; b->first and b->rows are set here. */
int gpu_upconv(const struct upconv_band *b, int band, void *stream, struct err *e);
/* See struct warp_field. */
int gpu_warp_field(const struct warp_field *f, void *stream, struct err *e);
/* counts: HIST_BINS, zeroed here. */
int gpu_hist(const struct hist_frame *f, uint32_t *counts, void *stream, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
