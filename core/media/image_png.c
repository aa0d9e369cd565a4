/*
 * PNG in through libpng. As with JPEG, fatal errors jump: everything to be freed lives in the struct. Limits stand
 * before any memory is taken: sides and area by us, chunk sizes and counts by libpng. All forms become 8-bit grey,
 * 8-bit RGB or raw indices; alpha is laid over black, by hand, since libpng's background wants gamma handled too.
 * Colour profiles and gamma are not applied (as in every tool that salience data sets were made with).
 */
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "core/media/image_codec.h"
#include "core/media/orient.h"

#define PNG_CHUNK_BYTES_MAX ((png_alloc_size_t)8 << 20) /* of an ancillary chunk, inflated */
#define PNG_CHUNKS_MAX 1000

struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *at, *end;
    char text[200];
    bool out_of_memory;
    struct frame *frame;
    uint8_t *pixels; /* whole picture as libpng gives it: 1, 2, 3 or 4 bytes a pixel */
    png_bytep *rows;
};

static void on_error(png_structp png, png_const_charp text)
{
    struct png_reader *r = (struct png_reader *)png_get_error_ptr(png);
    strncpy(r->text, text, sizeof(r->text) - 1);
    r->out_of_memory = strstr(text, "emory") != NULL;
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t n)
{
    struct png_reader *r = (struct png_reader *)png_get_io_ptr(png);
    if ((size_t)(r->end - r->at) < n)
        png_error(png, "the file ends early");
    memcpy(out, r->at, n);
    r->at += n;
}

static int orientation_of(struct png_reader *r)
{
    png_uint_32 n = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(r->png, r->info, &n, &exif) & PNG_INFO_eXIf)
        return orient_from_exif(exif, n);
    return 1;
}

/* Sets libpng's transformations; afterwards rows are 8 bits a sample with png_get_channels channels. */
static void choose_form(struct png_reader *r, enum image_want want)
{
    int color = png_get_color_type(r->png, r->info), bits = png_get_bit_depth(r->png, r->info);
    bool raw = want == IMAGE_INDEX || (want == IMAGE_MASK && color == PNG_COLOR_TYPE_PALETTE);
    if (bits == 16 && want == IMAGE_GRAY)
        png_set_strip_16(r->png); /* the high byte, as OpenCV reads maps: evaluation must see the same values */
    else if (bits == 16)
        png_set_scale_16(r->png);
    if (raw && (color == PNG_COLOR_TYPE_PALETTE || color == PNG_COLOR_TYPE_GRAY)) {
        png_set_packing(r->png);
    } else {
        if (color == PNG_COLOR_TYPE_PALETTE)
            png_set_palette_to_rgb(r->png);
        else if (color == PNG_COLOR_TYPE_GRAY && bits < 8)
            png_set_expand_gray_1_2_4_to_8(r->png);
        if (png_get_valid(r->png, r->info, PNG_INFO_tRNS))
            png_set_tRNS_to_alpha(r->png);
    }
    png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
}

static uint8_t over_black(unsigned value, unsigned alpha)
{
    return (uint8_t)((value * alpha + 127) / 255);
}

/* One row of `channels` (1 grey, 2 grey+alpha, 3 RGB, 4 RGBA) to grey or RGB. */
static void convert_row(const uint8_t *s, int channels, uint8_t *d, enum frame_format fmt, int width)
{
    for (int x = 0; x < width; x++, s += channels) {
        uint8_t rgb[3] = {s[0], channels >= 3 ? s[1] : s[0], channels >= 3 ? s[2] : s[0]};
        if (channels == 2 || channels == 4)
            for (int i = 0; i < 3; i++)
                rgb[i] = over_black(rgb[i], s[channels - 1]);
        if (fmt == FRAME_RGB24) {
            memcpy(d, rgb, 3);
            d += 3;
        } else {
            *d++ = channels >= 3 ? image_luma(rgb[0], rgb[1], rgb[2]) : rgb[0];
        }
    }
}

/* libpng writes straight into the frame when the forms agree, else into a picture of its own that is converted after.
 */
static int read_pixels(struct png_reader *r, enum image_want want, struct image_meta *meta, struct err *e)
{
    enum frame_format fmt = want == IMAGE_RGB ? FRAME_RGB24 : FRAME_GRAY8;
    size_t height = (size_t)meta->height_px, row_bytes = png_get_rowbytes(r->png, r->info);
    int channels = png_get_channels(r->png, r->info);
    int rc = frame_new(fmt, meta->width_px, meta->height_px, &r->frame, e);
    if (rc < 0)
        return rc;
    bool direct = channels == frame_channels(fmt);
    r->rows = malloc(height * sizeof(*r->rows));
    r->pixels = direct ? NULL : malloc(height * row_bytes);
    if (!r->rows || (!direct && !r->pixels))
        return err_set(e, ERR_NOMEM, "PNG: no memory for %d x %d", meta->width_px, meta->height_px);
    for (size_t y = 0; y < height; y++)
        r->rows[y] = direct ? r->frame->data + y * (size_t)r->frame->stride_bytes : r->pixels + y * row_bytes;
    png_read_image(r->png, r->rows);
    png_read_end(r->png, NULL);
    for (size_t y = 0; !direct && y < height; y++)
        convert_row(r->rows[y], channels, r->frame->data + y * (size_t)r->frame->stride_bytes, fmt, meta->width_px);
    return 0;
}

static int reader_run(struct png_reader *r, enum image_want want, int64_t max_pixels, bool header_only,
                      struct image_meta *meta, struct err *e)
{
    if (setjmp(png_jmpbuf(r->png)))
        return err_set(e, r->out_of_memory ? ERR_NOMEM : ERR_CORRUPT, "PNG: %s", r->text);
    png_set_read_fn(r->png, r, on_read);
    png_set_user_limits(r->png, 0x7fffffff, 0x7fffffff); /* ours are checked below, with a better message */
    png_set_chunk_malloc_max(r->png, PNG_CHUNK_BYTES_MAX);
    png_set_chunk_cache_max(r->png, PNG_CHUNKS_MAX);
    png_read_info(r->png, r->info);
    png_uint_32 w = png_get_image_width(r->png, r->info), h = png_get_image_height(r->png, r->info);
    int rc = image_check_size(w, h, max_pixels, e);
    if (rc < 0)
        return rc;
    *meta = (struct image_meta){.width_px = (int)w,
                                .height_px = (int)h,
                                .orientation = orientation_of(r),
                                .bits = png_get_bit_depth(r->png, r->info),
                                .palette = png_get_color_type(r->png, r->info) == PNG_COLOR_TYPE_PALETTE};
    if (header_only)
        return 0;
    choose_form(r, want);
    return read_pixels(r, want, meta, e);
}

int image_png_decode(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                     struct image_meta *meta, struct err *e)
{
    struct png_reader *r = calloc(1, sizeof(*r));
    if (r)
        r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    if (r && r->png)
        r->info = png_create_info_struct(r->png);
    int rc = r && r->info ? 0 : err_set(e, ERR_NOMEM, "PNG: out of memory");
    if (rc == 0) {
        r->at = data;
        r->end = r->at + len;
        rc = reader_run(r, want, max_pixels, !out, meta, e);
    }
    if (r) {
        png_destroy_read_struct(&r->png, &r->info, NULL);
        free(r->pixels);
        free(r->rows);
        if (rc < 0)
            frame_unref(r->frame);
        else if (out)
            *out = r->frame;
        free(r);
    }
    return rc;
}
