/*
 * The vote, tile by tile. A tile where every candidate says the same of every object, one pixel around it included, keeps
 * that answer and only gets its candidates' weights; elsewhere all places of all candidates are compared.
 */
#include "core/flow/vote.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/kernel/expneg.h"
#include "core/kernel/frame_in.h"
#include "core/kernel/simd.h"
#include "core/kernel/warp.h"

#define TILE VOTE_TILE
#define HALO 2 /* half a patch */
#define PAD (TILE + 2 * HALO)
#define NOISE 6.0f  /* h: the colour distance, in levels, that is still no reason for doubt */
#define LEAST 1e-9f /* a vote never counts nothing, so a shares' sum is never zero */

typedef float vec4 __attribute__((vector_size(16)));

/* ---- features -------------------------------------------------------------------------------------------------------- */

int vote_features(const struct flow_image *rgb, int w, int h, float *features, struct err *e)
{
    static const float no_mean[3] = {0, 0, 0}, to_levels[3] = {1.0f / 255, 1.0f / 255, 1.0f / 255};
    size_t n = (size_t)w * (size_t)h;
    float *planes = malloc(3 * n * sizeof(*planes));
    if (!planes)
        return err_set(e, ERR_NOMEM, "colour features of %d x %d", w, h);
    struct frame_in in;
    int rc = frame_in_init(&in, rgb->channels, rgb->width_px, rgb->height_px, w, h, no_mean, to_levels, e);
    if (!rc) {
        rc = frame_in_run(&in, rgb->data, rgb->stride_bytes, planes, e);
        frame_in_fini(&in);
    }
    for (size_t i = 0; !rc && i < n; i++) {
        float r = planes[i], g = planes[n + i], b = planes[2 * n + i];
        float y = 0.299f * r + 0.587f * g + 0.114f * b;
        features[4 * i] = y;
        features[4 * i + 1] = 0.713f * (r - y);
        features[4 * i + 2] = 0.564f * (b - y);
        features[4 * i + 3] = 0;
    }
    free(planes);
    return rc;
}

/* ---- labels ---------------------------------------------------------------------------------------------------------- */

void vote_edges(const uint8_t *labels, int w, int h, uint32_t *edges)
{
    size_t pitch = (size_t)w + 1;
    memset(edges, 0, pitch * sizeof(*edges));
    for (int y = 0; y < h; y++) {
        const uint8_t *row = labels + (size_t)y * (size_t)w, *below = y + 1 < h ? row + w : row;
        uint32_t *above = edges + (size_t)y * pitch, *out = above + pitch, sum = 0;
        out[0] = 0;
        for (int x = 0; x < w; x++) {
            sum += row[x] != row[x + 1 < w ? x + 1 : x] || row[x] != below[x];
            out[x + 1] = above[x + 1] + sum;
        }
    }
}

/* ---- one tile -------------------------------------------------------------------------------------------------------- */

/* A tile with its halo; rows and columns beyond the picture repeat its border. */
struct tile {
    int x0, y0, w, h;                   /* of the tile itself */
    float tx[PAD * PAD], ty[PAD * PAD]; /* where a candidate points to */
    float dist[PAD * PAD];              /* squared colour distance at a place */
    float mid[PAD * TILE];
    float sum[TILE * TILE]; /* of all weights */
    float own[TILE * TILE]; /* of one candidate's */
    float at[TILE * TILE];  /* at one place */
};

static SIMD_BODY int border(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

static SIMD_BODY void tile_point(const struct vote *v, const struct vote_candidate *c, struct tile *t)
{
    for (int y = 0; y < PAD; y++)
        for (int x = 0; x < PAD; x++) {
            int px = border(t->x0 + x - HALO, v->w), py = border(t->y0 + y - HALO, v->h);
            size_t o = (size_t)py * (size_t)v->w + (size_t)px;
            t->tx[y * PAD + x] = (float)px + c->to->dx[o];
            t->ty[y * PAD + x] = (float)py + c->to->dy[o];
        }
}

static SIMD_BODY vec4 feature_at(const float *features, struct warp_tap t)
{
    const vec4 *f = (const vec4 *)(const void *)features;
    vec4 top = f[t.i00] + t.fx * (f[t.i01] - f[t.i00]), bottom = f[t.i10] + t.fx * (f[t.i11] - f[t.i10]);
    return top + t.fy * (bottom - top);
}

/* Where a point of the vote's grid lies on the labels' grid, which covers the same picture. */
static SIMD_BODY struct warp_tap label_tap(const struct vote *v, float x, float y)
{
    float kx = (float)v->labels_w / (float)v->w, ky = (float)v->labels_h / (float)v->h;
    return warp_tap((x + 0.5f) * kx - 0.5f, (y + 0.5f) * ky - 0.5f, v->labels_w, v->labels_h);
}

static SIMD_BODY void tile_distance(const struct vote *v, const struct vote_candidate *c, struct tile *t, float sx,
                                    float sy)
{
    const vec4 *mine = (const vec4 *)(const void *)v->features;
    for (int y = 0; y < t->h + 2 * HALO; y++)
        for (int x = 0; x < t->w + 2 * HALO; x++) {
            int px = border(t->x0 + x - HALO, v->w), py = border(t->y0 + y - HALO, v->h), i = y * PAD + x;
            vec4 d = feature_at(c->features, warp_tap(t->tx[i] + sx, t->ty[i] + sy, v->w, v->h)) -
                     mine[(size_t)py * (size_t)v->w + (size_t)px];
            d *= d;
            t->dist[i] = d[0] + d[1] + d[2];
        }
}

/* Binomial weights 1 4 6 4 1 along one axis. */
static SIMD_BODY float binomial(const float *p, int step)
{
    return (p[0] + p[4 * step] + 4 * (p[step] + p[3 * step]) + 6 * p[2 * step]) * (1.0f / 16);
}

static SIMD_BODY void tile_patches(struct tile *t)
{
    for (int y = 0; y < t->h + 2 * HALO; y++)
        for (int x = 0; x < t->w; x++)
            t->mid[y * TILE + x] = binomial(t->dist + y * PAD + x, 1);
}

/* t->at = what a place's vote weighs. */
static SIMD_BODY void tile_weigh(const struct vote *v, const struct vote_candidate *c, struct tile *t)
{
    for (int y = 0; y < t->h; y++) {
        const float *prior = c->prior + (size_t)(t->y0 + y) * (size_t)v->w + (size_t)t->x0;
        for (int x = 0; x < t->w; x++) {
            float d = binomial(t->mid + y * TILE + x, TILE);
            t->at[y * TILE + x] = prior[x] * exp_neg(d * (-0.5f / (NOISE * NOISE))) + LEAST;
        }
    }
}

/* Adds the votes of one place. */
static SIMD_BODY void tile_place(const struct vote *v, const struct vote_candidate *c, struct tile *t, float sx,
                                 float sy)
{
    tile_distance(v, c, t, sx, sy);
    tile_patches(t);
    tile_weigh(v, c, t);
    for (int y = 0; y < t->h; y++)
        for (int x = 0; x < t->w; x++) {
            size_t o = (size_t)(t->y0 + y) * (size_t)v->w + (size_t)(t->x0 + x);
            int i = (y + HALO) * PAD + x + HALO;
            float weight = t->at[y * TILE + x];
            struct warp_tap tap = label_tap(v, t->tx[i] + sx, t->ty[i] + sy);
            t->own[y * TILE + x] += weight;
            for (int k = 0; k < v->n_objects; k++)
                v->scores[k][o] += weight * warp_read_share(c->labels, tap, v->object_id[k]);
        }
}

/* Candidates' weights become shares; scores, sums of votes so far, are divided too. */
static SIMD_BODY void tile_finish(const struct vote *v, const struct tile *t)
{
    for (int y = 0; y < t->h; y++)
        for (int x = 0; x < t->w; x++) {
            size_t o = (size_t)(t->y0 + y) * (size_t)v->w + (size_t)(t->x0 + x);
            float scale = 1.0f / t->sum[y * TILE + x];
            for (int c = 0; c < v->n_candidates; c++)
                v->weights[c][o] *= scale;
            for (int k = 0; k < v->n_objects; k++)
                v->scores[k][o] *= scale;
        }
}

/* The rectangle of labels that a candidate points to from the tile and its halo, with what bilinear samples touch. */
static SIMD_BODY void labels_asked(const struct vote *v, const struct tile *t, int lo[2], int hi[2])
{
    float x0 = (float)v->w, x1 = 0, y0 = (float)v->h, y1 = 0;
    for (int i = 0; i < PAD * PAD; i++) {
        float x = warp_clamp(t->tx[i], 0, (float)v->w), y = warp_clamp(t->ty[i], 0, (float)v->h);
        x0 = x < x0 ? x : x0;
        x1 = x > x1 ? x : x1;
        y0 = y < y0 ? y : y0;
        y1 = y > y1 ? y : y1;
    }
    struct warp_tap first = label_tap(v, x0, y0), last = label_tap(v, x1, y1);
    lo[0] = (int)(first.i00 % (size_t)v->labels_w);
    lo[1] = (int)(first.i00 / (size_t)v->labels_w);
    hi[0] = (int)(last.i11 % (size_t)v->labels_w);
    hi[1] = (int)(last.i11 / (size_t)v->labels_w);
}

/* The one label that all candidates see from the tile and its halo, or -1. */
static SIMD_BODY int tile_label(const struct vote *v, struct tile *t)
{
    int label = -1;
    size_t pitch = (size_t)v->labels_w + 1;
    for (int c = 0; c < v->n_candidates; c++) {
        const struct vote_candidate *k = &v->candidates[c];
        int lo[2], hi[2];
        tile_point(v, k, t);
        labels_asked(v, t, lo, hi);
        const uint32_t *top = k->edges + (size_t)lo[1] * pitch, *end = k->edges + (size_t)(hi[1] + 1) * pitch;
        int seen = k->labels[(size_t)lo[1] * (size_t)v->labels_w + (size_t)lo[0]];
        if (end[hi[0] + 1] - end[lo[0]] - top[hi[0] + 1] + top[lo[0]] || (label >= 0 && seen != label))
            return -1;
        label = seen;
    }
    return label;
}

/* Where there is one opinion the scores are filled with it. */
static SIMD_BODY bool tile_first_look(const struct vote *v, struct tile *t)
{
    int label = tile_label(v, t);
    for (int k = 0; label >= 0 && k < v->n_objects; k++)
        for (int y = 0; y < t->h; y++)
            for (int x = 0; x < t->w; x++)
                v->scores[k][(size_t)(t->y0 + y) * (size_t)v->w + (size_t)(t->x0 + x)] = v->object_id[k] == label;
    return label >= 0;
}

static SIMD_BODY void tile_agreed(const struct vote *v, const struct tile *t)
{
    for (int y = 0; y < t->h; y++)
        for (int x = 0; x < t->w; x++) {
            size_t o = (size_t)(t->y0 + y) * (size_t)v->w + (size_t)(t->x0 + x);
            float sum = 0;
            for (int c = 0; c < v->n_candidates; c++)
                sum += v->weights[c][o] = v->candidates[c].prior[o] + LEAST;
            for (int c = 0; c < v->n_candidates; c++)
                v->weights[c][o] /= sum;
        }
}

static SIMD_BODY void tile_vote(const struct vote *v, struct tile *t)
{
    for (int k = 0; k < v->n_objects; k++)
        for (int y = 0; y < t->h; y++)
            memset(v->scores[k] + (size_t)(t->y0 + y) * (size_t)v->w + (size_t)t->x0, 0, (size_t)t->w * sizeof(float));
    memset(t->sum, 0, sizeof(t->sum));
    for (int c = 0; c < v->n_candidates; c++) {
        tile_point(v, &v->candidates[c], t);
        memset(t->own, 0, sizeof(t->own));
        for (int sy = -VOTE_REACH; sy <= VOTE_REACH; sy++)
            for (int sx = -VOTE_REACH; sx <= VOTE_REACH; sx++)
                tile_place(v, &v->candidates[c], t, (float)sx, (float)sy);
        for (int y = 0; y < t->h; y++)
            for (int x = 0; x < t->w; x++) {
                v->weights[c][(size_t)(t->y0 + y) * (size_t)v->w + (size_t)(t->x0 + x)] = t->own[y * TILE + x];
                t->sum[y * TILE + x] += t->own[y * TILE + x];
            }
    }
    tile_finish(v, t);
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

static SIMD_BODY void tile_body(const struct vote *v, int i)
{
    int across = VOTE_TILES(v->w);
    struct tile t = {.x0 = i % across * TILE, .y0 = i / across * TILE};
    t.w = v->w - t.x0 < TILE ? v->w - t.x0 : TILE;
    t.h = v->h - t.y0 < TILE ? v->h - t.y0 : TILE;
    bool agreed = tile_first_look(v, &t);
    if (v->agreed)
        v->agreed[i] = agreed;
    if (agreed)
        tile_agreed(v, &t);
    else
        tile_vote(v, &t);
}

SIMD_KERNEL(tile, (const struct vote *v, int i), (v, i))

static void tile_run(void *arg, int i)
{
    tile(arg, i);
}

int vote_run(const struct vote *v, struct err *e)
{
    if (v->n_candidates < 1 || v->n_candidates > VOTE_MAX_CANDIDATES || v->w < 1 || v->h < 1)
        return err_set(e, ERR_INVALID, "vote of %d candidates over %d x %d", v->n_candidates, v->w, v->h);
    for (int c = 0; c < v->n_candidates; c++)
        BUG_ON(v->candidates[c].to->width_px != v->w || v->candidates[c].to->height_px != v->h);
    struct vote copy = *v;
    par_for(VOTE_TILES(v->w) * VOTE_TILES(v->h), tile_run, &copy);
    return 0;
}
