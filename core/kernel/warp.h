/*
 * Per-pixel bodies of flow arithmetic, shared by the C loops of core/flow and by CUDA kernels. Planes are row-major
 * floats of width w and height h. Any coordinate is legal: outside ones clamp to the border, and NaN reads column or
 * row 0.
 */
#ifndef CORE_KERNEL_WARP_H
#define CORE_KERNEL_WARP_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define WARP_FN static inline __host__ __device__
#else
#define WARP_FN static inline
#endif

/* The four neighbours of a point and the weights of the right and lower ones. */
struct warp_tap {
    size_t i00, i01, i10, i11;
    float fx, fy;
};

/* Comparisons are written so that NaN gives lo. */
WARP_FN float warp_clamp(float x, float lo, float hi)
{
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

WARP_FN struct warp_tap warp_tap(float x, float y, int w, int h)
{
    x = warp_clamp(x, 0.0f, (float)(w - 1));
    y = warp_clamp(y, 0.0f, (float)(h - 1));
    int x0 = (int)x, y0 = (int)y;
    int x1 = x0 + (x0 + 1 < w), y1 = y0 + (y0 + 1 < h);
    struct warp_tap t;
    t.i00 = (size_t)y0 * (size_t)w + (size_t)x0;
    t.i01 = (size_t)y0 * (size_t)w + (size_t)x1;
    t.i10 = (size_t)y1 * (size_t)w + (size_t)x0;
    t.i11 = (size_t)y1 * (size_t)w + (size_t)x1;
    t.fx = x - (float)x0;
    t.fy = y - (float)y0;
    return t;
}

WARP_FN float warp_read(const float *p, struct warp_tap t)
{
    float top = p[t.i00] + t.fx * (p[t.i01] - p[t.i00]);
    float bottom = p[t.i10] + t.fx * (p[t.i11] - p[t.i10]);
    return top + t.fy * (bottom - top);
}

/* Bilinear, border-clamped. */
WARP_FN float warp_sample(const float *p, float x, float y, int w, int h)
{
    return warp_read(p, warp_tap(x, y, w, h));
}

/* Share of label `id` among the four neighbours, by their bilinear weights: a bilinear sample of the mask "is id". */
WARP_FN float warp_read_share(const uint8_t *labels, struct warp_tap t, uint8_t id)
{
    float a = (float)(labels[t.i00] == id), b = (float)(labels[t.i01] == id);
    float c = (float)(labels[t.i10] == id), d = (float)(labels[t.i11] == id);
    float top = a + t.fx * (b - a), bottom = c + t.fx * (d - c);
    return top + t.fy * (bottom - top);
}

/* Nearest neighbour, border-clamped; halves round up. */
WARP_FN uint8_t warp_sample_nearest(const uint8_t *p, float x, float y, int w, int h)
{
    int xi = (int)(warp_clamp(x, 0.0f, (float)(w - 1)) + 0.5f), yi = (int)(warp_clamp(y, 0.0f, (float)(h - 1)) + 0.5f);
    return p[(size_t)yi * (size_t)w + (size_t)xi];
}

/* 1 when the point lies on the picture (half a pixel of margin, the pixels' own extent). NaN is outside. */
WARP_FN int warp_inside(float x, float y, int w, int h)
{
    return x >= -0.5f && y >= -0.5f && x <= (float)w - 0.5f && y <= (float)h - 0.5f;
}

/* |d|^2 where d is the gap left after following (dx, dy) and then (bx, by) back. */
WARP_FN float warp_gap2(float dx, float dy, float bx, float by)
{
    float gx = dx + bx, gy = dy + by;
    return gx * gx + gy * gy;
}

/* Length of that gap. */
WARP_FN float warp_gap(float dx, float dy, float bx, float by)
{
    return sqrtf(warp_gap2(dx, dy, bx, by));
}

/* Length of a displacement in shares of the picture's sides: kx = 1 / w, ky = 1 / h. */
WARP_FN float warp_motion(float dx, float dy, float kx, float ky)
{
    dx *= kx;
    dy *= ky;
    return sqrtf(dx * dx + dy * dy);
}

/* What one field tells about one pixel, for a CUDA thread: something of the other picture brought here, whether the way back leads
 * home, and how far the pixel moves. Any of the three outputs may be NULL; `gap` needs the field back (bx, by). */
struct warp_field {
    int w, h;
    const float *dx, *dy, *bx, *by;
    const float *src;
    float *warped, *gap, *motion;
};

WARP_FN void warp_field_at(const struct warp_field *f, int x, int y)
{
    size_t o = (size_t)y * (size_t)f->w + (size_t)x;
    float dx = f->dx[o], dy = f->dy[o];
    struct warp_tap t = warp_tap((float)x + dx, (float)y + dy, f->w, f->h);
    if (f->warped)
        f->warped[o] = warp_read(f->src, t);
    if (f->gap)
        f->gap[o] = warp_gap(dx, dy, warp_read(f->bx, t), warp_read(f->by, t));
    if (f->motion)
        f->motion[o] = warp_motion(dx, dy, 1.0f / (float)f->w, 1.0f / (float)f->h);
}

/* Sundaram, Brox, Keutzer, ECCV 2010, equation 5. Written so that NaN counts as occluded. */
WARP_FN int warp_occluded(float dx, float dy, float bx, float by)
{
    float bound = 0.01f * (dx * dx + dy * dy + bx * bx + by * by) + 0.5f;
    return !(warp_gap2(dx, dy, bx, by) <= bound);
}

#endif
