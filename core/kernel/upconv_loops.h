/*
 * The three loops of upconv for one instruction set. Included by upconv.c once per set, which defines
 *   LOOP(name)               the function's name in this set
 *   LOOP_TARGET              its target attribute
 *   VL                       floats of a vector; LANES / VL vectors make a group
 *   TILE_TAPS, TILE_PIXELS   the product tile: TILE_TAPS * TILE_PIXELS * LANES / VL accumulators have to fit the registers
 */
typedef float LOOP(vec) __attribute__((vector_size(VL * sizeof(float))));
typedef int LOOP(mask) __attribute__((vector_size(VL * sizeof(int))));
#define VEC LOOP(vec)
#define PARTS (LANES / VL)
#define BODY(name) LOOP(body_##name)
#define BODY_REAL VEC
#define BODY_TARGET LOOP_TARGET static inline __attribute__((always_inline))
#include "core/kernel/upconv_body.h"

/* Products of `pixels` neighbours (at most TILE_PIXELS) with TILE_TAPS matrices. */
LOOP_TARGET static inline __attribute__((always_inline)) void
LOOP(tile)(const float *restrict w, const float *restrict x, int in, int pixels, float *restrict out, size_t tap_stride)
{
    VEC acc[TILE_TAPS][TILE_PIXELS][PARTS];
    for (int t = 0; t < TILE_TAPS; t++)
        for (int p = 0; p < pixels; p++)
            for (int l = 0; l < PARTS; l++)
                acc[t][p][l] = (VEC){0};
    for (int c = 0; c < in; c++) {
        const VEC *wc = (const VEC *)(const void *)(w + (size_t)c * TAPS * LANES);
#pragma GCC unroll 3
        for (int p = 0; p < pixels; p++) {
            float v = x[(size_t)p * (size_t)in + (size_t)c];
#pragma GCC unroll 9
            for (int t = 0; t < TILE_TAPS; t++)
#pragma GCC unroll 4
                for (int l = 0; l < PARTS; l++)
                    acc[t][p][l] += wc[t * PARTS + l] * v;
        }
    }
    for (int t = 0; t < TILE_TAPS; t++)
        for (int p = 0; p < pixels; p++)
            for (int l = 0; l < PARTS; l++)
                ((VEC *)(void *)(out + (size_t)t * tap_stride + (size_t)p * LANES))[l] = acc[t][p][l];
}

/* (1) x: a small row of n pixels; out: TAPS x n x LANES. */
LOOP_TARGET static void LOOP(products)(const float *w, const float *x, int in, int n, float *out)
{
    size_t stride = (size_t)n * LANES;
    for (int t = 0; t < TAPS; t += TILE_TAPS) {
        const float *wt = w + t * LANES;
        float *to = out + (size_t)t * stride;
        int p = 0;
        for (; p + TILE_PIXELS <= n; p += TILE_PIXELS)
            LOOP(tile)(wt, x + (size_t)p * (size_t)in, in, TILE_PIXELS, to + (size_t)p * LANES, stride);
        for (; p < n; p++)
            LOOP(tile)(wt, x + (size_t)p * (size_t)in, in, 1, to + (size_t)p * LANES, stride);
    }
}

/* (2) acc (+)= (1 - f) * lo + f * hi over n groups. */
LOOP_TARGET static void LOOP(blend)(float *restrict acc, const float *restrict lo, const float *restrict hi, float f,
                                    int n, bool first)
{
    VEC *a = (VEC *)(void *)acc;
    const VEC *l = (const VEC *)(const void *)lo, *h = (const VEC *)(const void *)hi;
    for (int i = 0; i < n * PARTS; i++) {
        VEC v = BODY(blend)(l[i], h[i], f);
        a[i] = first ? v : a[i] + v;
    }
}

LOOP_TARGET static inline __attribute__((always_inline)) float LOOP(sum)(const VEC *v)
{
    float t[VL];
    memcpy(t, v, sizeof(t));
    for (int half = VL / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            t[i] += t[i + half];
    return t[0];
}

/* (3) */
LOOP_TARGET static void LOOP(finish)(const struct finish *r)
{
    const VEC *rows = (const VEC *)(const void *)r->rows, *bias = (const VEC *)(const void *)r->bias;
    const VEC *last = (const VEC *)(const void *)r->last, zero = {0};
    size_t plane = (size_t)r->small_w * PARTS;
    for (int x = 0; x < r->large_w; x++) {
        VEC sum = {0};
#pragma GCC unroll 4
        for (int l = 0; l < PARTS; l++) {
            VEC v = BODY(across)(rows + l, plane, PARTS, r->src, x, r->large_w, bias[l]);
            sum += (VEC)((LOOP(mask))v & (v > zero)) * last[l];
        }
        r->y[x] += LOOP(sum)(&sum);
    }
}

#undef VEC
#undef PARTS
#undef LOOP
#undef LOOP_TARGET
#undef VL
#undef TILE_TAPS
#undef TILE_PIXELS
#undef BODY
#undef BODY_REAL
#undef BODY_TARGET
