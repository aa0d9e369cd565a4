/* Run lengths and label masks: what is written is read back, what is damaged is refused and never written past. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/rng.h"
#include "core/media/image.h"
#include "core/task/exchange_impl.h"

enum { W = 37, H = 23 };

static struct frame *blank(void)
{
    struct frame *f;
    assert_int_equal(frame_new(FRAME_GRAY8, W, H, &f, NULL), 0);
    memset(f->data, 0, (size_t)f->stride_bytes * H);
    return f;
}

/* Blocks of labels 0..3, from none to noise. */
static struct frame *scene(struct rng *r, int block)
{
    struct frame *f = blank();
    for (int y = 0; y < H; y += block)
        for (int x = 0; x < W; x += block) {
            uint8_t v = (uint8_t)rng_int(r, 4);
            for (int k = 0; k < block * block; k++)
                if (y + k / block < H && x + k % block < W)
                    f->data[(ptrdiff_t)(y + k / block) * f->stride_bytes + x + k % block] = v;
        }
    return f;
}

static void expect_same(const struct frame *a, const struct frame *b)
{
    for (int y = 0; y < H; y++)
        assert_memory_equal(a->data + (ptrdiff_t)y * a->stride_bytes, b->data + (ptrdiff_t)y * b->stride_bytes, W);
}

static void test_runs_come_back(void **state)
{
    (void)state;
    struct rng r;
    struct err e;
    rng_seed(&r, 5);
    for (int round = 0; round < 200; round++) {
        struct frame *in = scene(&r, 1 + round % 9), *coco = blank(), *cvat = blank();
        for (int v = 1; v < 4; v++) {
            struct buf a = BUF_INIT, b = BUF_INIT;
            struct rle_box box = rle_bounds(in, v);
            rle_coco_encode(in, v, &a);
            assert_int_equal(rle_coco_decode(a.data, coco, v, &e), 0);
            if (box.area > 0) {
                rle_cvat_encode(in, v, &box, &b);
                assert_int_equal(rle_cvat_decode(b.data, &box, cvat, v, &e), 0);
            }
            buf_free(&a);
            buf_free(&b);
        }
        expect_same(in, coco);
        expect_same(in, cvat);
        frame_unref(in);
        frame_unref(coco);
        frame_unref(cvat);
    }
}

/* As pycocotools writes it: a 2 x 3 block at row 1, column 2 of 5 rows and 6 columns. */
static void test_known_runs(void **state)
{
    (void)state;
    struct frame *f;
    struct buf b = BUF_INIT;
    assert_int_equal(frame_new(FRAME_GRAY8, 6, 5, &f, NULL), 0);
    memset(f->data, 0, (size_t)f->stride_bytes * 5);
    for (int y = 1; y < 3; y++)
        memset(f->data + (ptrdiff_t)y * f->stride_bytes + 2, 1, 3);
    rle_coco_encode(f, 1, &b);
    assert_string_equal(b.data, ";230004");
    buf_free(&b);
    frame_unref(f);
}

static void test_damaged_runs(void **state)
{
    (void)state;
    static const char *const bad[] = {"",   "o",         "oooooooooooooooo", "0",          "\x01\x02", "~~",
                                      "P1", "_________", "00000000000000",   "n`n`n`n`n`", "1",        "o0o0o0o0o0"};
    struct rng r;
    struct err e;
    struct frame *f = blank();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(rle_coco_decode(bad[i], f, 1, &e), ERR_CORRUPT);
    rng_seed(&r, 9);
    for (int round = 0; round < 20000; round++) { /* whatever it says, it stays inside the mask */
        char text[24];
        size_t n = (size_t)rng_int(&r, sizeof(text));
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(48 + rng_int(&r, 66));
        text[n] = '\0';
        rle_coco_decode(text, f, 1, &e);
    }
    const struct rle_box box = {1, 1, 4, 3, 0};
    static const char *const worse[] = {"", "13", "-1, 13", "5, 5", "12, 1", "a", "99999999999999999999", "3; 9"};
    for (size_t i = 0; i < sizeof(worse) / sizeof(worse[0]); i++)
        assert_int_equal(rle_cvat_decode(worse[i], &box, f, 1, &e), ERR_CORRUPT);
    frame_unref(f);
}

static void test_label_masks(void **state)
{
    (void)state;
    struct rng r;
    struct err e;
    struct buf png = BUF_INIT;
    struct labelmap m;
    rng_seed(&r, 3);
    struct frame *in = scene(&r, 4);
    assert_int_equal(labelmap_encode(in, &png, &e), 0);
    assert_int_equal(labelmap_decode(png.data, png.len, W, H, &m, &e), 0);
    expect_same(in, m.labels);
    assert_int_equal(m.objects, 3);
    labelmap_fini(&m);
    assert_int_equal(labelmap_decode(png.data, png.len, W + 1, H, &m, &e), ERR_INVALID);
    for (size_t n = 0; n < png.len; n++) /* cut anywhere */
        assert_true(labelmap_decode(png.data, n, W, H, &m, &e) < 0);
    for (int round = 0; round < 2000; round++) { /* damaged anywhere: refused, or a mask of that size */
        struct buf copy = BUF_INIT;
        buf_append(&copy, png.data, png.len);
        copy.data[rng_int(&r, (int)png.len)] ^= (char)(1 << rng_int(&r, 8));
        if (labelmap_decode(copy.data, copy.len, W, H, &m, &e) == 0)
            assert_int_equal(m.labels->width_px, W);
        labelmap_fini(&m);
        buf_free(&copy);
    }
    buf_free(&png);
    frame_unref(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_runs_come_back), cmocka_unit_test(test_known_runs),
                                       cmocka_unit_test(test_damaged_runs), cmocka_unit_test(test_label_masks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
