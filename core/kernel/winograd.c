/*
 * winograd: chunks of tiles, each in three parallel steps: (1) tiles to 36 points a channel, (2) at every point the product with that
 * point's weights, where nearly all arithmetic is, (3) back to four by four outputs. A chunk is large enough that each weight, once
 * read, serves many tiles, and small enough that points stay in the last-level cache.
 */
#include "core/kernel/winograd.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/kernel/simd.h"

enum { POINTS = 36, OUT_PX = 4, CHUNK_TILES = 192, SIDE_MAX = 1 << 16 };

/* ---- weights ----------------------------------------------------------------------------------------------------- */

size_t winograd_packed(int in, int out)
{
    return (size_t)POINTS * (size_t)in * (size_t)out;
}

/* G g G^T */
static void transform(const float g[9], float o[POINTS])
{
    static const float k[6][3] = {{1.0F / 4, 0, 0},
                                  {-1.0F / 6, -1.0F / 6, -1.0F / 6},
                                  {-1.0F / 6, 1.0F / 6, -1.0F / 6},
                                  {1.0F / 24, 1.0F / 12, 1.0F / 6},
                                  {1.0F / 24, -1.0F / 12, 1.0F / 6},
                                  {0, 0, 1}};
    float half[6][3];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 3; j++)
            half[i][j] = k[i][0] * g[j] + k[i][1] * g[3 + j] + k[i][2] * g[6 + j];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++)
            o[6 * i + j] = half[i][0] * k[j][0] + half[i][1] * k[j][1] + half[i][2] * k[j][2];
}

/* packed: POINTS x groups of WINOGRAD_OUT x in x WINOGRAD_OUT */
void winograd_pack(int in, int out, const float *w, float *packed)
{
    size_t group = (size_t)in * WINOGRAD_OUT, point = (size_t)in * (size_t)out;
    for (int k = 0; k < in * out; k++) { /* in the order of `packed`, so that the places written stay in the cache */
        int g = k / (in * WINOGRAD_OUT), c = k / WINOGRAD_OUT % in, o = k % WINOGRAD_OUT;
        float p[POINTS];
        transform(w + ((size_t)(g * WINOGRAD_OUT + o) * (size_t)in + (size_t)c) * 9, p);
        float *to = packed + (size_t)g * group + (size_t)c * WINOGRAD_OUT + o;
        for (size_t i = 0; i < POINTS; i++)
            to[i * point] = p[i];
    }
}

/* ---- loops --------------------------------------------------------------------------------------------------------- */

struct tile { /* of the output: its first pixel; the others follow in steps of the dilation */
    int frame, y, x;
};

struct chunk {
    const struct winograd *u;
    const struct steps *steps;
    const float *x;
    float *y;
    int w, h;
    const struct tile *tiles;
    int n, room; /* tiles of this chunk, and of the largest */
    float *v;    /* POINTS x room x in */
    float *m;    /* POINTS x room x out */
};

struct steps {
    void (*input)(const struct chunk *k, int t);
    void (*product)(const struct chunk *k, int p, int g);
    void (*output)(const struct chunk *k, int t);
};

#define VL 4
#define TILE_ROWS 4
#define TILE_COLS 2
#define LOOP(name) name##_c
#define LOOP_TARGET
#include "core/kernel/winograd_loops.h"

#if defined(__x86_64__)
#define VL 8
#define TILE_ROWS 6
#define TILE_COLS 2
#define LOOP(name) name##_avx2
#define LOOP_TARGET SIMD_TARGET_AVX2
#include "core/kernel/winograd_loops.h"

#define VL 16
#define TILE_ROWS 12
#define TILE_COLS 2
#define LOOP(name) name##_avx512
#define LOOP_TARGET SIMD_TARGET_AVX512
#include "core/kernel/winograd_loops.h"
#endif

static const struct steps steps_of[] = {
    [SIMD_C] = {input_c, product_c, output_c},
#if defined(__x86_64__)
    [SIMD_AVX2] = {input_avx2, product_avx2, output_avx2},
    [SIMD_AVX512] = {input_avx512, product_avx512, output_avx512},
#endif
};

static void input(void *arg, int t)
{
    const struct chunk *k = arg;
    k->steps->input(k, t);
}

static void product(void *arg, int i)
{
    const struct chunk *k = arg;
    int groups = k->u->out / WINOGRAD_OUT;
    k->steps->product(k, i / groups, i % groups);
}

static void output(void *arg, int t)
{
    const struct chunk *k = arg;
    k->steps->output(k, t);
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------- */

/* Tiles along an axis of `size` pixels: of each of the interleaved grids, what covers it. */
static int axis_tiles(int size, int dilation, int *at)
{
    int n = 0;
    for (int r = 0; r < dilation; r++)
        for (int i = r; i < size; i += OUT_PX * dilation, n++)
            if (at)
                at[n] = i;
    return n;
}

static int list_tiles(int frames, int w, int h, int dilation, struct tile **out, struct err *e)
{
    int nx = axis_tiles(w, dilation, NULL), ny = axis_tiles(h, dilation, NULL);
    int *at = malloc((size_t)(nx + ny) * sizeof(*at));
    struct tile *t = malloc((size_t)frames * (size_t)nx * (size_t)ny * sizeof(*t));
    *out = t;
    if (!at || !t) {
        free(at);
        return err_set(e, ERR_NOMEM, "tiles of a convolution");
    }
    axis_tiles(w, dilation, at);
    axis_tiles(h, dilation, at + nx);
    for (int f = 0; f < frames; f++)
        for (int y = 0; y < ny; y++)
            for (int x = 0; x < nx; x++)
                *t++ = (struct tile){f, at[nx + y], at[x]};
    free(at);
    return frames * nx * ny;
}

int winograd_run(const struct winograd *u, const float *x, int frames, int w, int h, float *y, struct err *e)
{
    if (u->in < 1 || u->out < 1 || u->in % WINOGRAD_IN || u->out % WINOGRAD_OUT || u->dilation < 1 || frames < 1 ||
        w < 1 || h < 1 || w > SIDE_MAX || h > SIDE_MAX || (int64_t)frames * w * h > INT32_MAX)
        return err_set(e, ERR_INVALID, "winograd convolution of %d to %d channels, %d frames of %d x %d", u->in, u->out,
                       frames, w, h);
    struct tile *tiles;
    int n = list_tiles(frames, w, h, u->dilation, &tiles, e), room = n < CHUNK_TILES ? n : CHUNK_TILES, rc = 0;
    float *memory = NULL;
    if (n > 0)
        memory = aligned_alloc(64, (size_t)POINTS * (size_t)room * (size_t)(u->in + u->out) * sizeof(float));
    if (n < 0 || !memory)
        rc = err_set(e, ERR_NOMEM, "a convolution of %d to %d channels", u->in, u->out);
    struct chunk k = {
        .u = u, .steps = &steps_of[simd_level()], .x = x, .y = y, .w = w, .h = h, .room = room, .v = memory};
    for (int at = 0; at < n && !rc; at += room) {
        k.m = k.v + (size_t)POINTS * (size_t)room * (size_t)u->in;
        k.tiles = tiles + at;
        k.n = n - at < room ? n - at : room;
        par_for(k.n, input, &k);
        par_for(POINTS * (u->out / WINOGRAD_OUT), product, &k);
        par_for(k.n, output, &k);
    }
    free(memory);
    free(tiles);
    return rc;
}
