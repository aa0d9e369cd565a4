/* Vote and guided filter: against plain references, and on pictures where the right answer is known. */
#include "tests/unit/check.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/flow/gfilter.h"
#include "core/flow/vote.h"

enum { W = 53, H = 38, N = W * H };

/* A picture whose left part (x < edge) is dark and right part bright, with noise. */
static void two_halves(uint8_t *rgb, int edge, uint64_t seed)
{
    struct rng r;
    rng_seed(&r, seed);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)((i % W < edge ? 60 : 180) + rng_int(&r, 6) + 10 * c);
}

struct scene { /* one frame, one keyframe, both with an edge; the object is the bright part */
    _Alignas(64) float mine[4 * N], theirs[4 * N];
    uint8_t labels[N];
    uint32_t edges[(W + 1) * (H + 1)];
    float prior[N], prior2[N], score[N], weight[N], weight2[N];
    struct flow_field to, to2;
    struct vote v;
    uint8_t id;
    float *scores[1];
};

static struct scene *scene_new(int edge, int key_edge)
{
    static uint8_t rgb[3 * N];
    struct err e = {0};
    struct scene *s = aligned_alloc(64, (sizeof(*s) + 63) / 64 * 64);
    assert_non_null(s);
    memset(s, 0, sizeof(*s));
    struct flow_image im = {rgb, W, H, 3 * W, 3};
    two_halves(rgb, edge, 1);
    assert_int_equal(vote_features(&im, W, H, s->mine, &e), 0);
    two_halves(rgb, key_edge, 2);
    assert_int_equal(vote_features(&im, W, H, s->theirs, &e), 0);
    assert_int_equal(flow_field_init(&s->to, W, H, &e), 0);
    assert_int_equal(flow_field_init(&s->to2, W, H, &e), 0);
    s->id = 7;
    for (int i = 0; i < N; i++) {
        s->labels[i] = i % W < key_edge ? 3 : 7; /* 3 is another object */
        s->prior[i] = s->prior2[i] = 0.5f;
        s->to.dx[i] = (float)(key_edge - edge);
    }
    vote_edges(s->labels, W, H, s->edges);
    s->scores[0] = s->score;
    s->v = (struct vote){.w = W,
                         .h = H,
                         .n_candidates = 1,
                         .n_objects = 1,
                         .labels_w = W,
                         .labels_h = H,
                         .object_id = &s->id,
                         .features = s->mine,
                         .scores = s->scores,
                         .weights = {s->weight, s->weight2}};
    s->v.candidates[0] = (struct vote_candidate){&s->to, s->theirs, s->labels, s->edges, s->prior};
    s->v.candidates[1] = (struct vote_candidate){&s->to2, s->theirs, s->labels, s->edges, s->prior2};
    return s;
}

static void scene_free(struct scene *s)
{
    flow_field_fini(&s->to);
    flow_field_fini(&s->to2);
    free(s);
}

static int wrong(const struct scene *s, int edge)
{
    int n = 0;
    for (int i = 0; i < N; i++)
        n += (s->score[i] > 0.5f) != (i % W >= edge);
    return n;
}

static void right_flow_gives_the_label(void **state)
{
    (void)state;
    struct scene *s = scene_new(20, 31);
    struct err e = {0};
    assert_int_equal(vote_run(&s->v, &e), 0);
    assert_int_equal(wrong(s, 20), 0);
    for (int i = 0; i < N; i++)
        assert_true(s->score[i] >= 0 && s->score[i] <= 1.0001f && fabsf(s->weight[i] - 1) < 1e-5f);
    scene_free(s);
}

static void flow_that_is_off_by_a_pixel_is_mended(void **state)
{
    (void)state;
    struct scene *s = scene_new(20, 31);
    struct err e = {0};
    for (int i = 0; i < N; i++)
        s->to.dx[i] += 1;
    assert_int_equal(vote_run(&s->v, &e), 0);
    assert_int_equal(wrong(s, 20), 0);
    scene_free(s);
}

static void colours_decide_between_candidates(void **state)
{
    (void)state;
    struct scene *s = scene_new(20, 31); /* candidate 2 has no motion: wrong between the edges */
    struct err e = {0};
    s->v.n_candidates = 2;
    assert_int_equal(vote_run(&s->v, &e), 0);
    assert_int_equal(wrong(s, 20), 0);
    float least = 1;
    for (int i = 0; i < N; i++) {
        assert_true(fabsf(s->weight[i] + s->weight2[i] - 1) < 1e-5f);
        if (i % W > 23 && i % W < 28)
            least = s->weight[i] < least ? s->weight[i] : least;
    }
    assert_true(least > 0.99f);
    scene_free(s);
}

static void priors_decide_where_colours_do_not(void **state)
{
    (void)state;
    struct scene *s = scene_new(0, 0); /* one colour everywhere */
    struct err e = {0};
    for (int i = 0; i < N; i++) {
        s->labels[i] = i % W < 26 ? 0 : 7;
        s->to.dx[i] = 40; /* candidate 1 says object, candidate 2 background, in the left part */
        s->prior2[i] = 0.125f;
    }
    vote_edges(s->labels, W, H, s->edges);
    s->v.n_candidates = 2;
    assert_int_equal(vote_run(&s->v, &e), 0);
    for (int y = 5; y < H - 5; y++)
        for (int x = 5; x < 10; x++)
            assert_true(fabsf(s->score[y * W + x] - 0.8f) < 0.03f);
    scene_free(s);
}

static void edges_tell_whether_a_rectangle_has_one_label(void **state)
{
    (void)state;
    static uint8_t labels[N];
    static uint32_t edges[(W + 1) * (H + 1)];
    struct rng r;
    rng_seed(&r, 3);
    memset(labels, 4, sizeof(labels));
    for (int i = 0; i < 5; i++)
        labels[rng_int(&r, N)] = 9;
    vote_edges(labels, W, H, edges);
    for (int i = 0; i < 4000; i++) {
        int x0 = rng_int(&r, W), x1 = x0 + rng_int(&r, W - x0), y0 = rng_int(&r, H), y1 = y0 + rng_int(&r, H - y0);
        uint32_t want = 0;
        for (int y = y0; y <= y1; y++)
            for (int x = x0; x <= x1; x++) {
                const uint8_t *p = &labels[y * W + x];
                want += (x + 1 < W && p[0] != p[1]) || (y + 1 < H && p[0] != p[W]);
            }
        const uint32_t *top = edges + y0 * (W + 1), *end = edges + (y1 + 1) * (W + 1);
        assert_int_equal(end[x1 + 1] - end[x0] - top[x1 + 1] + top[x0], want);
    }
}

/* The quick answer for a tile must not swallow a single pixel of another label. */
static void a_lone_pixel_is_not_overlooked(void **state)
{
    (void)state;
    struct scene *s = scene_new(0, 0); /* no motion, one colour */
    struct err e = {0};
    for (int at = 0; at < N; at += 37) {
        for (int i = 0; i < N; i++)
            s->labels[i] = i == at ? 7 : 0;
        vote_edges(s->labels, W, H, s->edges);
        assert_int_equal(vote_run(&s->v, &e), 0);
        assert_true(s->score[at] > 0.05f);
    }
    scene_free(s);
}

static void wild_flow_is_safe(void **state)
{
    (void)state;
    struct scene *s = scene_new(20, 31);
    struct err e = {0};
    static const float odd[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 0.5f};
    for (int i = 0; i < N; i++) {
        s->to.dx[i] = odd[i % 6];
        s->to.dy[i] = odd[(i / 6) % 6];
        s->prior[i] = i % 2 ? 0 : 1;
    }
    assert_int_equal(vote_run(&s->v, &e), 0);
    for (int i = 0; i < N; i++)
        assert_true(s->score[i] >= 0 && s->score[i] <= 1.0001f && s->weight[i] >= 0);
    s->v.n_candidates = 0;
    assert_int_equal(vote_run(&s->v, &e), ERR_INVALID);
    scene_free(s);
}

/* ---- guided filter --------------------------------------------------------------------------------------------------- */

static const struct gfilter_rect whole = {0, 0, W, H};

static double window_mean(const double *p, int x, int y, int r)
{
    double sum = 0;
    int n = 0;
    for (int v = y - r; v <= y + r; v++)
        for (int u = x - r; u <= x + r; u++)
            if (u >= 0 && v >= 0 && u < W && v < H) {
                sum += p[v * W + u];
                n++;
            }
    return sum / n;
}

/* With a grey guide all three channels are equal, so the filter is the scalar one with eps / 3. */
static void reference(const uint8_t *grey, const float *p, int r, double eps, double *out)
{
    static double g[N], q[N], gg[N], gp[N], a[N], b[N];
    for (int i = 0; i < N; i++) {
        g[i] = grey[i] / 255.0;
        q[i] = p[i];
        gg[i] = g[i] * g[i];
        gp[i] = g[i] * q[i];
    }
    for (int i = 0; i < N; i++) {
        double m = window_mean(g, i % W, i / W, r), mp = window_mean(q, i % W, i / W, r);
        double var = window_mean(gg, i % W, i / W, r) - m * m;
        a[i] = (window_mean(gp, i % W, i / W, r) - m * mp) / (var + eps / 3);
        b[i] = mp - a[i] * m;
    }
    for (int i = 0; i < N; i++)
        out[i] = fmin(1, fmax(0, window_mean(a, i % W, i / W, r) * g[i] + window_mean(b, i % W, i / W, r)));
}

static void filter_matches_reference(void **state)
{
    (void)state;
    static uint8_t grey[N];
    static float p[N];
    static double want[N];
    struct rng r;
    rng_seed(&r, 9);
    for (int i = 0; i < N; i++) {
        grey[i] = (uint8_t)rng_int(&r, 256);
        p[i] = (float)rng_uniform(&r);
    }
    static const int radii[] = {1, 4, 60};
    for (int k = 0; k < 3; k++) {
        struct err e = {0};
        struct gfilter *g;
        float q[N];
        memcpy(q, p, sizeof(q));
        reference(grey, p, radii[k], 1e-2, want);
        assert_int_equal(gfilter_open(&(struct flow_image){grey, W, H, W, 1}, whole, radii[k], 1e-2f, &g, &e), 0);
        assert_int_equal(gfilter_run(g, q, (struct gfilter_rect){0, 0, W, H}, &e), 0);
        for (int i = 0; i < N; i++)
            assert_true(fabs(q[i] - want[i]) < 2e-3);
        gfilter_close(g);
    }
}

static void filter_snaps_to_the_edge(void **state)
{
    (void)state;
    static uint8_t rgb[3 * N];
    static float p[N];
    struct err e = {0};
    struct gfilter *g;
    two_halves(rgb, 30, 5);
    for (int i = 0; i < N; i++)
        p[i] = i % W < 28 ? 0.0f : 1.0f; /* two pixels off */
    assert_int_equal(gfilter_open(&(struct flow_image){rgb, W, H, 3 * W, 3}, whole, 5, 1e-3f, &g, &e), 0);
    assert_int_equal(gfilter_run(g, p, (struct gfilter_rect){0, 0, W, H}, &e), 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(p[i] > 0.5f, i % W >= 30);
    gfilter_close(g);
}

static void filter_leaves_the_rest_alone(void **state)
{
    (void)state;
    static uint8_t rgb[3 * N];
    static float p[N];
    struct err e = {0};
    struct gfilter *g;
    struct gfilter_rect r = {7, 3, 12, 1};
    two_halves(rgb, 10, 6);
    for (int i = 0; i < N; i++)
        p[i] = (float)(i % 3);
    assert_int_equal(
        gfilter_open(&(struct flow_image){rgb, W, H, 3 * W, 3}, (struct gfilter_rect){5, 2, 20, 9}, 3, 1e-3f, &g, &e),
        0);
    assert_int_equal(gfilter_run(g, p, r, &e), 0);
    for (int i = 0; i < N; i++) {
        bool inside = i % W >= r.x && i % W < r.x + r.w && i / W == r.y;
        assert_true(inside ? p[i] >= 0 && p[i] <= 1 : p[i] == (float)(i % 3));
    }
    gfilter_close(g);
    assert_int_equal(gfilter_open(&(struct flow_image){rgb, W, H, 3 * W, 3}, whole, 0, 1e-3f, &g, &e), ERR_INVALID);
    assert_null(g);
    gfilter_close(NULL);
}

int main(void)
{
    par_init(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_flow_gives_the_label),
        cmocka_unit_test(flow_that_is_off_by_a_pixel_is_mended),
        cmocka_unit_test(colours_decide_between_candidates),
        cmocka_unit_test(priors_decide_where_colours_do_not),
        cmocka_unit_test(edges_tell_whether_a_rectangle_has_one_label),
        cmocka_unit_test(a_lone_pixel_is_not_overlooked),
        cmocka_unit_test(wild_flow_is_safe),
        cmocka_unit_test(filter_matches_reference),
        cmocka_unit_test(filter_snaps_to_the_edge),
        cmocka_unit_test(filter_leaves_the_rest_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
