/*
 * The three loops of winograd for one instruction set. Included by winograd.c once per set, which defines
 *   LOOP(name)       the function's name in this set
 *   LOOP_TARGET      its target attribute
 *   VL               floats of a vector, a divisor of WINOGRAD_IN
 *   TILE_ROWS        tiles of a block of the product: TILE_ROWS x TILE_COLS accumulators have to fit the registers
 *   TILE_COLS        vectors of output channels of a block; VL x TILE_COLS divides WINOGRAD_OUT
 */
typedef float LOOP(vec) __attribute__((vector_size(VL * sizeof(float)), aligned(sizeof(float))));
typedef int LOOP(mask) __attribute__((vector_size(VL * sizeof(int)), aligned(sizeof(int))));
#define VEC LOOP(vec)

/* B^T d along one axis. */
LOOP_TARGET static inline __attribute__((always_inline)) void LOOP(spread)(const VEC d[6], VEC o[6])
{
    VEC a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], f = 2 * (d[3] - d[1]);
    o[0] = 4 * d[0] - 5 * d[2] + d[4];
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + f;
    o[4] = c - f;
    o[5] = 4 * d[1] - 5 * d[3] + d[5];
}

/* A^T m along one axis. */
LOOP_TARGET static inline __attribute__((always_inline)) void LOOP(gather)(const VEC m[6], VEC o[4])
{
    VEC a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], f = m[3] - m[4];
    o[0] = m[0] + a + c;
    o[1] = b + 2 * f;
    o[2] = a + 4 * c;
    o[3] = b + 8 * f + m[5];
}

/* (1) Tile t of the chunk: v[p][t][c] for the 36 points p. */
LOOP_TARGET static void LOOP(input)(const struct chunk *k, int t)
{
    struct tile at = k->tiles[t];
    const int d = k->u->dilation, in = k->u->in;
    const float *frame = k->x + (size_t)at.frame * (size_t)k->h * (size_t)k->w * (size_t)in;
    size_t point = (size_t)k->room * (size_t)in;
    float *out = k->v + (size_t)t * (size_t)in;
    for (int c = 0; c < in; c += VL) {
        VEC m[6][6];
        for (int j = 0; j < 6; j++) {
            VEC col[6], o[6];
            int x = at.x + (j - 1) * d;
            for (int i = 0; i < 6; i++) {
                int y = at.y + (i - 1) * d;
                bool inside = x >= 0 && y >= 0 && x < k->w && y < k->h;
                col[i] =
                    inside
                        ? *(const VEC *)(const void *)(frame + ((size_t)y * (size_t)k->w + (size_t)x) * (size_t)in + c)
                        : (VEC){0};
            }
            LOOP(spread)(col, o);
            for (int i = 0; i < 6; i++)
                m[i][j] = o[i];
        }
        for (int i = 0; i < 6; i++) {
            VEC o[6];
            LOOP(spread)(m[i], o);
            for (int j = 0; j < 6; j++)
                *(VEC *)(void *)(out + (size_t)(6 * i + j) * point + c) = o[j];
        }
    }
}

/* One block of the product: `rows` tiles (at most TILE_ROWS) by TILE_COLS vectors of output channels. w: in x WINOGRAD_OUT. */
LOOP_TARGET static inline __attribute__((always_inline)) void
LOOP(block)(const float *restrict w, const float *restrict v, int in, int rows, float *restrict m, size_t out)
{
    VEC acc[TILE_ROWS][TILE_COLS];
    for (int r = 0; r < rows; r++)
        for (int l = 0; l < TILE_COLS; l++)
            acc[r][l] = (VEC){0};
    for (int c = 0; c < in; c++) {
        const VEC *wc = (const VEC *)(const void *)(w + (size_t)c * WINOGRAD_OUT);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            float s = v[(size_t)r * (size_t)in + (size_t)c];
#pragma GCC unroll 4
            for (int l = 0; l < TILE_COLS; l++)
                acc[r][l] += wc[l] * s;
        }
    }
    for (int r = 0; r < rows; r++)
        for (int l = 0; l < TILE_COLS; l++)
            ((VEC *)(void *)(m + (size_t)r * out))[l] = acc[r][l];
}

/* (2) Point p, group g of WINOGRAD_OUT output channels: m[p][t][...] for all tiles of the chunk. */
LOOP_TARGET static void LOOP(product)(const struct chunk *k, int p, int g)
{
    const int in = k->u->in;
    const size_t out = (size_t)k->u->out, groups = out / WINOGRAD_OUT;
    const float *w = k->u->packed + ((size_t)p * groups + (size_t)g) * (size_t)in * WINOGRAD_OUT;
    const float *v = k->v + (size_t)p * (size_t)k->room * (size_t)in;
    float *m = k->m + (size_t)p * (size_t)k->room * out + (size_t)g * WINOGRAD_OUT;
    for (int l = 0; l < WINOGRAD_OUT; l += VL * TILE_COLS) {
        int t = 0;
        for (; t + TILE_ROWS <= k->n; t += TILE_ROWS)
            LOOP(block)(w + l, v + (size_t)t * (size_t)in, in, TILE_ROWS, m + (size_t)t * out + l, out);
        for (; t < k->n; t++)
            LOOP(block)(w + l, v + (size_t)t * (size_t)in, in, 1, m + (size_t)t * out + l, out);
    }
}

/* (3) Tile t: its four by four outputs, as far as they lie in the image. */
LOOP_TARGET static void LOOP(output)(const struct chunk *k, int t)
{
    struct tile at = k->tiles[t];
    const int d = k->u->dilation, out = k->u->out;
    float *frame = k->y + (size_t)at.frame * (size_t)k->h * (size_t)k->w * (size_t)out;
    size_t point = (size_t)k->room * (size_t)out;
    const float *m = k->m + (size_t)t * (size_t)out;
    for (int c = 0; c < out; c += VL) {
        VEC half[4][6], bias = k->u->bias ? *(const VEC *)(const void *)(k->u->bias + c) : (VEC){0};
        for (int j = 0; j < 6; j++) {
            VEC col[6], o[4];
            for (int i = 0; i < 6; i++)
                col[i] = *(const VEC *)(const void *)(m + (size_t)(6 * i + j) * point + c);
            LOOP(gather)(col, o);
            for (int i = 0; i < 4; i++)
                half[i][j] = o[i];
        }
        for (int i = 0; i < 4 && at.y + i * d < k->h; i++) {
            VEC o[4];
            LOOP(gather)(half[i], o);
            float *row = frame + ((size_t)(at.y + i * d) * (size_t)k->w + (size_t)at.x) * (size_t)out + c;
            for (int j = 0; j < 4 && at.x + j * d < k->w; j++) {
                VEC v = o[j] + bias;
                if (k->u->relu)
                    v = (VEC)((LOOP(mask))v & (v > (VEC){0}));
                *(VEC *)(void *)(row + (size_t)(j * d) * (size_t)out) = v;
            }
        }
    }
}

#undef VEC
#undef LOOP
#undef LOOP_TARGET
#undef VL
#undef TILE_ROWS
#undef TILE_COLS
