/* frame_in and map_out against a direct evaluation in double, at odd, tiny and extreme sizes and on every instruction
 * set. */
#include "tests/unit/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/kernel/frame_in.h"
#include "core/kernel/map_out.h"
#include "core/kernel/simd.h"

static double tent(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Direct 2-D triangle filter at output pixel (ox, oy): the definition, no taps, no separability. */
static double direct(const double *img, int w, int h, int step, int ow, int oh, int ox, int oy)
{
    double sx = (double)w / ow, sy = (double)h / oh, fx = fmax(sx, 1), fy = fmax(sy, 1);
    double cx = (ox + 0.5) * sx, cy = (oy + 0.5) * sy, sum = 0, norm = 0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double k = tent((x + 0.5 - cx) / fx) * tent((y + 0.5 - cy) / fy);
            sum += k * img[((size_t)y * (size_t)w + (size_t)x) * (size_t)step];
            norm += k;
        }
    return sum / norm;
}

static const int sizes[][4] = {{1, 1, 7, 5},     {5, 3, 5, 3},       {64, 48, 17, 31},
                               {17, 31, 64, 48}, {854, 11, 32, 32},  {3, 200, 64, 7},
                               {33, 1, 1, 100},  {100, 100, 99, 98}, {2, 2, 301, 1}};

static void check_frame_in(int ch, int w, int h, int ow, int oh)
{
    const float mean[3] = {0.4F, 0.5F, 0.6F}, std[3] = {0.2F, 0.3F, 0.4F};
    struct err e;
    struct rng r;
    rng_seed(&r, (uint64_t)(w * 31 + h));
    size_t n = (size_t)w * (size_t)h * (size_t)ch, plane = (size_t)ow * (size_t)oh;
    ptrdiff_t stride = (ptrdiff_t)w * ch + 13;
    uint8_t *src = malloc((size_t)stride * (size_t)h);
    double *img = malloc(n * sizeof(*img));
    float *dst = malloc(3 * plane * sizeof(*dst));
    for (int y = 0; y < h; y++)
        for (int i = 0; i < w * ch; i++)
            img[(size_t)(y * w * ch + i)] = src[y * stride + i] = (uint8_t)rng_int(&r, 256);
    struct frame_in f;
    assert_int_equal(frame_in_init(&f, ch, w, h, ow, oh, mean, std, &e), 0);
    assert_int_equal(frame_in_run(&f, src, stride, dst, &e), 0);
    double worst = 0;
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < oh; y++)
            for (int x = 0; x < ow; x++) {
                double v = direct(img + (ch == 3 ? c : 0), w, h, ch, ow, oh, x, y);
                double want = (v / 255 - mean[c]) / std[c];
                worst = fmax(worst, fabs(dst[(size_t)c * plane + (size_t)(y * ow + x)] - want));
            }
    if (!(worst < 2e-5))
        fail_msg("%d channels %dx%d -> %dx%d: off by %g", ch, w, h, ow, oh, worst);
    frame_in_fini(&f);
    free(src);
    free(img);
    free(dst);
}

static void test_frame_in(void **state)
{
    (void)state;
    for (int level = SIMD_C; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            for (int ch = 1; ch <= 3; ch += 2)
                check_frame_in(ch, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
    }
}

static void check_map_out(int w, int h, int ow, int oh)
{
    struct err e;
    struct rng r;
    rng_seed(&r, (uint64_t)(w * 37 + h));
    size_t n = (size_t)w * (size_t)h;
    float *logits = malloc(n * sizeof(*logits));
    double *p = malloc(n * sizeof(*p));
    ptrdiff_t stride = ow + 3;
    uint8_t *dst = malloc((size_t)stride * (size_t)oh);
    memset(dst, 0xA5, (size_t)stride * (size_t)oh);
    for (size_t i = 0; i < n; i++) {
        logits[i] = (float)(4 * rng_normal(&r));
        p[i] = 1 / (1 + exp(-(double)logits[i]));
    }
    struct map_out m;
    assert_int_equal(map_out_init(&m, w, h, ow, oh, &e), 0);
    assert_int_equal(map_out_run(&m, logits, dst, stride, &e), 0);
    for (int y = 0; y < oh; y++) {
        for (int x = 0; x < ow; x++)
            assert_true(fabs(dst[y * stride + x] - 255 * direct(p, w, h, 1, ow, oh, x, y)) <= 0.501);
        for (int x = ow; x < stride; x++)
            assert_int_equal(dst[y * stride + x], 0xA5); /* nothing beyond the row */
    }
    map_out_fini(&m);
    free(logits);
    free(p);
    free(dst);
}

static void test_map_out(void **state)
{
    (void)state;
    for (int level = SIMD_C; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            check_map_out(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
    }
}

static void test_extreme_logits(void **state)
{
    (void)state;
    struct err e;
    struct map_out m;
    const float logits[6] = {-INFINITY, INFINITY, NAN, 1e30F, -1e30F, 0};
    uint8_t out[6];
    assert_int_equal(map_out_init(&m, 6, 1, 6, 1, &e), 0);
    assert_int_equal(map_out_run(&m, logits, out, 6, &e), 0);
    const uint8_t want[6] = {0, 255, 0, 255, 0, 128};
    assert_memory_equal(out, want, 6);
    map_out_fini(&m);
}

static void test_refused(void **state)
{
    (void)state;
    struct err e;
    struct resample_axis a;
    assert_int_equal(resample_axis(&a, 0, 5, &e), ERR_INVALID);
    assert_int_equal(resample_axis(&a, 5, -1, &e), ERR_INVALID);
    assert_int_equal(resample_axis(&a, RESAMPLE_MAX + 1, 5, &e), ERR_INVALID);
    struct frame_in f;
    const float one[3] = {1, 1, 1};
    assert_int_equal(frame_in_init(&f, 4, 5, 5, 5, 5, one, one, &e), ERR_INVALID);
}

int main(void)
{
    par_init(3);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_in),
        cmocka_unit_test(test_map_out),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
