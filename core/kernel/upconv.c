/*
 * upconv: the factored decoder, in bands of large rows (threads) and groups of LANES middle channels.
 *
 * For a group: (1) each small row's products with the nine tap matrices, computed once and kept in a ring of as many rows as one large
 * row can reach; (2) per large row, the vertical half of the bilinear sum gives three small rows, one per horizontal tap; (3) the
 * horizontal half, bias, ReLU and the group's share of the 1x1 convolution add one number to each pixel of the row. Ring, group weights
 * and rows stay in the second-level cache. Bands repeat the products of the small rows that they share, about one row each side.
 */
#include "core/kernel/upconv.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/kernel/simd.h"

#define LANES 16
#define TAPS 9
#define CHANNELS_MAX 4096
#define BAND_ROWS 56

#define ALIGN 64 /* of the largest vector */

struct upconv {
    int in, groups;
    float *taps; /* groups x in x TAPS x LANES, tap = 3 * ky + kx */
    float *bias; /* groups x LANES */
    float *last; /* groups x LANES: the 1x1 convolution; zero in the lanes beyond the last channel */
    float last_bias;
};

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static float *floats(size_t n)
{
    return aligned_alloc(ALIGN, (n * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN);
}

static void pack(struct upconv *u, int mid, const float *w1, const float *b1, const float *w2)
{
    size_t in = (size_t)u->in;
    for (int m = 0; m < u->groups * LANES; m++) {
        size_t g = (size_t)(m / LANES), lane = (size_t)(m % LANES);
        bool real = m < mid;
        u->bias[m] = real ? b1[m] : 0;
        u->last[m] = real ? w2[m] : 0;
        for (size_t c = 0; c < in; c++)
            for (size_t t = 0; t < TAPS; t++)
                u->taps[((g * in + c) * TAPS + t) * LANES + lane] = real ? w1[((size_t)m * in + c) * TAPS + t] : 0;
    }
}

int upconv_new(int in, int mid, const float *w1, const float *b1, const float *w2, float b2, struct upconv **out,
               struct err *e)
{
    *out = NULL;
    if (in < 1 || mid < 1 || in > CHANNELS_MAX || mid > CHANNELS_MAX)
        return err_set(e, ERR_INVALID, "upconv of %d and %d channels", in, mid);
    struct upconv *u = calloc(1, sizeof(*u));
    if (!u)
        return err_set(e, ERR_NOMEM, "upconv weights");
    u->in = in;
    u->groups = (mid + LANES - 1) / LANES;
    u->last_bias = b2;
    size_t lanes = (size_t)u->groups * LANES;
    u->taps = floats(lanes * (size_t)in * TAPS);
    u->bias = floats(lanes);
    u->last = floats(lanes);
    if (!u->taps || !u->bias || !u->last) {
        upconv_free(u);
        return err_set(e, ERR_NOMEM, "upconv weights");
    }
    pack(u, mid, w1, b1, w2);
    *out = u;
    return 0;
}

void upconv_free(struct upconv *u)
{
    if (!u)
        return;
    free(u->taps);
    free(u->bias);
    free(u->last);
    free(u);
}

/* ---- the three loops --------------------------------------------------------------------------------------------- */

struct finish {                      /* one large row of one group */
    const float *rows;               /* 3 x small_w x LANES, from (2) */
    const struct upconv_source *src; /* of every large column */
    const float *bias, *last;        /* LANES each */
    int small_w, large_w;
    float *y; /* the large row, added to */
};

struct loops {
    void (*products)(const float *w, const float *x, int in, int n, float *out);
    void (*blend)(float *acc, const float *lo, const float *hi, float f, int n, bool first);
    void (*finish)(const struct finish *r);
};

#define VL 4
#define TILE_TAPS 3
#define TILE_PIXELS 1
#define LOOP(name) name##_c
#define LOOP_TARGET
#include "core/kernel/upconv_loops.h"

#if defined(__x86_64__)
#define VL 8
#define TILE_TAPS 3
#define TILE_PIXELS 2
#define LOOP(name) name##_avx2
#define LOOP_TARGET SIMD_TARGET_AVX2
#include "core/kernel/upconv_loops.h"

#define VL 16
#define TILE_TAPS 9
#define TILE_PIXELS 3
#define LOOP(name) name##_avx512
#define LOOP_TARGET SIMD_TARGET_AVX512
#include "core/kernel/upconv_loops.h"
#endif

static const struct loops loops_of[] = {
    [SIMD_C] = {products_c, blend_c, finish_c},
#if defined(__x86_64__)
    [SIMD_AVX2] = {products_avx2, blend_avx2, finish_avx2},
    [SIMD_AVX512] = {products_avx512, blend_avx512, finish_avx512},
#endif
};

/* ---- bands ------------------------------------------------------------------------------------------------------- */

struct job {
    const struct upconv *u;
    const struct loops *loops;
    const float *x;
    int small_w, small_h, large_w, large_h;
    float *y;
    struct upconv_source *col; /* large_w */
    int ring;                  /* small rows that one large row can reach */
    size_t row_floats;         /* of a ring slot: TAPS x small_w x LANES */
    float *scratch;            /* per band: the ring, then 3 x small_w x LANES */
    size_t band_floats;
    int *tags; /* per band: which small row each slot holds */
    int bands;
};

/* The products of small row `row` for group g, from the ring. */
static const float *products(const struct job *j, int band, int g, int row)
{
    int slot = row % j->ring, *tag = &j->tags[band * j->ring + slot];
    float *out = j->scratch + (size_t)band * j->band_floats + (size_t)slot * j->row_floats;
    if (*tag == row)
        return out;
    *tag = row;
    int in = j->u->in;
    const float *w = j->u->taps + (size_t)g * (size_t)in * TAPS * LANES;
    const float *x = j->x + (size_t)row * (size_t)j->small_w * (size_t)in;
    j->loops->products(w, x, in, j->small_w, out);
    return out;
}

/* rows[kx] = sum over ky of the vertically upsampled products of tap (ky, kx) at large row y + ky - 1. */
static void vertical(const struct job *j, int band, int g, int y, float *rows)
{
    size_t plane = (size_t)j->small_w * LANES;
    bool first = true;
    for (int ky = 0; ky < 3; ky++) {
        int at = y + ky - 1;
        if (at < 0 || at >= j->large_h)
            continue;
        struct upconv_source s = upconv_source(at, j->small_h, j->large_h);
        const float *lo = products(j, band, g, s.lo), *hi = products(j, band, g, s.hi);
        size_t tap = 3 * (size_t)ky * plane; /* three neighbouring taps, three neighbouring rows */
        j->loops->blend(rows, lo + tap, hi + tap, s.f, 3 * j->small_w, first);
        first = false;
    }
}

static void band(void *arg, int i)
{
    const struct job *j = arg;
    const struct upconv *u = j->u;
    int begin = (int)((long long)j->large_h * i / j->bands), end = (int)((long long)j->large_h * (i + 1) / j->bands);
    float *rows = j->scratch + (size_t)i * j->band_floats + (size_t)j->ring * j->row_floats;
    for (size_t k = (size_t)begin * (size_t)j->large_w; k < (size_t)end * (size_t)j->large_w; k++)
        j->y[k] = u->last_bias;
    for (int g = 0; g < u->groups; g++) {
        for (int s = 0; s < j->ring; s++)
            j->tags[i * j->ring + s] = -1;
        for (int y = begin; y < end; y++) {
            vertical(j, i, g, y, rows);
            struct finish f = {.rows = rows,
                               .src = j->col,
                               .bias = u->bias + (size_t)g * LANES,
                               .last = u->last + (size_t)g * LANES,
                               .small_w = j->small_w,
                               .large_w = j->large_w,
                               .y = j->y + (size_t)y * (size_t)j->large_w};
            j->loops->finish(&f);
        }
    }
}

/* The most small rows between the first and the last that one large row reads. */
static int reach(int small, int large)
{
    int most = 1;
    for (int y = 0; y < large; y++) {
        int lo = upconv_source(y > 0 ? y - 1 : 0, small, large).lo;
        int hi = upconv_source(y + 1 < large ? y + 1 : y, small, large).hi;
        most = hi - lo + 1 > most ? hi - lo + 1 : most;
    }
    return most;
}

static bool in_range(int v)
{
    return v >= 1 && v <= RESAMPLE_MAX;
}

int upconv_run(const struct upconv *u, const float *x, int small_w, int small_h, float *y, int large_w, int large_h,
               struct err *e)
{
    if (!in_range(small_w) || !in_range(small_h) || !in_range(large_w) || !in_range(large_h))
        return err_set(e, ERR_INVALID, "upconv from %d x %d to %d x %d", small_w, small_h, large_w, large_h);
    struct job j = {.u = u,
                    .loops = &loops_of[simd_level()],
                    .x = x,
                    .small_w = small_w,
                    .small_h = small_h,
                    .large_w = large_w,
                    .large_h = large_h,
                    .y = y};
    size_t plane = (size_t)small_w * LANES;
    j.bands = (large_h + BAND_ROWS - 1) / BAND_ROWS;
    j.ring = reach(small_h, large_h);
    j.row_floats = TAPS * plane;
    j.band_floats = (size_t)j.ring * j.row_floats + 3 * plane;
    j.col = malloc((size_t)large_w * sizeof(*j.col));
    j.tags = malloc((size_t)j.bands * (size_t)j.ring * sizeof(*j.tags));
    j.scratch = floats((size_t)j.bands * j.band_floats);
    int rc = j.col && j.tags && j.scratch ? 0 : err_set(e, ERR_NOMEM, "upconv to %d x %d", large_w, large_h);
    for (int i = 0; !rc && i < large_w; i++)
        j.col[i] = upconv_source(i, small_w, large_w);
    if (!rc)
        par_for(j.bands, band, &j);
    free(j.col);
    free(j.tags);
    free(j.scratch);
    return rc;
}
