/*
 * Operations on flow fields: loops over the bodies of core/kernel/warp.h, split into bands of rows for the thread pool.
 * Every pixel is computed independently, so the result does not depend on the number of threads.
 */
#include <math.h>
#include <stdbool.h>

#include "core/base/par.h"
#include "core/flow/flow.h"
#include "core/kernel/expneg.h"
#include "core/kernel/warp.h"

#define BAND_ROWS 16

/* One operation over all rows; `row` does one of them. */
struct sweep {
    void (*row)(const struct sweep *s, int y);
    const struct flow_field *ab, *ba;
    const float *src;
    const uint8_t *labels;
    float *out, *out2;
    uint8_t *out_labels;
    int w, h;
};

static void band(void *arg, int i)
{
    const struct sweep *s = arg;
    int end = (i + 1) * BAND_ROWS < s->h ? (i + 1) * BAND_ROWS : s->h;
    for (int y = i * BAND_ROWS; y < end; y++)
        s->row(s, y);
}

static void sweep_run(struct sweep *s)
{
    par_for((s->h + BAND_ROWS - 1) / BAND_ROWS, band, s);
}

static void same_size(const struct flow_field *a, const struct flow_field *b)
{
    BUG_ON(a->width_px != b->width_px || a->height_px != b->height_px);
}

/* ---- warping
 * --------------------------------------------------------------------------------------------------------- */

static void warp_row(const struct sweep *s, int y)
{
    size_t o = (size_t)y * (size_t)s->w;
    for (int x = 0; x < s->w; x++, o++)
        s->out[o] = warp_sample(s->src, (float)x + s->ab->dx[o], (float)y + s->ab->dy[o], s->w, s->h);
}

void flow_warp(const struct flow_field *ab, const float *src_b, float *out_a)
{
    BUG_ON(src_b == out_a);
    struct sweep s = {.row = warp_row, .ab = ab, .src = src_b, .out = out_a, .w = ab->width_px, .h = ab->height_px};
    sweep_run(&s);
}

static void warp_label_row(const struct sweep *s, int y)
{
    size_t o = (size_t)y * (size_t)s->w;
    for (int x = 0; x < s->w; x++, o++)
        s->out_labels[o] = warp_sample_nearest(s->labels, (float)x + s->ab->dx[o], (float)y + s->ab->dy[o], s->w, s->h);
}

void flow_warp_label(const struct flow_field *ab, const uint8_t *src_b, uint8_t *out_a)
{
    BUG_ON(src_b == out_a);
    struct sweep s = {
        .row = warp_label_row, .ab = ab, .labels = src_b, .out_labels = out_a, .w = ab->width_px, .h = ab->height_px};
    sweep_run(&s);
}

static void chain_row(const struct sweep *s, int y)
{
    size_t o = (size_t)y * (size_t)s->w;
    for (int x = 0; x < s->w; x++, o++) {
        float dx = s->ab->dx[o], dy = s->ab->dy[o];
        struct warp_tap t = warp_tap((float)x + dx, (float)y + dy, s->w, s->h);
        s->out[o] = dx + warp_read(s->ba->dx, t);
        s->out2[o] = dy + warp_read(s->ba->dy, t);
    }
}

void flow_chain(const struct flow_field *ab, const struct flow_field *bc, struct flow_field *ac)
{
    same_size(ab, bc);
    same_size(ab, ac);
    BUG_ON(ac->dx == ab->dx || ac->dx == bc->dx);
    struct sweep s = {
        .row = chain_row, .ab = ab, .ba = bc, .out = ac->dx, .out2 = ac->dy, .w = ab->width_px, .h = ab->height_px};
    sweep_run(&s);
}

/* ---- consistency
 * ----------------------------------------------------------------------------------------------------- */

static void consistency_row(const struct sweep *s, int y)
{
    size_t o = (size_t)y * (size_t)s->w;
    for (int x = 0; x < s->w; x++, o++) {
        float dx = s->ab->dx[o], dy = s->ab->dy[o];
        struct warp_tap t = warp_tap((float)x + dx, (float)y + dy, s->w, s->h);
        s->out[o] = warp_gap(dx, dy, warp_read(s->ba->dx, t), warp_read(s->ba->dy, t));
    }
}

void flow_consistency(const struct flow_field *ab, const struct flow_field *ba, float *err_px)
{
    same_size(ab, ba);
    struct sweep s = {.row = consistency_row, .ab = ab, .ba = ba, .out = err_px, .w = ab->width_px, .h = ab->height_px};
    sweep_run(&s);
}

static void occlusion_row(const struct sweep *s, int y)
{
    size_t o = (size_t)y * (size_t)s->w;
    for (int x = 0; x < s->w; x++, o++) {
        float dx = s->ab->dx[o], dy = s->ab->dy[o], px = (float)x + dx, py = (float)y + dy;
        struct warp_tap t = warp_tap(px, py, s->w, s->h);
        s->out_labels[o] = (uint8_t)(!warp_inside(px, py, s->w, s->h) ||
                                     warp_occluded(dx, dy, warp_read(s->ba->dx, t), warp_read(s->ba->dy, t)));
    }
}

void flow_occlusion(const struct flow_field *ab, const struct flow_field *ba, uint8_t *occluded)
{
    same_size(ab, ba);
    struct sweep s = {
        .row = occlusion_row, .ab = ab, .ba = ba, .out_labels = occluded, .w = ab->width_px, .h = ab->height_px};
    sweep_run(&s);
}

static void reliability_row(const struct sweep *s, int y)
{
    size_t o = (size_t)y * (size_t)s->w;
    float scale = (float)(FLOW_RELIABILITY_SCALE * hypot(s->w, s->h));
    for (int x = 0; x < s->w; x++, o++) {
        float dx = s->ab->dx[o], dy = s->ab->dy[o], px = (float)x + dx, py = (float)y + dy;
        struct warp_tap t = warp_tap(px, py, s->w, s->h);
        float gap2 = warp_gap2(dx, dy, warp_read(s->ba->dx, t), warp_read(s->ba->dy, t));
        bool known = warp_inside(px, py, s->w, s->h) && gap2 >= 0.0f; /* NaN is not reliable */
        s->out[o] = known ? exp_neg(-sqrtf(gap2) / scale) : 0.0f;
    }
}

void flow_reliability(const struct flow_field *ab, const struct flow_field *ba, float *r)
{
    same_size(ab, ba);
    struct sweep s = {.row = reliability_row, .ab = ab, .ba = ba, .out = r, .w = ab->width_px, .h = ab->height_px};
    sweep_run(&s);
}

/* ---- measures and sizes
 * ---------------------------------------------------------------------------------------------- */

static void magnitude_row(const struct sweep *s, int y)
{
    size_t o = (size_t)y * (size_t)s->w;
    float kx = 1.0f / (float)s->w, ky = 1.0f / (float)s->h;
    for (int x = 0; x < s->w; x++, o++)
        s->out[o] = warp_motion(s->ab->dx[o], s->ab->dy[o], kx, ky);
}

void flow_magnitude(const struct flow_field *ab, float *out)
{
    struct sweep s = {.row = magnitude_row, .ab = ab, .out = out, .w = ab->width_px, .h = ab->height_px};
    sweep_run(&s);
}

static void resize_row(const struct sweep *s, int y)
{
    const struct flow_field *in = s->ab;
    size_t o = (size_t)y * (size_t)s->w;
    float in_per_x = (float)in->width_px / (float)s->w, in_per_y = (float)in->height_px / (float)s->h;
    float sy = ((float)y + 0.5f) * in_per_y - 0.5f;
    for (int x = 0; x < s->w; x++, o++) {
        struct warp_tap t = warp_tap(((float)x + 0.5f) * in_per_x - 0.5f, sy, in->width_px, in->height_px);
        s->out[o] = warp_read(in->dx, t) / in_per_x;
        s->out2[o] = warp_read(in->dy, t) / in_per_y;
    }
}

void flow_resize(const struct flow_field *in, struct flow_field *out)
{
    BUG_ON(in->dx == out->dx);
    struct sweep s = {
        .row = resize_row, .ab = in, .out = out->dx, .out2 = out->dy, .w = out->width_px, .h = out->height_px};
    sweep_run(&s);
}
