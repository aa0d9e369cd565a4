/* upconv against the direct form in double: upsample, convolve with zeros outside, ReLU, 1x1. Odd, tiny and non-integer sizes, enlarging
 * and shrinking, every instruction set. */
#include "tests/unit/check.h"

#include <math.h>

#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/kernel/simd.h"
#include "core/kernel/upconv.h"

struct layer {
    int in, mid;
    float *w1, *b1, *w2, b2;
};

static float *noise(struct rng *r, size_t n, double std)
{
    float *v = malloc(n * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(std * rng_normal(r));
    return v;
}

static double at(const float *x, int w, int c, int in, int row, int col)
{
    return x[((size_t)row * (size_t)w + (size_t)col) * (size_t)in + (size_t)c];
}

/* Bilinear, align_corners=False, from the formula. */
static void upsample(const float *x, int in, int w, int h, int lw, int lh, double *up)
{
    for (int y = 0; y < lh; y++) {
        double sy = fmax((y + 0.5) * h / lh - 0.5, 0);
        int y0 = (int)sy, y1 = y0 + 1 < h ? y0 + 1 : y0;
        for (int c = 0; c < lw; c++) {
            double sx = fmax((c + 0.5) * w / lw - 0.5, 0);
            int x0 = (int)sx, x1 = x0 + 1 < w ? x0 + 1 : x0;
            double fx = sx - x0, fy = sy - y0;
            for (int k = 0; k < in; k++)
                up[((size_t)y * (size_t)lw + (size_t)c) * (size_t)in + (size_t)k] =
                    (1 - fy) * ((1 - fx) * at(x, w, k, in, y0, x0) + fx * at(x, w, k, in, y0, x1)) +
                    fy * ((1 - fx) * at(x, w, k, in, y1, x0) + fx * at(x, w, k, in, y1, x1));
        }
    }
}

static double direct(const struct layer *l, const double *up, int lw, int lh, int oy, int ox)
{
    double sum = l->b2;
    for (int m = 0; m < l->mid; m++) {
        double v = l->b1[m];
        for (int t = 0; t < 9; t++) {
            int y = oy + t / 3 - 1, x = ox + t % 3 - 1;
            if (y < 0 || x < 0 || y >= lh || x >= lw)
                continue;
            for (int c = 0; c < l->in; c++)
                v += l->w1[(m * l->in + c) * 9 + t] *
                     up[((size_t)y * (size_t)lw + (size_t)x) * (size_t)l->in + (size_t)c];
        }
        sum += l->w2[m] * fmax(v, 0);
    }
    return sum;
}

static void check(int in, int mid, int w, int h, int lw, int lh)
{
    struct err e;
    struct rng r;
    struct upconv *u;
    rng_seed(&r, (uint64_t)(in * 7 + mid + w + lw));
    struct layer l = {in,
                      mid,
                      noise(&r, (size_t)(mid * in * 9), 1 / sqrt(in * 9)),
                      noise(&r, (size_t)mid, 0.5),
                      noise(&r, (size_t)mid, 1 / sqrt(mid)),
                      0.25F};
    float *x = noise(&r, (size_t)(w * h * in), 1), *y = noise(&r, (size_t)(lw * lh), 1);
    double *up = malloc((size_t)(lw * lh * in) * sizeof(*up)), worst = 0;
    upsample(x, in, w, h, lw, lh, up);
    assert_int_equal(upconv_new(in, mid, l.w1, l.b1, l.w2, l.b2, &u, &e), 0);
    assert_int_equal(upconv_run(u, x, w, h, y, lw, lh, &e), 0);
    for (int oy = 0; oy < lh; oy++)
        for (int ox = 0; ox < lw; ox++)
            worst = fmax(worst, fabs(y[oy * lw + ox] - direct(&l, up, lw, lh, oy, ox)));
    if (!(worst < 1e-4))
        fail_msg("%d-%d channels, %dx%d -> %dx%d: off by %g", in, mid, w, h, lw, lh, worst);
    upconv_free(u);
    free(l.w1);
    free(l.b1);
    free(l.w2);
    free(x);
    free(y);
    free(up);
}

static void test_sizes(void **state)
{
    (void)state;
    static const int sizes[][6] = {
        {1, 1, 1, 1, 1, 1},        {3, 5, 1, 1, 9, 4},      {4, 16, 2, 3, 8, 12},   {8, 17, 5, 7, 20, 28},
        {16, 33, 18, 22, 72, 88},  {7, 31, 11, 13, 37, 41}, {5, 20, 9, 6, 4, 3},    {2, 48, 40, 3, 7, 150},
        {16, 16, 10, 30, 11, 119}, {128, 64, 8, 6, 32, 24}, {3, 16, 30, 200, 2, 9}, {3, 16, 7, 16, 7, 16},
    };
    for (int level = SIMD_C; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            check(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], sizes[i][4], sizes[i][5]);
    }
}

static void test_random_sizes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    for (int i = 0; i < 25; i++) {
        int in = 1 + rng_int(&r, 20), mid = 1 + rng_int(&r, 40), w = 1 + rng_int(&r, 20), h = 1 + rng_int(&r, 20);
        check(in, mid, w, h, 1 + rng_int(&r, 5 * w), 1 + rng_int(&r, 5 * h));
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct err e;
    struct upconv *u;
    const float one[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    float y[1];
    assert_int_equal(upconv_new(0, 1, one, one, one, 0, &u, &e), ERR_INVALID);
    assert_int_equal(upconv_new(1, 1, one, one, one, 0, &u, &e), 0);
    assert_int_equal(upconv_run(u, one, 0, 1, y, 1, 1, &e), ERR_INVALID);
    assert_int_equal(upconv_run(u, one, 1, 1, y, 1, RESAMPLE_MAX + 1, &e), ERR_INVALID);
    upconv_free(u);
    upconv_free(NULL);
}

int main(void)
{
    par_init(3);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_random_sizes),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
