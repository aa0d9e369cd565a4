/*
 * PNG out through libpng. IMAGE_PNG_FAST is made for saliency maps, smooth gradients: each row minus the one above,
 * then run-length matches only (Z_RLE). For an 854x480 map that took 1.9 ms and 47.6 kB; libpng's usual setting (level
 * 6, all filters) takes several times as long for no fewer bytes, and libdeflate's level 1 took 1.4 ms and 51.7 kB, not
 * worth a dependency.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <zlib.h>

#include "core/media/image.h"

struct png_writer {
    png_structp png;
    png_infop info;
    struct buf *out;
    char text[200];
};

static void on_error(png_structp png, png_const_charp text)
{
    struct png_writer *w = (struct png_writer *)png_get_error_ptr(png);
    strncpy(w->text, text, sizeof(w->text) - 1);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_write(png_structp png, png_bytep data, size_t n)
{
    struct buf *out = (struct buf *)png_get_io_ptr(png);
    buf_append(out, data, n);
    if (out->failed)
        png_error(png, "out of memory");
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void choose_effort(png_structp png, enum image_png_speed speed)
{
    if (speed == IMAGE_PNG_FAST) {
        png_set_compression_level(png, 1);
        png_set_compression_strategy(png, Z_RLE);
        png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
    } else {
        png_set_compression_level(png, 9);
        png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_ALL_FILTERS);
    }
}

static int writer_run(struct png_writer *w, const struct frame *f, enum image_png_speed speed, const uint8_t (*rgb)[3],
                      int n_colors, struct err *e)
{
    if (setjmp(png_jmpbuf(w->png)))
        return err_set(e, w->out->failed ? ERR_NOMEM : ERR_INVALID, "PNG of %d x %d: %s", f->width_px, f->height_px,
                       w->text);
    png_set_write_fn(w->png, w->out, on_write, on_flush);
    int color = rgb ? PNG_COLOR_TYPE_PALETTE : f->fmt == FRAME_RGB24 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY;
    png_set_IHDR(w->png, w->info, (png_uint_32)f->width_px, (png_uint_32)f->height_px, 8, color, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (rgb) {
        png_color palette[256];
        for (int i = 0; i < n_colors; i++)
            palette[i] = (png_color){rgb[i][0], rgb[i][1], rgb[i][2]};
        png_set_PLTE(w->png, w->info, palette, n_colors);
        png_set_compression_level(w->png, 6); /* labels: flat areas, which filters only disturb */
        png_set_filter(w->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);
    } else {
        choose_effort(w->png, speed);
    }
    png_write_info(w->png, w->info);
    for (int y = 0; y < f->height_px; y++)
        png_write_row(w->png, f->data + (size_t)y * (size_t)f->stride_bytes);
    png_write_end(w->png, w->info);
    return 0;
}

static int encode(const struct frame *f, enum image_png_speed speed, const uint8_t (*rgb)[3], int n_colors,
                  struct buf *out, struct err *e)
{
    struct png_writer *w = calloc(1, sizeof(*w));
    if (w)
        w->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w, on_error, on_warning);
    if (w && w->png)
        w->info = png_create_info_struct(w->png);
    int rc = w && w->info ? 0 : err_set(e, ERR_NOMEM, "PNG: out of memory");
    if (rc == 0) {
        w->out = out;
        rc = writer_run(w, f, speed, rgb, n_colors, e);
    }
    if (w)
        png_destroy_write_struct(&w->png, &w->info);
    free(w);
    return rc;
}

int image_encode_png(const struct frame *f, enum image_png_speed speed, struct buf *out, struct err *e)
{
    return encode(f, speed, NULL, 0, out, e);
}

int image_encode_png_palette(const struct frame *f, const uint8_t (*rgb)[3], int n, struct buf *out, struct err *e)
{
    BUG_ON(f->fmt != FRAME_GRAY8 || n < 1 || n > 256);
    return encode(f, IMAGE_PNG_SMALL, rgb, n, out, e);
}
