/*
 * The bodies of the CUDA kernels, run on the CPU thread by thread as the launchers of core/kernel/cuda number them, against slow references in
 * double precision: random and extreme values, odd and tiny sizes.
 */
#include "tests/unit/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/kernel/frame_in.h"
#include "core/kernel/hist.h"
#include "core/kernel/map_out.h"
#include "core/kernel/upconv.h"
#include "core/kernel/warp.h"

static const int sizes[][4] = {{1, 1, 1, 1},     {1, 1, 7, 5},    {5, 3, 5, 3},    {64, 48, 17, 31}, {17, 31, 64, 48},
                               {431, 11, 32, 9}, {3, 200, 64, 7}, {33, 1, 1, 100}, {99, 75, 98, 74}, {2, 2, 301, 1}};
#define EACH_SIZE(s) for (const int *s = sizes[0]; s < sizes[0] + sizeof(sizes) / sizeof(int); s += 4)

static void *room(size_t n, size_t size)
{
    void *p = calloc(n, size);
    assert_non_null(p);
    return p;
}

static void near(double got, double want, double tolerance, const char *what, const int *s)
{
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s, %dx%d -> %dx%d: %g instead of %g", what, s[0], s[1], s[2], s[3], got, want);
}

static double tent(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* The triangle filter's value at output pixel (ox, oy), straight from its definition. */
static double filtered(const double *img, const int *s, int ox, int oy)
{
    double sx = (double)s[0] / s[2], sy = (double)s[1] / s[3], fx = fmax(sx, 1), fy = fmax(sy, 1);
    double cx = (ox + 0.5) * sx, cy = (oy + 0.5) * sy, sum = 0, norm = 0;
    for (int y = 0; y < s[1]; y++)
        for (int x = 0; x < s[0]; x++) {
            double k = tent((x + 0.5 - cx) / fx) * tent((y + 0.5 - cy) / fy);
            sum += k * img[(size_t)y * (size_t)s[0] + (size_t)x];
            norm += k;
        }
    return sum / norm;
}

/* ---- frame_in ------------------------------------------------------------------------------------------------------ */

/* BT.601 as the standard has it, rounded to the nearest byte. */
static double yuv_byte(int y, int u, int v, int c)
{
    double l = 255.0 / 219 * (y - 16), b = 255.0 / 224 * (u - 128), r = 255.0 / 224 * (v - 128);
    double rgb[3] = {l + 1.402 * r, l - 0.344136286 * b - 0.714136286 * r, l + 1.772 * b};
    return fmin(fmax(floor(rgb[c] + 0.5), 0), 255);
}

/* Byte of channel c of pixel (x, y) of a source in that format. */
static double source_byte(enum frame_in_format f, const uint8_t *src, ptrdiff_t stride, int h, int x, int y, int c)
{
    if (f == FRAME_IN_GREY)
        return src[y * stride + x];
    if (f == FRAME_IN_RGB)
        return src[y * stride + 3 * (ptrdiff_t)x + c];
    const uint8_t *uv = src + (h + y / 2) * stride + x / 2 * 2;
    return yuv_byte(src[y * stride + x], uv[0], uv[1], c);
}

static void as_threads(const struct frame_in *f, const uint8_t *src, ptrdiff_t stride, float *dst)
{
    int ch = frame_in_channels(f->format), width = f->x.in * ch;
    struct frame_in_columns k = {.y = f->y, .format = f->format, .src = src, .stride = stride, .width = width};
    k.rows = room((size_t)f->y.out * (size_t)width, sizeof(float));
    for (int o = 0; o < f->y.out; o++)
        for (int i = 0; i < width; i++)
            frame_in_columns_at(&k, i, o);
    for (int y = 0; y < f->y.out; y++)
        for (int o = 0; o < f->x.out; o++)
            frame_in_pixel(f, ch, o, k.rows + (size_t)y * (size_t)width, dst + (size_t)y * (size_t)f->x.out,
                           (size_t)f->x.out * (size_t)f->y.out);
    free(k.rows);
}

static void check_frame_in(enum frame_in_format format, const int *s, int fill)
{
    static const float mean[3] = {0.4F, 0.5F, 0.6F}, std[3] = {0.2F, 0.3F, 0.4F};
    struct err e;
    struct rng r;
    struct frame_in f;
    rng_seed(&r, (uint64_t)(s[0] * 31 + s[1]));
    assert_int_equal(frame_in_init(&f, format, s[0], s[1], s[2], s[3], mean, std, &e), 0);
    ptrdiff_t stride = frame_in_row_bytes(&f) + 5;
    size_t bytes = (size_t)stride * (size_t)frame_in_rows(&f), plane = (size_t)s[2] * (size_t)s[3];
    uint8_t *src = room(bytes, 1);
    double *img = room((size_t)s[0] * (size_t)s[1], sizeof(*img));
    float *threads = room(3 * plane, sizeof(float)), *loop = room(3 * plane, sizeof(float));
    for (size_t i = 0; i < bytes; i++)
        src[i] = (uint8_t)(fill >= 0 ? fill : rng_int(&r, 256));
    as_threads(&f, src, stride, threads);
    assert_int_equal(frame_in_run(&f, src, stride, loop, &e), 0);
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < s[1]; y++)
            for (int x = 0; x < s[0]; x++)
                img[y * s[0] + x] = source_byte(format, src, stride, s[1], x, y, c);
        for (int o = 0; o < (int)plane; o++) {
            double want = (filtered(img, s, o % s[2], o / s[2]) / 255 - mean[c]) / std[c];
            near(threads[(size_t)c * plane + (size_t)o], want, 2e-5, "frame_in as threads", s);
            near(loop[(size_t)c * plane + (size_t)o], want, 2e-5, "frame_in", s);
        }
    }
    frame_in_fini(&f);
    free(src);
    free(img);
    free(threads);
    free(loop);
}

static void test_frame_in(void **state)
{
    (void)state;
    static const enum frame_in_format formats[] = {FRAME_IN_GREY, FRAME_IN_RGB, FRAME_IN_NV12};
    for (int k = 0; k < 3; k++)
        EACH_SIZE(s)
        {
            check_frame_in(formats[k], s, -1);
            check_frame_in(formats[k], s, 0);
            check_frame_in(formats[k], s, 255);
        }
}

/* Every byte triple on a grid with the ends: no colour is off by more than the rounding of a tie. */
static void test_colours(void **state)
{
    (void)state;
    for (int y = 0; y < 256; y += 3)
        for (int u = 0; u < 256; u += 5)
            for (int v = 0; v < 256; v += 5) {
                uint8_t rgb[3];
                frame_in_yuv((uint8_t)y, (uint8_t)u, (uint8_t)v, rgb);
                for (int c = 0; c < 3; c++)
                    assert_true(fabs(rgb[c] - yuv_byte(y, u, v, c)) <= 1);
            }
}

/* ---- map_out ------------------------------------------------------------------------------------------------------- */

static void test_map_out(void **state)
{
    (void)state;
    EACH_SIZE(s)
    {
        struct err e;
        struct rng r;
        struct map_out m;
        size_t n = (size_t)s[0] * (size_t)s[1];
        float *logits = room(n, sizeof(float));
        double *p = room(n, sizeof(*p));
        rng_seed(&r, (uint64_t)(s[0] + s[2]));
        for (size_t i = 0; i < n; i++) {
            logits[i] = rng_int(&r, 5) ? (float)(4 * rng_normal(&r)) : rng_int(&r, 2) ? INFINITY : -3e38F;
            p[i] = 1 / (1 + exp(-(double)logits[i]));
        }
        assert_int_equal(map_out_init(&m, s[0], s[1], s[2], s[3], &e), 0);
        struct map_out_columns k = {.y = m.y, .width = s[0], .logits = logits};
        k.mixed = room((size_t)s[3] * (size_t)s[0], sizeof(float));
        for (int o = 0; o < s[3]; o++)
            for (int x = 0; x < s[0]; x++)
                map_out_columns_at(&k, x, o);
        for (int y = 0; y < s[3]; y++)
            for (int x = 0; x < s[2]; x++)
                near(map_out_pixel(&m.x, x, k.mixed + (size_t)y * (size_t)s[0]), 255 * filtered(p, s, x, y), 0.501,
                     "map_out", s);
        map_out_fini(&m);
        free(k.mixed);
        free(logits);
        free(p);
    }
}

/* An axis survives being packed for a device. */
static void test_packed_axis(void **state)
{
    (void)state;
    struct err e;
    struct resample_axis a;
    assert_int_equal(resample_axis(&a, 37, 11, &e), 0);
    void *block = room(resample_packed_bytes(&a), 1);
    resample_pack(&a, block);
    struct resample_axis at = resample_packed_at(&a, block);
    assert_memory_equal(at.first, a.first, 11 * sizeof(int));
    assert_memory_equal(at.count, a.count, 11 * sizeof(int));
    assert_memory_equal(at.weight, a.weight, 11 * (size_t)a.taps * sizeof(float));
    assert_true((char *)(at.weight + 11 * a.taps) == (char *)block + resample_packed_bytes(&a));
    free(block);
    resample_free(&a);
}

/* ---- upconv -------------------------------------------------------------------------------------------------------- */

static void upconv_as_threads(struct upconv_band b, int band)
{
    for (int y = 0; y < b.large_h; y += band) {
        b.first = y;
        b.rows = b.large_h - y < band ? b.large_h - y : band;
        for (int r = 0; r < b.rows; r++)
            for (int i = 0; i < 3 * b.small_w * b.mid; i++)
                upconv_vertical_at(&b, r, i / b.mid / b.small_w, i / b.mid % b.small_w, i % b.mid);
        for (int r = 0; r < b.rows; r++)
            for (int x = 0; x < b.large_w; x++) {
                float sum = b.last_bias;
                for (int m = 0; m < b.mid; m++)
                    sum += upconv_share(&b, r, x, m);
                b.y[(b.first + r) * b.large_w + x] = sum;
            }
    }
}

/* The products in the device's layout from weights (mid, in, 3, 3). */
static float *products(const float *w, const float *x, int in, int mid, int pixels)
{
    float *p = room((size_t)pixels * UPCONV_TAPS * (size_t)mid, sizeof(float));
    for (int i = 0; i < pixels; i++)
        for (int t = 0; t < UPCONV_TAPS; t++)
            for (int m = 0; m < mid; m++) {
                double v = 0;
                for (int c = 0; c < in; c++)
                    v += (double)w[(m * in + c) * UPCONV_TAPS + t] * x[i * in + c];
                p[(i * UPCONV_TAPS + t) * mid + m] = (float)v;
            }
    return p;
}

static void fill(struct rng *r, float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] = (float)rng_normal(r);
}

/* The threads' way against the C loop, which test_upconv.c holds against the direct form. */
static void check_upconv(const int *s, int in, int mid, int band)
{
    struct err e;
    struct rng r;
    struct upconv *u;
    rng_seed(&r, (uint64_t)(s[0] + in));
    size_t small = (size_t)s[0] * (size_t)s[1], large = (size_t)s[2] * (size_t)s[3];
    float w[12 * 9 * 20], bias[20], last[20], *x = room(small * (size_t)in, sizeof(float));
    float *want = room(large, sizeof(float)), *got = room(large, sizeof(float));
    struct upconv_source *col = room((size_t)s[2], sizeof(*col));
    fill(&r, w, (size_t)(in * mid * 9));
    fill(&r, bias, (size_t)mid);
    fill(&r, last, (size_t)mid);
    fill(&r, x, small * (size_t)in);
    for (int i = 0; i < s[2]; i++)
        col[i] = upconv_source(i, s[0], s[2]);
    struct upconv_band b = {.small_w = s[0],
                            .small_h = s[1],
                            .large_w = s[2],
                            .large_h = s[3],
                            .mid = mid,
                            .col = col,
                            .bias = bias,
                            .last = last,
                            .last_bias = 0.5F,
                            .y = got};
    float *p = products(w, x, in, mid, (int)small);
    b.products = p;
    b.mixed = room((size_t)band * 3 * (size_t)s[0] * (size_t)mid, sizeof(float));
    upconv_as_threads(b, band);
    assert_int_equal(upconv_new(in, mid, w, bias, last, 0.5F, &u, &e), 0);
    assert_int_equal(upconv_run(u, x, s[0], s[1], want, s[2], s[3], &e), 0);
    for (size_t i = 0; i < large; i++)
        near(got[i], want[i], 1e-4 * (1 + fabs((double)want[i])), "upconv", s);
    upconv_free(u);
    free(p);
    free(b.mixed);
    free(x);
    free(want);
    free(got);
    free(col);
}

static void test_upconv(void **state)
{
    (void)state;
    EACH_SIZE(s)
    {
        check_upconv(s, 3, 5, 32);
        check_upconv(s, 12, 20, 1);
    }
}

/* ---- flow fields --------------------------------------------------------------------------------------------------- */

static double bilinear(const float *p, double x, double y, int w, int h)
{
    x = isnan(x) ? 0 : fmin(fmax(x, 0), w - 1);
    y = isnan(y) ? 0 : fmin(fmax(y, 0), h - 1);
    int x0 = (int)x, y0 = (int)y, x1 = x0 + 1 < w ? x0 + 1 : x0, y1 = y0 + 1 < h ? y0 + 1 : y0;
    double fx = x - x0, fy = y - y0;
    return (1 - fy) * ((1 - fx) * p[y0 * w + x0] + fx * p[y0 * w + x1]) +
           fy * ((1 - fx) * p[y1 * w + x0] + fx * p[y1 * w + x1]);
}

static void check_warp(int w, int h, double reach)
{
    const int s[4] = {w, h, w, h};
    struct rng r;
    size_t n = (size_t)w * (size_t)h;
    float *v = room(8 * n, sizeof(float));
    rng_seed(&r, (uint64_t)(w * 7 + h));
    fill(&r, v, 5 * n);
    for (size_t i = 0; i < 4 * n; i++)
        v[i] *= (float)reach;
    struct warp_field f = {w, h, v, v + n, v + 2 * n, v + 3 * n, v + 4 * n, v + 5 * n, v + 6 * n, v + 7 * n};
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            size_t o = (size_t)(y * w + x);
            warp_field_at(&f, x, y);
            double dx = f.dx[o], dy = f.dy[o], px = (double)((float)x + f.dx[o]), py = (double)((float)y + f.dy[o]);
            double gap = hypot(dx + bilinear(f.bx, px, py, w, h), dy + bilinear(f.by, px, py, w, h));
            near(f.warped[o], bilinear(f.src, px, py, w, h), 1e-4, "warped", s);
            near(f.gap[o], gap, 1e-4 * (1 + gap), "gap", s);
            near(f.motion[o], hypot(dx / w, dy / h), 1e-5 * (1 + reach), "motion", s);
        }
    free(v);
}

static void test_warp(void **state)
{
    (void)state;
    EACH_SIZE(s)
    {
        check_warp(s[0], s[1], 0);
        check_warp(s[0], s[1], 1.7);
        check_warp(s[0], s[1], 1e4);
    }
    float bad[4] = {NAN, INFINITY, -INFINITY, 3e38F}, out[4] = {0}, src[4] = {1, 2, 3, 4};
    struct warp_field f = {.w = 2, .h = 2, .dx = bad, .dy = bad, .src = src, .warped = out};
    for (int i = 0; i < 4; i++)
        warp_field_at(&f, i % 2, i / 2);
    for (int i = 0; i < 4; i++)
        assert_true(out[i] >= 1 && out[i] <= 4);
}

/* ---- histograms ---------------------------------------------------------------------------------------------------- */

static void test_hist(void **state)
{
    (void)state;
    EACH_SIZE(s)
    {
        struct rng r;
        int w = s[0], h = s[1], cx = s[2] % (w + 1), cy = s[3] % (h + 1), total = 0;
        static uint32_t counts[HIST_BINS], want[4][2][256];
        uint8_t *pred = room((size_t)(w * h), 1), *gt = room((size_t)(w * h), 1);
        rng_seed(&r, (uint64_t)(w + h));
        memset(counts, 0, sizeof(counts));
        memset(want, 0, sizeof(want));
        for (int i = 0; i < w * h; i++) {
            pred[i] = (uint8_t)(rng_int(&r, 3) ? rng_int(&r, 256) : 255 * rng_int(&r, 2));
            gt[i] = (uint8_t)rng_int(&r, 2);
        }
        struct hist_frame f = {pred, gt, w, h, cx, cy};
        for (int64_t i = 0; i < w * h; i++)
            counts[hist_counter(&f, i)]++;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                want[(y < cy ? 0 : 2) + (x < cx ? 0 : 1)][gt[y * w + x]][pred[y * w + x]]++;
        assert_memory_equal(counts, want, sizeof(want));
        for (int i = 0; i < HIST_BINS; i++)
            total += (int)counts[i];
        assert_int_equal(total, w * h);
        free(pred);
        free(gt);
    }
}

int main(void)
{
    par_init(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_in),    cmocka_unit_test(test_colours), cmocka_unit_test(test_map_out),
        cmocka_unit_test(test_packed_axis), cmocka_unit_test(test_upconv),  cmocka_unit_test(test_warp),
        cmocka_unit_test(test_hist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
