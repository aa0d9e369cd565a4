/* winograd against the direct convolution in double: odd and tiny sizes, dilations wider than the image, every instruction set. */
#include "tests/unit/check.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/kernel/simd.h"
#include "core/kernel/winograd.h"

struct shape {
    int in, out, frames, w, h, dilation;
    bool bias, relu;
};

static float *noise(struct rng *r, size_t n, double std)
{
    float *v = aligned_alloc(64, (n * sizeof(*v) + 63) / 64 * 64);
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(std * rng_normal(r));
    return v;
}

static double direct(const struct shape *s, const float *k, const float *x, int f, int oy, int ox, int o)
{
    double v = 0;
    for (int t = 0; t < 9; t++) {
        int y = oy + (t / 3 - 1) * s->dilation, c = ox + (t % 3 - 1) * s->dilation;
        if (y < 0 || c < 0 || y >= s->h || c >= s->w)
            continue;
        const float *p = x + (((size_t)f * (size_t)s->h + (size_t)y) * (size_t)s->w + (size_t)c) * (size_t)s->in;
        for (int i = 0; i < s->in; i++)
            v += (double)k[((size_t)o * (size_t)s->in + (size_t)i) * 9 + (size_t)t] * p[i];
    }
    return v;
}

static void check(const struct shape *s)
{
    struct err e;
    struct rng r;
    rng_seed(&r, (uint64_t)(s->in + s->w * 3 + s->h));
    size_t pixels = (size_t)s->frames * (size_t)s->w * (size_t)s->h;
    float *k = noise(&r, (size_t)s->in * (size_t)s->out * 9, 1 / sqrt(9.0 * s->in)), *b = noise(&r, (size_t)s->out, 1);
    float *x = noise(&r, pixels * (size_t)s->in, 1), *y = noise(&r, pixels * (size_t)s->out, 1);
    float *packed = malloc(winograd_packed(s->in, s->out) * sizeof(*packed));
    winograd_pack(s->in, s->out, k, packed);
    struct winograd u = {s->in, s->out, packed, s->bias ? b : NULL, s->dilation, s->relu};
    assert_int_equal(winograd_run(&u, x, s->frames, s->w, s->h, y, &e), 0);
    double worst = 0;
    for (size_t i = 0; i < pixels; i++)
        for (int o = 0; o < s->out; o++) {
            int at = (int)(i % ((size_t)s->w * (size_t)s->h));
            double want = direct(s, k, x, (int)(i / ((size_t)s->w * (size_t)s->h)), at / s->w, at % s->w, o);
            want += s->bias ? b[o] : 0;
            want = s->relu ? fmax(want, 0) : want;
            worst = fmax(worst, fabs(y[i * (size_t)s->out + (size_t)o] - want));
        }
    if (!(worst < 1e-4))
        fail_msg("%d-%d channels, %d frames of %dx%d, dilation %d: off by %g", s->in, s->out, s->frames, s->w, s->h,
                 s->dilation, worst);
    free(k), free(b), free(x), free(y), free(packed);
}

static void test_shapes(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {16, 32, 1, 1, 1, 1, true, false},  {16, 32, 1, 4, 4, 1, false, false},  {32, 64, 2, 5, 7, 1, true, true},
        {48, 32, 1, 28, 28, 1, true, true}, {16, 32, 3, 61, 3, 1, true, false},  {16, 64, 1, 14, 15, 2, true, true},
        {16, 32, 2, 28, 9, 6, true, true},  {16, 32, 1, 3, 40, 18, true, false}, {64, 96, 1, 57, 55, 1, true, true},
    };
    for (int level = SIMD_C; level <= SIMD_AVX512; level++) {
        simd_limit((enum simd_level)level);
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
            check(&shapes[i]);
    }
}

static void test_refused(void **state)
{
    (void)state;
    struct err e;
    float v[64] = {0};
    struct winograd good = {16, 32, v, NULL, 1, false}, u = good;
    u.in = 15;
    assert_int_equal(winograd_run(&u, v, 1, 1, 1, v, &e), ERR_INVALID);
    u = good;
    u.out = 16;
    assert_int_equal(winograd_run(&u, v, 1, 1, 1, v, &e), ERR_INVALID);
    u = good;
    u.dilation = 0;
    assert_int_equal(winograd_run(&u, v, 1, 1, 1, v, &e), ERR_INVALID);
    assert_int_equal(winograd_run(&good, v, 0, 1, 1, v, &e), ERR_INVALID);
    assert_int_equal(winograd_run(&good, v, 1, 0, 1, v, &e), ERR_INVALID);
}

int main(void)
{
    par_init(3);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
