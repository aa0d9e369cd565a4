/* core/media: frames, JPEG and PNG: round trips, every stored form, orientation, masks, and hostile files. */
#include "tests/unit/media/media_fixture.h"

#include <math.h>
#include <pthread.h>

#include <png.h>

#include "core/base/clock.h"
#include "core/media/orient.h"

static struct frame *gradient(enum frame_format fmt, int w, int h)
{
    struct frame *f;
    assert_int_equal(frame_new(fmt, w, h, &f, NULL), 0);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int k = 0; k < frame_channels(fmt); k++)
                f->data[y * f->stride_bytes + x * frame_channels(fmt) + k] = (uint8_t)(x * 3 + y * 2 + k * 40);
    return f;
}

static const uint8_t *pixel(const struct frame *f, int x, int y)
{
    return f->data + y * f->stride_bytes + x * frame_channels(f->fmt);
}

/* ---- frames */

static void *get_one_more(void *arg)
{
    struct frame *f = NULL;
    int rc = frame_pool_get(arg, FRAME_GRAY8, 10, 10, &f, NULL);
    frame_unref(f);
    return (void *)(intptr_t)rc;
}

static void pool_bounds_recycles_and_closes(void **state)
{
    (void)state;
    struct frame_pool *p = frame_pool_new(2);
    struct frame *a, *b;
    pthread_t t;
    void *rc;
    assert_int_equal(frame_pool_get(p, FRAME_GRAY8, 10, 10, &a, NULL), 0);
    assert_int_equal(frame_pool_get(p, FRAME_GRAY8, 10, 10, &b, NULL), 0);
    pthread_create(&t, NULL, get_one_more, p);
    clock_sleep_ms(20);
    uint8_t *memory = a->data;
    frame_ref(a);
    frame_unref(a);
    frame_unref(a); /* only now is it back */
    pthread_join(t, &rc);
    assert_int_equal((intptr_t)rc, 0);
    assert_int_equal(frame_pool_get(p, FRAME_GRAY8, 9, 10, &a, NULL), 0);
    assert_ptr_equal(a->data, memory);
    pthread_create(&t, NULL, get_one_more, p);
    clock_sleep_ms(20);
    frame_pool_close(p);
    pthread_join(t, &rc);
    assert_int_equal((intptr_t)rc, ERR_CANCELED);
    frame_pool_free(p); /* frames outlive it */
    memset(a->data, 1, 100);
    frame_unref(a);
    frame_unref(b);
    assert_int_equal(frame_new(FRAME_RGB24, 1 << 29, 1 << 29, &a, NULL), ERR_NOMEM);
    assert_int_equal(frame_new(FRAME_RGB24, 0, 5, &a, NULL), ERR_NOMEM);
}

/* ---- round trips */

static void png_keeps_every_pixel(void **state)
{
    (void)state;
    static const int sizes[][2] = {{1, 1}, {7, 3}, {97, 61}, {300, 1}};
    for (int fmt = FRAME_RGB24; fmt <= FRAME_GRAY8; fmt++)
        for (size_t i = 0; i < 4; i++)
            for (int speed = IMAGE_PNG_FAST; speed <= IMAGE_PNG_SMALL; speed++) {
                struct frame *f = gradient((enum frame_format)fmt, sizes[i][0], sizes[i][1]), *g;
                struct buf b = BUF_INIT;
                struct err e = {0};
                assert_int_equal(image_encode_png(f, (enum image_png_speed)speed, &b, &e), 0);
                assert_int_equal(image_decode(b.data, b.len, fmt == FRAME_RGB24 ? IMAGE_RGB : IMAGE_GRAY, 0, &g, &e),
                                 0);
                assert_int_equal(hash_of(f), hash_of(g));
                frame_unref(f);
                frame_unref(g);
                buf_free(&b);
            }
}

static void jpeg_comes_back_close(void **state)
{
    (void)state;
    struct frame *f = gradient(FRAME_RGB24, 120, 50), *g;
    struct buf b = BUF_INIT;
    struct err e = {0};
    assert_int_equal(image_encode_jpeg(f, 95, &b, &e), 0);
    assert_int_equal(image_sniff(b.data, b.len), IMAGE_JPEG);
    assert_int_equal(image_decode(b.data, b.len, IMAGE_RGB, 0, &g, &e), 0);
    assert_true(fabs((double)mean_of(f) - mean_of(g)) < 1.5);
    frame_unref(g);
    assert_int_equal(image_decode(b.data, b.len, IMAGE_GRAY, 0, &g, &e), 0);
    assert_int_equal(g->fmt, FRAME_GRAY8);
    frame_unref(g);
    frame_unref(f);
    buf_free(&b);
}

/* ---- PNG forms, written by libpng itself */

struct form {
    int color, bits;
    bool interlaced, trns;
};

static void on_png_write(png_structp png, png_bytep data, size_t n)
{
    buf_append(png_get_io_ptr(png), data, n);
}

static void on_png_flush(png_structp png)
{
    (void)png;
}

/* Every byte of the picture is `value` (16-bit: twice); palette entry i is (i, 2i, 3i). */
static void write_form(struct form f, int w, int h, uint8_t value, struct buf *out)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_color palette[256];
    png_byte alpha[256];
    uint8_t *row = malloc((size_t)w * 8);
    memset(row, value, (size_t)w * 8);
    for (int i = 0; i < 256; i++) {
        palette[i] = (png_color){(png_byte)i, (png_byte)(2 * i), (png_byte)(3 * i)};
        alpha[i] = 255;
    }
    alpha[value] = 128;
    png_set_write_fn(png, out, on_png_write, on_png_flush);
    png_set_IHDR(png, info, (png_uint_32)w, (png_uint_32)h, f.bits, f.color,
                 f.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, 0, 0);
    if (f.color == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 1 << f.bits);
        if (f.trns)
            png_set_tRNS(png, info, alpha, 1 << f.bits, NULL);
    }
    png_write_info(png, info);
    int passes = png_set_interlace_handling(png);
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < h; y++)
            png_write_row(png, row);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(row);
}

static void check_form(struct form f, uint8_t value, enum image_want want, const uint8_t *expect)
{
    struct buf b = BUF_INIT;
    struct err e = {0};
    struct frame *p;
    write_form(f, 19, 11, value, &b);
    if (image_decode(b.data, b.len, want, 0, &p, &e) != 0)
        fail_msg("color %d bits %d: %s", f.color, f.bits, e.msg);
    for (int y = 0; y < 11; y++)
        for (int x = 0; x < 19; x++)
            assert_memory_equal(pixel(p, x, y), expect, (size_t)frame_channels(p->fmt));
    frame_unref(p);
    buf_free(&b);
}

static void every_png_form_is_read(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        bool lace = i;
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 8, lace, 0}, 200, IMAGE_RGB, (uint8_t[]){200, 200, 200});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 16, lace, 0}, 201, IMAGE_GRAY, (uint8_t[]){201});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 1, lace, 0}, 0xff, IMAGE_GRAY, (uint8_t[]){255});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 2, lace, 0}, 0x55, IMAGE_GRAY, (uint8_t[]){85});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 4, lace, 0}, 0x33, IMAGE_INDEX, (uint8_t[]){3});
        check_form((struct form){PNG_COLOR_TYPE_RGB, 16, lace, 0}, 90, IMAGE_RGB, (uint8_t[]){90, 90, 90});
        check_form((struct form){PNG_COLOR_TYPE_RGB, 8, lace, 0}, 91, IMAGE_GRAY, (uint8_t[]){91});
        /* alpha over black: 100 * 100 / 255 */
        check_form((struct form){PNG_COLOR_TYPE_RGB_ALPHA, 8, lace, 0}, 100, IMAGE_RGB, (uint8_t[]){39, 39, 39});
        check_form((struct form){PNG_COLOR_TYPE_GRAY_ALPHA, 16, lace, 0}, 100, IMAGE_GRAY, (uint8_t[]){39});
        check_form((struct form){PNG_COLOR_TYPE_PALETTE, 8, lace, 0}, 20, IMAGE_RGB, (uint8_t[]){20, 40, 60});
        check_form((struct form){PNG_COLOR_TYPE_PALETTE, 8, lace, 1}, 20, IMAGE_RGB, (uint8_t[]){10, 20, 30});
        check_form((struct form){PNG_COLOR_TYPE_PALETTE, 4, lace, 0}, 0x22, IMAGE_INDEX, (uint8_t[]){2});
        check_form((struct form){PNG_COLOR_TYPE_PALETTE, 8, lace, 0}, 2, IMAGE_MASK, (uint8_t[]){255});
        check_form((struct form){PNG_COLOR_TYPE_PALETTE, 8, lace, 0}, 0, IMAGE_MASK, (uint8_t[]){0});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 8, lace, 0}, 127, IMAGE_MASK, (uint8_t[]){0});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 8, lace, 0}, 128, IMAGE_MASK, (uint8_t[]){255});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 8, lace, 0}, 1, IMAGE_MASK, (uint8_t[]){255});
        check_form((struct form){PNG_COLOR_TYPE_GRAY, 1, lace, 0}, 0xff, IMAGE_MASK, (uint8_t[]){255});
    }
}

static void palette_labels_come_back_as_indices(void **state)
{
    (void)state;
    struct frame *f = gradient(FRAME_GRAY8, 40, 30), *g;
    struct buf b = BUF_INIT;
    uint8_t colors[256][3];
    for (int i = 0; i < 256; i++)
        memset(colors[i], 255 - i, 3);
    assert_int_equal(image_encode_png_palette(f, (const uint8_t(*)[3])colors, 256, &b, NULL), 0);
    assert_int_equal(image_decode(b.data, b.len, IMAGE_INDEX, 0, &g, NULL), 0);
    assert_int_equal(hash_of(f), hash_of(g));
    frame_unref(g);
    assert_int_equal(image_decode(b.data, b.len, IMAGE_GRAY, 0, &g, NULL), 0);
    assert_int_equal(pixel(g, 5, 5)[0], 255 - pixel(f, 5, 5)[0]);
    frame_unref(f);
    frame_unref(g);
    buf_free(&b);
}

/* ---- orientation */

/* A JPEG with an EXIF block that says `orientation`, in either byte order. */
static void with_exif(const struct buf *jpeg, int orientation, bool big, struct buf *out)
{
    const uint8_t ii[] = {0xff,
                          0xe1,
                          0,
                          34,
                          'E',
                          'x',
                          'i',
                          'f',
                          0,
                          0,
                          'I',
                          'I',
                          42,
                          0,
                          8,
                          0,
                          0,
                          0,
                          1,
                          0,
                          0x12,
                          1,
                          3,
                          0,
                          1,
                          0,
                          0,
                          0,
                          (uint8_t)orientation,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0,
                          0};
    const uint8_t mm[] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i',  'f', 0, 0, 'M', 'M', 0, 42, 0,
                          0,    0,    8, 0,  1,   1,   0x12, 0,   3, 0, 0,   0,   1, 0,  (uint8_t)orientation,
                          0,    0,    0, 0,  0,   0};
    buf_append(out, jpeg->data, 2);
    buf_append(out, big ? mm : ii, sizeof(ii));
    buf_append(out, jpeg->data + 2, jpeg->len - 2);
}

static void exif_orientation_is_applied(void **state)
{
    (void)state;
    /* Stored: bright top-left corner. Where it is when upright, for each EXIF value: */
    static const struct {
        bool right, bottom;
    } corner[9] = {
        [1] = {0, 0}, [2] = {1, 0}, [3] = {1, 1}, [4] = {0, 1}, [5] = {0, 0}, [6] = {1, 0}, [7] = {1, 1}, [8] = {0, 1}};
    struct frame *f, *g;
    assert_int_equal(frame_new(FRAME_RGB24, 64, 32, &f, NULL), 0);
    for (int y = 0; y < 32; y++)
        for (int x = 0; x < 64; x++)
            memset(f->data + y * f->stride_bytes + x * 3, x < 16 && y < 8 ? 255 : 0, 3);
    struct buf jpeg = BUF_INIT;
    assert_int_equal(image_encode_jpeg(f, 95, &jpeg, NULL), 0);
    for (int o = 1; o <= 8; o++) {
        struct buf b = BUF_INIT;
        with_exif(&jpeg, o, o & 1, &b);
        assert_int_equal(image_decode(b.data, b.len, IMAGE_RGB, 0, &g, NULL), 0);
        assert_int_equal(g->width_px, o >= 5 ? 32 : 64);
        assert_int_equal(g->height_px, o >= 5 ? 64 : 32);
        for (int right = 0; right < 2; right++)
            for (int bottom = 0; bottom < 2; bottom++) {
                int v = pixel(g, right ? g->width_px - 2 : 1, bottom ? g->height_px - 2 : 1)[0];
                assert_int_equal(v > 128, corner[o].right == right && corner[o].bottom == bottom);
            }
        frame_unref(g);
        buf_free(&b);
    }
    buf_free(&jpeg);
    frame_unref(f);
}

static void exif_reader_trusts_no_offset(void **state)
{
    (void)state;
    uint8_t d[40];
    uint32_t x = 1;
    for (int i = 0; i < 20000; i++) {
        for (size_t k = 0; k < sizeof(d); k++)
            d[k] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
        memcpy(d, i & 1 ? "II*\0" : "MM\0*", 4);
        uint8_t *exact = malloc(8 + i % 32); /* so that a read past the end is seen */
        memcpy(exact, d, 8 + i % 32);
        int o = orient_from_exif(exact, 8 + (size_t)i % 32);
        assert_in_range(o, 1, 8);
        free(exact);
    }
    static const int32_t one = 65536;
    assert_int_equal(orient_from_matrix((int32_t[]){one, 0, 0, 0, one, 0, 0, 0, 1 << 30}), 1);
    assert_int_equal(orient_from_matrix((int32_t[]){0, one, 0, -one, 0, 0, 0, 0, 1 << 30}), 6);
    assert_int_equal(orient_from_matrix((int32_t[]){0, -one, 0, one, 0, 0, 0, 0, 1 << 30}), 8);
    assert_int_equal(orient_from_matrix((int32_t[]){-one, 0, 0, 0, -one, 0, 0, 0, 1 << 30}), 3);
    assert_int_equal(orient_from_matrix((int32_t[]){one, one, 0, -one, one, 0, 0, 0, 1 << 30}), 1);
}

/* ---- hostile */

static void truncated_images_are_refused(void **state)
{
    (void)state;
    struct frame *f = gradient(FRAME_RGB24, 60, 40), *g;
    struct buf jpeg = BUF_INIT, png = BUF_INIT;
    assert_int_equal(image_encode_jpeg(f, 90, &jpeg, NULL), 0);
    assert_int_equal(image_encode_png(f, IMAGE_PNG_FAST, &png, NULL), 0);
    const struct buf *files[] = {&jpeg, &png};
    for (int i = 0; i < 2; i++)
        for (size_t n = 0; n + 3 < files[i]->len; n += 1 + n / 40) {
            struct err e = {0};
            uint8_t *exact = malloc(n + 1);
            memcpy(exact, files[i]->data, n);
            assert_true(image_decode(exact, n, IMAGE_RGB, 0, &g, &e) < 0);
            assert_true(e.msg[0]);
            free(exact);
        }
    buf_free(&jpeg);
    buf_free(&png);
    frame_unref(f);
}

static void flipped_bits_never_hurt(void **state)
{
    (void)state;
    struct frame *f = gradient(FRAME_RGB24, 60, 40);
    struct buf files[2] = {BUF_INIT, BUF_INIT};
    assert_int_equal(image_encode_jpeg(f, 90, &files[0], NULL), 0);
    assert_int_equal(image_encode_png(f, IMAGE_PNG_FAST, &files[1], NULL), 0);
    uint32_t x = 7;
    for (int i = 0; i < 4000; i++) {
        struct buf *b = &files[i & 1];
        x = x * 1664525 + 1013904223;
        size_t at = (x >> 8) % b->len;
        char was = b->data[at];
        b->data[at] = (char)(was ^ (1 << (x >> 29)));
        struct frame *g = NULL;
        struct err e = {0};
        int rc = image_decode(b->data, b->len, IMAGE_RGB, 1 << 20, &g, &e);
        assert_true(rc == 0 ? g != NULL : g == NULL && e.code == rc);
        frame_unref(g);
        b->data[at] = was;
    }
    buf_free(&files[0]);
    buf_free(&files[1]);
    frame_unref(f);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void absurd_sizes_are_over_the_limit(void **state)
{
    (void)state;
    /* IHDR of 100000 x 100000, with its right CRC, and nothing behind it. */
    uint8_t png[33] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    put32(png + 16, 100000);
    put32(png + 20, 100000);
    memcpy(png + 24, "\x08\x02\0\0\0", 5);
    uint32_t crc = 0xffffffff;
    for (int i = 12; i < 29; i++) {
        crc ^= png[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    put32(png + 29, ~crc);
    uint8_t idat[] = {0, 0, 0, 0, 'I', 'D', 'A', 'T', 0x35, 0xaf, 0x06, 0x1e};
    uint8_t file[sizeof(png) + sizeof(idat)];
    memcpy(file, png, sizeof(png));
    memcpy(file + sizeof(png), idat, sizeof(idat));
    struct frame *g;
    struct err e = {0};
    assert_int_equal(image_decode(file, sizeof(file), IMAGE_RGB, 0, &g, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "100000 x 100000"));

    struct frame *f = gradient(FRAME_RGB24, 60, 40);
    struct buf jpeg = BUF_INIT;
    assert_int_equal(image_encode_jpeg(f, 90, &jpeg, NULL), 0);
    assert_int_equal(image_decode(jpeg.data, jpeg.len, IMAGE_RGB, 60 * 40 - 1, &g, &e), ERR_LIMIT);
    assert_int_equal(image_decode(jpeg.data, jpeg.len, IMAGE_RGB, 60 * 40, &g, &e), 0);
    frame_unref(g);
    for (size_t i = 0; i + 9 < jpeg.len; i++) /* SOF0: 65500 x 65500 */
        if ((uint8_t)jpeg.data[i] == 0xff && (uint8_t)jpeg.data[i + 1] == 0xc0)
            memcpy(jpeg.data + i + 5, "\xff\xdc\xff\xdc", 4);
    assert_int_equal(image_decode(jpeg.data, jpeg.len, IMAGE_RGB, 0, &g, &e), ERR_LIMIT);
    buf_free(&jpeg);
    frame_unref(f);
}

static void files_are_named_in_errors(void **state)
{
    (void)state;
    struct frame *g;
    struct err e = {0};
    int w, h;
    assert_int_equal(fs_write_atomic(tmp("x.png"), "not a png at all", 16, NULL), 0);
    assert_int_equal(image_read_rgb(tmp("x.png"), 0, &g, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "x.png"));
    assert_int_equal(image_read_rgb(tmp("missing.png"), 0, &g, &e), ERR_NOTFOUND);
    struct frame *f = gradient(FRAME_GRAY8, 12, 34);
    assert_int_equal(image_write_png(tmp("y.png"), f, &e), 0);
    assert_int_equal(image_read_size(tmp("y.png"), &w, &h, &e), 0);
    assert_int_equal(w, 12);
    assert_int_equal(h, 34);
    frame_unref(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_bounds_recycles_and_closes),
        cmocka_unit_test(png_keeps_every_pixel),
        cmocka_unit_test(jpeg_comes_back_close),
        cmocka_unit_test(every_png_form_is_read),
        cmocka_unit_test(palette_labels_come_back_as_indices),
        cmocka_unit_test(exif_orientation_is_applied),
        cmocka_unit_test(exif_reader_trusts_no_offset),
        cmocka_unit_test(truncated_images_are_refused),
        cmocka_unit_test(flipped_bits_never_hurt),
        cmocka_unit_test(absurd_sizes_are_over_the_limit),
        cmocka_unit_test(files_are_named_in_errors),
    };
    return cmocka_run_group_tests(tests, make_tmp, remove_tmp);
}
