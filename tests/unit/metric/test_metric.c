/* core/metric: values of the reference tools for pairs made by formula, and what only this implementation promises. */
#include "tests/unit/check.h"

#include <math.h>

#include "core/metric/metric.h"

/* ---- pairs by formula; make_pairs.py has the same formulas ------------------------------------------------------------ */

enum { SIDE_MAX = 200, VALUES = 11 };

static const struct pair {
    int w, h, gt, pred;
    uint32_t seed;
    double want[VALUES];
} pairs[] = {
#include "tests/unit/metric/pairs.inc"
};

static uint32_t next(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s >> 8;
}

static void make_gt(const struct pair *p, uint8_t *g)
{
    uint32_t s = p->seed;
    int w = p->w, h = p->h;
    memset(g, p->gt == 1 ? 255 : 0, (size_t)(w * h));
    if (p->gt == 2) {
        int y = (int)next(&s) % h, x = (int)next(&s) % w;
        g[y * w + x] = 255;
    } else if (p->gt == 3) {
        int y0 = (int)next(&s) % h, x0 = (int)next(&s) % w;
        int y1 = y0 + 1 + (int)next(&s) % h, x1 = x0 + 1 + (int)next(&s) % w;
        for (int y = y0; y < y1 && y < h; y++)
            for (int x = x0; x < x1 && x < w; x++)
                g[y * w + x] = 255;
    } else if (p->gt == 7) {
        memset(g + w * (h - 1), 255, (size_t)w);
    } else if (p->gt == 8) {
        for (int y = 0; y < h; y++)
            g[y * w + w - 1] = 255;
    } else if (p->gt == 9) {
        g[w * h - 1] = 255;
    } else if (p->gt == 10) {
        int y = (int)next(&s) % h, x = (int)next(&s) % w;
        memset(g, 255, (size_t)(w * h));
        g[y * w + x] = 0;
    }
    double cy = h / 2.0, cx = w / 2.0, q = (h * h + w * w) / 30.0;
    for (int y = 0; y < h && p->gt >= 4 && p->gt <= 6; y++)
        for (int x = 0; x < w; x++)
            g[y * w + x] = p->gt == 4   ? ((x + y) % 2 ? 255 : 0)
                           : p->gt == 5 ? (uint8_t)(126 + next(&s) % 6)
                                        : ((y - cy) * (y - cy) + (x - cx) * (x - cx) < q ? 255 : 0);
}

static void make_pred(const struct pair *p, const uint8_t *g, uint8_t *out)
{
    uint32_t s = p->seed + 77;
    uint8_t level[2];
    level[0] = (uint8_t)next(&s);
    level[1] = (uint8_t)next(&s);
    for (int y = 0; y < p->h; y++)
        for (int x = 0; x < p->w; x++) {
            int i = y * p->w + x, fg = g[i] > 128, v = 0;
            switch (p->pred) {
            case 1:
                v = level[0];
                break;
            case 2:
                v = g[i];
                break;
            case 3:
                v = 255 - g[i];
                break;
            case 4:
                v = (int)(next(&s) % 256);
                break;
            case 5:
                v = level[fg];
                break;
            case 6:
                v = (fg ? 180 : 20) + (int)(next(&s) % 60);
                break;
            case 7:
                v = level[2 * y < p->h ? 0 : 1];
                break;
            case 8:
                v = x * 255 / (p->w > 1 ? p->w - 1 : 1);
                break;
            case 9:
                v = level[x == y];
                break;
            case 10:
                v = fg ? 255 : 127 + (int)(next(&s) % 3);
                break;
            }
            out[i] = (uint8_t)v;
        }
}

static struct metric_frame result; /* large: kept off the stack */
static struct metric_scratch *scratch;

static const struct metric_frame *run(const uint8_t *pred, const uint8_t *gt, int w, int h, const struct metric_opts *o)
{
    struct metric_image a = {pred, w, h, w}, b = {gt, w, h, w};
    struct err e;
    assert_int_equal(metric_frame(scratch, &a, &b, o ? o : &metric_opts_default, &result, &e), 0);
    return &result;
}

static double curve_max(const double *v)
{
    double best = v[0];
    for (int i = 1; i < METRIC_THRESHOLDS; i++)
        best = v[i] > best ? v[i] : best;
    return best;
}

static double curve_mean(const double *v)
{
    double sum = 0;
    for (int i = 0; i < METRIC_THRESHOLDS; i++)
        sum += v[i];
    return sum / METRIC_THRESHOLDS;
}

static int same(double got, double want)
{
    if (isnan(got) || isnan(want))
        return isnan(got) && isnan(want);
    return fabs(got - want) <= 1e-10 * (fabs(want) > 1 ? fabs(want) : 1);
}

static void values_are_the_reference_tools(void **state)
{
    static const char *const names[VALUES] = {"mae",    "s",     "wf",     "adaptive_f", "adaptive_e", "max_f",
                                              "mean_f", "max_e", "mean_e", "j",          "boundary_f"};
    static uint8_t g[SIDE_MAX * SIDE_MAX], p[SIDE_MAX * SIDE_MAX];
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        const struct pair *c = &pairs[i];
        make_gt(c, g);
        make_pred(c, g, p);
        const struct metric_frame *m = run(p, g, c->w, c->h, NULL);
        const double got[VALUES] = {m->mae,          m->s_measure,     m->weighted_f,   m->adaptive_f,    m->adaptive_e,
                                    curve_max(m->f), curve_mean(m->f), curve_max(m->e), curve_mean(m->e), m->j,
                                    m->boundary_f};
        for (int k = 0; k < VALUES; k++)
            if (!same(got[k], c->want[k])) {
                printf("%dx%d gt %d pred %d seed %u: %s %.17g, not %.17g\n", c->w, c->h, c->gt, c->pred, c->seed,
                       names[k], got[k], c->want[k]);
                bad++;
            }
    }
    assert_int_equal(bad, 0);
}

/* ---- what the pairs do not show ---------------------------------------------------------------------------------------- */

static void padded_lines_change_nothing(void **state)
{
    enum { W = 13, H = 9, STRIDE = 32 };
    static uint8_t g[W * H], p[W * H], gp[STRIDE * H], pp[STRIDE * H];
    (void)state;
    struct pair c = {W, H, 3, 4, 5, {0}};
    make_gt(&c, g);
    make_pred(&c, g, p);
    memset(gp, 200, sizeof(gp));
    memset(pp, 99, sizeof(pp));
    for (int y = 0; y < H; y++) {
        memcpy(gp + y * STRIDE, g + y * W, W);
        memcpy(pp + y * STRIDE, p + y * W, W);
    }
    struct metric_frame *packed = malloc(sizeof(*packed)), *padded = malloc(sizeof(*padded));
    *packed = *run(p, g, W, H, NULL);
    struct metric_scratch *s = metric_scratch_new();
    struct metric_image a = {pp, W, H, STRIDE}, b = {gp, W, H, STRIDE};
    assert_int_equal(metric_frame(s, &a, &b, &metric_opts_default, padded, NULL), 0);
    assert_memory_equal(packed, padded, sizeof(*packed));
    metric_scratch_free(s);
    free(packed);
    free(padded);
}

static void sizes_must_agree(void **state)
{
    (void)state;
    uint8_t z[4] = {0};
    struct metric_scratch *s = metric_scratch_new();
    struct metric_image a = {z, 2, 2, 2}, b = {z, 2, 1, 2};
    struct err e = {0};
    assert_int_equal(metric_frame(s, &a, &b, &metric_opts_default, &result, &e), ERR_INVALID);
    assert_non_null(strstr(e.msg, "2 x 2"));
    metric_scratch_free(s);
}

/* Thresholds in double cut between the levels that 8-bit truncation merges. */
static void double_thresholds_count_as_written(void **state)
{
    enum { N = 256 };
    static uint8_t p[N], g[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        p[i] = (uint8_t)i;
        g[i] = i >= 100 ? 255 : 0;
    }
    struct metric_opts o = metric_opts_default;
    o.cut = METRIC_CUT_DOUBLE;
    const struct metric_frame *m = run(p, g, N, 1, &o);
    for (int t = 0; t < METRIC_THRESHOLDS; t++) {
        double limit = 1.0 - (255 - t) / 255.0;
        int fg = 0, on = 0;
        for (int i = 0; i < N; i++) {
            on += i / 255.0 >= limit;
            fg += i / 255.0 >= limit && i >= 100;
        }
        assert_true(same(m->precision[t], (double)fg / on));
        assert_true(same(m->recall[t], fg / 156.0));
    }
}

static void statistics_are_those_of_davis(void **state)
{
    (void)state;
    const double v[] = {0.9, 0.8, NAN, 0.5, 0.4, 0.3, 0.2, 0.1};
    struct metric_stats s = metric_stats(v, 8);
    /* bins of frames 0..2, 2..3 (rounded half to even), ..., 5..7 */
    assert_true(same(s.mean, 3.2 / 7));
    assert_true(same(s.recall, 2.0 / 8)); /* 0.5 is not above 0.5 */
    assert_true(same(s.decay, (0.9 + 0.8) / 2 - (0.3 + 0.2 + 0.1) / 3));
    s = metric_stats(v, 1);
    assert_true(same(s.mean, 0.9) && same(s.recall, 1) && same(s.decay, 0));
    s = metric_stats(v, 0);
    assert_true(isnan(s.mean) && isnan(s.recall) && isnan(s.decay));
}

static void disc(uint8_t *m, int side, int cx, int cy, int r)
{
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            if ((x - cx) * (x - cx) + (y - cy) * (y - cy) <= r * r)
                m[y * side + x] = 255;
}

static double instability(const uint8_t *a, const uint8_t *b, int side)
{
    struct metric_shape *s = malloc(2 * sizeof(*s));
    metric_shape(&run(a, a, side, side, NULL)->contour, &s[0]);
    metric_shape(&run(b, b, side, side, NULL)->contour, &s[1]);
    double cost = metric_shape_cost(&s[0], &s[1]);
    free(s);
    return cost;
}

static void stability_sees_shape_not_motion(void **state)
{
    enum { SIDE = 100 };
    static uint8_t still[SIDE * SIDE], moved[SIDE * SIDE], broken[SIDE * SIDE], empty[SIDE * SIDE];
    (void)state;
    disc(still, SIDE, 40, 40, 20);
    disc(moved, SIDE, 55, 47, 20);
    disc(broken, SIDE, 40, 40, 20);
    for (int y = 20; y < 61; y++)
        memset(broken + y * SIDE + 36, 0, (size_t)(y % 7 ? 9 : 30));
    assert_true(same(instability(still, still, SIDE), 0));
    assert_true(instability(still, moved, SIDE) < 1e-6);
    assert_true(instability(still, broken, SIDE) > 0.05);
    assert_true(instability(still, broken, SIDE) <= 1);
    assert_true(isnan(instability(still, empty, SIDE)));
    assert_int_equal(run(still, still, SIDE, SIDE, NULL)->contour.n, METRIC_CONTOUR_POINTS);
    assert_int_equal(run(empty, still, SIDE, SIDE, NULL)->contour.n, 0);
}

static void names_are_found(void **state)
{
    (void)state;
    assert_int_equal(metric_find("max_f", 5), METRIC_MAX_F);
    assert_int_equal(metric_find("max_f:0.8", 5), METRIC_MAX_F);
    assert_int_equal(metric_find("max", 3), -1);
    for (int i = 0; i < METRIC_COUNT; i++)
        assert_int_equal(metric_find(metric_name((enum metric_id)i), strlen(metric_name((enum metric_id)i))), i);
    assert_true(metric_lower_is_better(METRIC_MAE));
    assert_false(metric_lower_is_better(METRIC_S_MEASURE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_the_reference_tools),
        cmocka_unit_test(padded_lines_change_nothing),
        cmocka_unit_test(sizes_must_agree),
        cmocka_unit_test(double_thresholds_count_as_written),
        cmocka_unit_test(statistics_are_those_of_davis),
        cmocka_unit_test(stability_sees_shape_not_motion),
        cmocka_unit_test(names_are_found),
    };
    scratch = metric_scratch_new(); /* one for all: it grows and is used again */
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    metric_scratch_free(scratch);
    return rc;
}
