/*
 * From the pixels of a frame to the network's input, in one pass: colour conversion, resize, scale to [0,1], normalise, split into planes.
 *
 * The `_at` functions are what one CUDA thread does; the C loop is made of the same bodies.
 */
#ifndef CORE_KERNEL_FRAME_IN_H
#define CORE_KERNEL_FRAME_IN_H

#include <stdint.h>

#include "core/kernel/resample.h"

enum frame_in_format {
    FRAME_IN_GREY = 1, /* a byte a pixel, which goes to all three planes */
    FRAME_IN_RGB = 3,  /* three bytes a pixel */
    FRAME_IN_NV12 =
        12, /* a plane of luma, then one of interleaved chroma at half the size (rounded up), both with one stride */
};

struct frame_in {
    struct resample_axis x, y;
    enum frame_in_format format;
    float scale[3], shift[3]; /* plane = byte * scale + shift */
};

KERNEL_INLINE int frame_in_channels(enum frame_in_format f)
{
    return f == FRAME_IN_GREY ? 1 : 3;
}

/* (byte / 255 - mean) / std */
KERNEL_INLINE float frame_in_value(float byte, float scale, float shift)
{
    return byte * scale + shift;
}

/* v to the nearest of 0..255 */
KERNEL_INLINE uint8_t frame_in_byte(float v)
{
    v += 0.5F;
    return (uint8_t)(v <= 0.0F ? 0.0F : v >= 255.0F ? 255.0F : v);
}

/* ITU-R BT.601, limited range, to RGB bytes. */
KERNEL_INLINE void frame_in_yuv(uint8_t luma, uint8_t cb, uint8_t cr, uint8_t rgb[3])
{
    float y = 1.1643836F * ((float)luma - 16.0F), u = (float)cb - 128.0F, v = (float)cr - 128.0F;
    rgb[0] = frame_in_byte(y + 1.5960268F * v);
    rgb[1] = frame_in_byte(y - 0.3917623F * u - 0.8129676F * v);
    rgb[2] = frame_in_byte(y + 2.0172321F * u);
}

/* The RGB bytes of pixel (x, y) of an NV12 image of `height` rows; a chroma value covers two by two pixels. */
KERNEL_INLINE void frame_in_nv12(const uint8_t *src, ptrdiff_t stride, int height, int x, int y, uint8_t rgb[3])
{
    const uint8_t *chroma = src + (ptrdiff_t)(height + y / 2) * stride + (ptrdiff_t)(x / 2) * 2;
    frame_in_yuv(src[(ptrdiff_t)y * stride + x], chroma[0], chroma[1], rgb);
}

/* First half: columns. rows[o][i] is the mix of the source rows under output row o, for value i of the row. */
struct frame_in_columns {
    struct resample_axis y;
    enum frame_in_format format;
    const uint8_t *src;
    ptrdiff_t stride;
    int width;   /* values of a row: pixels times channels */
    float *rows; /* y.out x width */
};

KERNEL_INLINE float frame_in_source(const struct frame_in_columns *k, int i, int y)
{
    uint8_t rgb[3];
    if (k->format != FRAME_IN_NV12)
        return (float)k->src[(ptrdiff_t)y * k->stride + i];
    frame_in_nv12(k->src, k->stride, k->y.in, i / 3, y, rgb);
    return (float)rgb[i % 3];
}

KERNEL_INLINE void frame_in_columns_at(const struct frame_in_columns *k, int i, int o)
{
    const float *w = k->y.weight + (size_t)o * (size_t)k->y.taps;
    float v = 0;
    for (int t = 0; t < k->y.count[o]; t++)
        v = resample_tap(v, w[t], frame_in_source(k, i, k->y.first[o] + t));
    k->rows[(size_t)o * (size_t)k->width + (size_t)i] = v;
}

/* Second half: output pixel o of one mixed row of `ch` channels, into three planes. */
KERNEL_INLINE void frame_in_pixel(const struct frame_in *f, int ch, int o, const float *row, float *dst, size_t plane)
{
    const float *w = f->x.weight + (size_t)o * (size_t)f->x.taps, *p = row + (size_t)ch * (size_t)f->x.first[o];
    float v[3] = {0, 0, 0};
    for (int k = 0; k < f->x.count[o]; k++, p += ch)
        for (int c = 0; c < ch; c++)
            v[c] = resample_tap(v[c], w[k], p[c]);
    for (int c = 0; c < 3; c++)
        dst[(size_t)c * plane + (size_t)o] = frame_in_value(v[ch == 3 ? c : 0], f->scale[c], f->shift[c]);
}

#ifdef __cplusplus
extern "C" {
#endif

/* in_w x in_h pixels -> 3 planes of out_w x out_h floats. ERR_INVALID, ERR_NOMEM. */
int frame_in_init(struct frame_in *f, enum frame_in_format format, int in_w, int in_h, int out_w, int out_h,
                  const float mean[3], const float std[3], struct err *e);
void frame_in_fini(struct frame_in *f); /* fine on a zeroed one */
/* Rows of source bytes that frame_in_run reads, and bytes of one of them. */
int frame_in_rows(const struct frame_in *f);
int frame_in_row_bytes(const struct frame_in *f);
/* Threaded (core/base/par.h). src: rows `stride` bytes apart; dst: three planes of out_w * out_h floats. ERR_NOMEM. */
int frame_in_run(const struct frame_in *f, const uint8_t *src, ptrdiff_t stride, float *dst, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
