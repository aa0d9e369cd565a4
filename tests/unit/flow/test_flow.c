/* Flow: the per-pixel operations against a plain double-precision reference, and estimation on pictures whose motion is known. */
#include "tests/unit/check.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/flow/fgplg_input.h"
#include "core/flow/flow.h"
#include "core/kernel/warp.h"

static float *plane(int w, int h)
{
    float *p = calloc((size_t)w * (size_t)h, sizeof(*p));
    assert_non_null(p);
    return p;
}

static void field(struct flow_field *f, int w, int h)
{
    struct err e = {0};
    assert_int_equal(flow_field_init(f, w, h, &e), 0);
}

static void random_field(struct flow_field *f, struct rng *r, double reach)
{
    for (int i = 0; i < f->width_px * f->height_px; i++) {
        f->dx[i] = (float)rng_range(r, -reach, reach);
        f->dy[i] = (float)rng_range(r, -reach, reach);
    }
}

/* ---- reference ------------------------------------------------------------------------------------------------------- */

static double clamp(double x, double hi)
{
    return x < 0 ? 0 : x > hi ? hi : x;
}

static double ref_sample(const float *p, double x, double y, int w, int h)
{
    x = clamp(x, w - 1);
    y = clamp(y, h - 1);
    int x0 = (int)floor(x), y0 = (int)floor(y), x1 = x0 < w - 1 ? x0 + 1 : x0, y1 = y0 < h - 1 ? y0 + 1 : y0;
    double fx = x - x0, fy = y - y0;
    return (1 - fy) * ((1 - fx) * p[y0 * w + x0] + fx * p[y0 * w + x1]) +
           fy * ((1 - fx) * p[y1 * w + x0] + fx * p[y1 * w + x1]);
}

static void check_warp(int w, int h, double reach, struct rng *r)
{
    struct flow_field f;
    field(&f, w, h);
    random_field(&f, r, reach);
    float *src = plane(w, h), *out = plane(w, h);
    for (int i = 0; i < w * h; i++)
        src[i] = (float)rng_normal(r);
    flow_warp(&f, src, out);
    for (int y = 0, i = 0; y < h; y++)
        for (int x = 0; x < w; x++, i++)
            assert_true(fabs(out[i] - ref_sample(src, (double)x + f.dx[i], (double)y + f.dy[i], w, h)) < 1e-3);
    free(src);
    free(out);
    flow_field_fini(&f);
}

static void warp_matches_reference(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 9}, {7, 1}, {2, 2}, {17, 33}, {64, 48}, {101, 37}};
    struct rng r;
    rng_seed(&r, 1);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        check_warp(sizes[s][0], sizes[s][1], 3.0, &r);
        check_warp(sizes[s][0], sizes[s][1], 300.0, &r);
    }
}

static void warp_takes_any_number(void **state)
{
    (void)state;
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f, -3.4e38f, 1e-42f, -0.0f, 2147483648.0f};
    enum { W = 9, H = 5 };
    struct flow_field f, g, fg;
    field(&f, W, H);
    field(&g, W, H);
    field(&fg, W, H);
    float src[W * H], out[W * H];
    uint8_t lab[W * H], lab_out[W * H], occ[W * H];
    for (int i = 0; i < W * H; i++) {
        src[i] = (float)(i % 7) / 7.0f;
        lab[i] = (uint8_t)(i % 5);
        f.dx[i] = odd[i % 9];
        f.dy[i] = odd[(i * 4 + 1) % 9];
    }
    flow_warp(&f, src, out);
    flow_warp_label(&f, lab, lab_out);
    for (int i = 0; i < W * H; i++)
        assert_true(out[i] >= 0.0f && out[i] <= 1.0f && lab_out[i] < 5);
    flow_reliability(&f, &g, out);
    flow_occlusion(&f, &g, occ);
    for (int i = 0; i < W * H; i++) {
        bool far = !(fabsf(f.dx[i]) < 100 && fabsf(f.dy[i]) < 100);
        assert_true(out[i] >= 0.0f && out[i] <= 1.0f);
        assert_true(!far || (occ[i] == 1 && out[i] == 0.0f));
    }
    flow_chain(&f, &g, &fg);
    flow_field_fini(&f);
    flow_field_fini(&g);
    flow_field_fini(&fg);
}

static void label_warp_rounds_and_keeps_labels(void **state)
{
    (void)state;
    enum { W = 4, H = 1 };
    struct flow_field f;
    field(&f, W, H);
    const uint8_t src[W] = {10, 20, 200, 255};
    const float dx[W] = {0.49f, 0.5f, -1.51f, 90.0f};
    uint8_t out[W];
    memcpy(f.dx, dx, sizeof(dx));
    flow_warp_label(&f, src, out);
    assert_int_equal(out[0], 10);
    assert_int_equal(out[1], 200);
    assert_int_equal(out[2], 10);
    assert_int_equal(out[3], 255);
    flow_field_fini(&f);
}

static void chain_of_steps_adds_up(void **state)
{
    (void)state;
    enum { W = 31, H = 22 };
    struct flow_field ab, bc, ac;
    field(&ab, W, H);
    field(&bc, W, H);
    field(&ac, W, H);
    for (int i = 0; i < W * H; i++) {
        ab.dx[i] = 2.5f;
        ab.dy[i] = -1.0f;
        bc.dx[i] = 0.25f * (float)(i % W); /* linear in x, so bilinear sampling is exact away from the border */
        bc.dy[i] = 4.0f;
    }
    flow_chain(&ab, &bc, &ac);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W - 3; x++) {
            assert_true(fabsf(ac.dx[y * W + x] - (2.5f + 0.25f * ((float)x + 2.5f))) < 1e-4f);
            assert_true(fabsf(ac.dy[y * W + x] - 3.0f) < 1e-4f);
        }
    flow_field_fini(&ab);
    flow_field_fini(&bc);
    flow_field_fini(&ac);
}

static void consistency_of_translation(void **state)
{
    (void)state;
    enum { W = 40, H = 30 };
    struct flow_field ab, ba;
    field(&ab, W, H);
    field(&ba, W, H);
    for (int i = 0; i < W * H; i++) {
        ab.dx[i] = 6.0f;
        ba.dx[i] = i / W < H / 2 ? -6.0f : 3.0f; /* the lower half contradicts by 9 px */
    }
    float err[W * H], r[W * H];
    uint8_t occ[W * H];
    flow_consistency(&ab, &ba, err);
    flow_occlusion(&ab, &ba, occ);
    flow_reliability(&ab, &ba, r);
    for (int i = 0; i < W * H; i++) {
        bool inside = i % W + 6 < W, good = i / W < H / 2;
        assert_true(fabsf(err[i] - (good ? 0.0f : 9.0f)) < 1e-5f);
        assert_int_equal(occ[i], !(inside && good));
        assert_true(inside && good ? r[i] > 0.999f : r[i] < 0.01f);
    }
    flow_field_fini(&ab);
    flow_field_fini(&ba);
}

static void magnitude_and_resize_are_relative(void **state)
{
    (void)state;
    struct flow_field f, g;
    field(&f, 40, 20);
    field(&g, 25, 30);
    for (int i = 0; i < 40 * 20; i++) {
        f.dx[i] = 4.0f;
        f.dy[i] = -3.0f;
    }
    flow_resize(&f, &g);
    float a[40 * 20], b[25 * 30];
    flow_magnitude(&f, a);
    flow_magnitude(&g, b);
    float want = hypotf(4.0f / 40.0f, 3.0f / 20.0f);
    for (int i = 0; i < 25 * 30; i++) {
        assert_true(fabsf(g.dx[i] - 2.5f) < 1e-5f && fabsf(g.dy[i] + 4.5f) < 1e-5f);
        assert_true(fabsf(a[i] - want) < 1e-6f && fabsf(b[i] - want) < 1e-6f);
    }
    flow_field_fini(&f);
    flow_field_fini(&g);
}

/* ---- estimation ------------------------------------------------------------------------------------------------------ */

/* Smooth texture without repetition, at any real position. */
static double texture(double x, double y)
{
    return 128 + 40 * sin(x * 0.21 + 3 * sin(y * 0.05)) + 40 * sin(y * 0.17 + 2 * sin(x * 0.037)) +
           30 * sin((x + y) * 0.09) * sin((x - 1.7 * y) * 0.31);
}

static void shifted(uint8_t *out, int w, int h, int channels, double sx, double sy)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < channels; c++)
                out[(y * w + x) * channels + c] = (uint8_t)clamp(texture(x + sx, y + sy), 255);
}

static void check_translation(const char *spec, int channels)
{
    enum { W = 133, H = 97 };
    static uint8_t pa[W * H * 3], pb[W * H * 3];
    shifted(pa, W, H, channels, 0, 0);
    shifted(pb, W, H, channels, -3.5, 2.0); /* b(x) = texture(x - 3.5): a's pixel x is found at x + 3.5 */
    struct flow_image a = {pa, W, H, W * channels, channels}, b = {pb, W, H, W * channels, channels};
    struct err e = {0};
    struct flow *f;
    assert_int_equal(flow_open(spec, &f, &e), 0);
    struct flow_field ab, ba;
    field(&ab, W, H);
    field(&ba, W, H);
    assert_int_equal(flow_compute_pair(f, &a, &b, &ab, &ba, &e), 0);
    double sum = 0;
    for (int y = 10; y < H - 10; y++)
        for (int x = 10; x < W - 10; x++)
            sum += hypot(ab.dx[y * W + x] - 3.5, ab.dy[y * W + x] + 2.0) +
                   hypot(ba.dx[y * W + x] + 3.5, ba.dy[y * W + x] - 2.0);
    sum /= 2.0 * (W - 20) * (H - 20);
    if (!(sum < 0.25))
        fail_msg("%s: mean end-point error %.3f px", spec, sum);
    flow_field_fini(&ab);
    flow_field_fini(&ba);
    flow_close(f);
}

static void dis_finds_translation(void **state)
{
    (void)state;
    check_translation("dis", 1);
    check_translation("dis:fast", 3);
    check_translation("dis:fine", 3);
}

static void dis_is_repeatable_and_keeps_no_state(void **state)
{
    (void)state;
    enum { W = 80, H = 64 };
    static uint8_t pa[W * H], pb[W * H], pc[W * H];
    shifted(pa, W, H, 1, 0, 0);
    shifted(pb, W, H, 1, 4, 1);
    shifted(pc, W, H, 1, -9, 6);
    struct flow_image a = {pa, W, H, W, 1}, b = {pb, W, H, W, 1}, c = {pc, W, H, W, 1};
    struct err e = {0};
    struct flow *f;
    struct flow_field one, two, other;
    assert_int_equal(flow_open("dis:medium", &f, &e), 0);
    field(&one, W, H);
    field(&two, W, H);
    field(&other, W, H);
    assert_int_equal(flow_compute(f, &a, &b, &one, &e), 0);
    assert_int_equal(flow_compute(f, &a, &c, &other, &e), 0);
    assert_int_equal(flow_compute(f, &a, &b, &two, &e), 0);
    assert_memory_equal(one.dx, two.dx, 2 * W * H * sizeof(float));
    flow_field_fini(&one);
    flow_field_fini(&two);
    flow_field_fini(&other);
    flow_close(f);
}

/* Halved pictures with flow_open_halved give what whole ones give with flow_open, in their own pixels. */
static void halved_pictures_lose_no_flow(void **state)
{
    (void)state;
    enum { W = 160, H = 128, HW = W / 2, HH = H / 2 };
    static uint8_t whole[2][W * H], half[2][HW * HH];
    struct err e = {0};
    struct flow *f, *fh;
    struct flow_field out, out_h;
    for (int k = 0; k < 2; k++) {
        shifted(whole[k], W, H, 1, k ? 6 : 0, k ? -4 : 0);
        for (int i = 0; i < HW * HH; i++) {
            const uint8_t *p = whole[k] + 2 * (i / HW) * W + 2 * (i % HW);
            half[k][i] = (uint8_t)((p[0] + p[1] + p[W] + p[W + 1] + 2) / 4);
        }
    }
    assert_int_equal(flow_open("dis:medium", &f, &e), 0);
    assert_int_equal(flow_open_halved("dis:medium", 1, &fh, &e), 0);
    field(&out, W, H);
    field(&out_h, HW, HH);
    struct flow_image a = {whole[0], W, H, W, 1}, b = {whole[1], W, H, W, 1};
    struct flow_image ah = {half[0], HW, HH, HW, 1}, bh = {half[1], HW, HH, HW, 1};
    assert_int_equal(flow_compute(f, &a, &b, &out, &e), 0);
    assert_int_equal(flow_compute(fh, &ah, &bh, &out_h, &e), 0);
    double gap = 0;
    for (int y = 8; y < HH - 8; y++)
        for (int x = 8; x < HW - 8; x++)
            gap += fabs((double)out.dx[2 * y * W + 2 * x] - 2 * (double)out_h.dx[y * HW + x]);
    assert_true(gap / ((HH - 16) * (HW - 16)) < 0.1);
    flow_field_fini(&out);
    flow_field_fini(&out_h);
    flow_close(f);
    flow_close(fh);
}

static void bad_requests_are_refused(void **state)
{
    (void)state;
    struct err e = {0};
    struct flow *f = NULL;
    assert_int_equal(flow_open("raft", &f, &e), ERR_INVALID);
    assert_non_null(strstr(e.msg, "dis:medium"));
    assert_int_equal(flow_open("dis:sharp", &f, &e), ERR_INVALID);
    assert_int_equal(flow_open("dis:", &f, &e), ERR_INVALID);
    assert_int_equal(flow_open("", &f, &e), ERR_INVALID);
    assert_null(f);
    assert_int_equal(flow_open("dis", &f, &e), 0);
    assert_string_equal(flow_name(f), "dis:brisk");
    static uint8_t px[64 * 64 * 3];
    struct flow_field out;
    field(&out, 64, 64);
    struct flow_image ok = {px, 64, 64, 64, 1}, odd = {px, 63, 64, 64, 1}, two = {px, 64, 64, 128, 2};
    assert_int_equal(flow_compute(f, &ok, &odd, &out, &e), ERR_INVALID);
    assert_int_equal(flow_compute(f, &two, &ok, &out, &e), ERR_INVALID);
    assert_int_equal(flow_compute(f, &ok, &ok, &out, &e), 0);
    flow_field_fini(&out);
    field(&out, 15, 64);
    struct flow_image tiny = {px, 15, 64, 15, 1};
    assert_int_equal(flow_compute(f, &tiny, &tiny, &out, &e), ERR_INVALID);
    flow_field_fini(&out);
    assert_int_equal(flow_field_init(&out, 0, 5, &e), ERR_INVALID);
    assert_null(out.dx);
    flow_close(f);
    flow_close(NULL);
}

static void check_still(struct flow *f, int w, int h)
{
    struct err e = {0};
    uint8_t *px = malloc((size_t)w * (size_t)h);
    assert_non_null(px);
    shifted(px, w, h, 1, 0, 0);
    struct flow_image a = {px, w, h, w, 1};
    struct flow_field out;
    field(&out, w, h);
    if (flow_compute(f, &a, &a, &out, &e))
        fail_msg("%s %d x %d: %s", flow_name(f), w, h, e.msg);
    for (int i = 0; i < w * h; i++)
        assert_true(fabsf(out.dx[i]) < 1.0f && fabsf(out.dy[i]) < 1.0f);
    flow_field_fini(&out);
    free(px);
}

static void small_pictures_work(void **state)
{
    (void)state;
    static const char *const specs[] = {"dis:brisk", "dis:fast", "dis:medium", "dis:fine"};
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        struct err e = {0};
        struct flow *f;
        assert_int_equal(flow_open(specs[i], &f, &e), 0);
        check_still(f, 16, 16);
        check_still(f, 16, 300);
        check_still(f, 301, 16);
        check_still(f, 17, 23);
        flow_close(f);
    }
}

/* ---- the generator's input ------------------------------------------------------------------------------------------- */

static void generator_channels(void **state)
{
    (void)state;
    enum { W = 24, H = 18, N = 12, P = N * N };
    static uint8_t rgb[W * H * 3];
    struct flow_field to, other;
    float warped[W * H], rel[W * H];
    field(&to, W, H);
    field(&other, W, H + 1);
    for (int i = 0; i < W * H; i++) {
        memcpy(rgb + 3 * i, "\x33\x66\xff", 3);
        to.dx[i] = 0.3f * W;
        to.dy[i] = 0.4f * H;
        warped[i] = 1.0f;
        rel[i] = 0.6f;
    }
    struct flow_image im = {rgb, W, H, W * 3, 3};
    struct fgplg_norm norm = {.mean = {0.2f, 0.0f, 0.5f}, .std = {1.0f, 0.5f, 0.25f}};
    struct fgplg_side sides[2] = {{&to, warped, rel}, {NULL, NULL, NULL}};
    static float out[FGPLG_CHANNELS * P];
    struct err e = {0};
    static const float want[2][7] = {{0.0f, 0.8f, 2.0f, 1.0f, 0.5f, 0.5f, 0.0f},
                                     {0.0f, 0.8f, 2.0f, 0.8f, 0.5f, 0.5f, 0.0f}};
    for (int style = FGPLG_PLAIN; style <= FGPLG_RELIABLE; style++) {
        assert_int_equal(fgplg_input(&im, sides, (enum fgplg_style)style, &norm, N, out, &e), 0);
        for (int i = 0; i < FGPLG_CHANNELS * P; i++)
            assert_true(fabsf(out[i] - want[style][i / P]) < 1e-5f);
    }
    sides[1] = (struct fgplg_side){&other, warped, NULL};
    assert_int_equal(fgplg_input(&im, sides, FGPLG_RELIABLE, &norm, N, out, &e), ERR_INVALID);
    flow_field_fini(&to);
    flow_field_fini(&other);
}

static void plane_resample_keeps_mean(void **state)
{
    (void)state;
    enum { W = 60, H = 44 };
    struct rng r;
    struct err e = {0};
    float src[W * H], half[W / 2 * H / 2], same[W * H];
    double a = 0, b = 0;
    rng_seed(&r, 4);
    for (int i = 0; i < W * H; i++)
        a += src[i] = (float)rng_uniform(&r);
    assert_int_equal(plane_resample(src, W, H, half, W / 2, H / 2, &e), 0);
    for (int i = 0; i < W * H / 4; i++)
        b += half[i];
    assert_true(fabs(a / (W * H) - b / (W * H / 4)) < 5e-3);
    assert_int_equal(plane_resample(src, W, H, same, W, H, &e), 0);
    for (int i = 0; i < W * H; i++)
        assert_true(fabsf(src[i] - same[i]) < 1e-6f);
    assert_int_equal(plane_resample(src, W, H, half, 0, 5, &e), ERR_INVALID);
}

int main(void)
{
    par_init(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warp_matches_reference),
        cmocka_unit_test(warp_takes_any_number),
        cmocka_unit_test(label_warp_rounds_and_keeps_labels),
        cmocka_unit_test(chain_of_steps_adds_up),
        cmocka_unit_test(consistency_of_translation),
        cmocka_unit_test(magnitude_and_resize_are_relative),
        cmocka_unit_test(dis_finds_translation),
        cmocka_unit_test(dis_is_repeatable_and_keeps_no_state),
        cmocka_unit_test(halved_pictures_lose_no_flow),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(small_pictures_work),
        cmocka_unit_test(generator_channels),
        cmocka_unit_test(plane_resample_keeps_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
