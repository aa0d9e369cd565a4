/* Single images by content: picks the codec, then makes what was asked for of what it gave: upright, grey, mask. */
#include "core/media/image.h"

#include <string.h>

#include "core/base/fs.h"
#include "core/media/image_codec.h"
#include "core/media/orient.h"

#define IMAGE_SIDE_MAX 65535
#define IMAGE_FILE_MAX ((size_t)256 << 20)

enum image_type image_sniff(const void *data, size_t len)
{
    if (len >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return IMAGE_PNG;
    if (len >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        return IMAGE_JPEG;
    return IMAGE_NONE;
}

int image_check_size(int64_t width_px, int64_t height_px, int64_t max_pixels, struct err *e)
{
    if (width_px <= 0 || height_px <= 0)
        return err_set(e, ERR_CORRUPT, "a picture of %lld x %lld pixels", (long long)width_px, (long long)height_px);
    if (width_px > IMAGE_SIDE_MAX || height_px > IMAGE_SIDE_MAX || width_px * height_px > max_pixels)
        return err_set(e, ERR_LIMIT, "a picture of %lld x %lld is over the limit of %lld pixels", (long long)width_px,
                       (long long)height_px, (long long)max_pixels);
    return 0;
}

static void row_to_luma(const uint8_t *s, uint8_t *d, int width)
{
    for (int x = 0; x < width; x++, s += 3)
        d[x] = image_luma(s[0], s[1], s[2]);
}

/* Replaces *f by its luma; only CMYK JPEG comes here, since the codecs make grey themselves. */
static int to_luma(struct frame **f, struct err *e)
{
    struct frame *src = *f, *dst = NULL;
    int rc = frame_new(FRAME_GRAY8, src->width_px, src->height_px, &dst, e);
    if (rc < 0)
        return rc;
    for (int y = 0; y < src->height_px; y++)
        row_to_luma(src->data + (size_t)y * (size_t)src->stride_bytes,
                    dst->data + (size_t)y * (size_t)dst->stride_bytes, src->width_px);
    frame_unref(src);
    *f = dst;
    return 0;
}

/* Masks are met as palette indices, as 0/255 and as 0/1: a grey picture whose values are all 0 or 1 counts as labels.
 */
static void to_mask(struct frame *f, bool palette)
{
    int top = 0;
    for (int y = 0; y < f->height_px; y++) {
        const uint8_t *p = f->data + (size_t)y * (size_t)f->stride_bytes;
        for (int x = 0; x < f->width_px; x++)
            top = p[x] > top ? p[x] : top;
    }
    int least = palette || top <= 1 ? 1 : 128;
    for (int y = 0; y < f->height_px; y++) {
        uint8_t *p = f->data + (size_t)y * (size_t)f->stride_bytes;
        for (int x = 0; x < f->width_px; x++)
            p[x] = p[x] >= least ? 255 : 0;
    }
}

static int decode(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                  struct image_meta *meta, struct err *e)
{
    if (max_pixels <= 0)
        max_pixels = IMAGE_MAX_PIXELS_DEFAULT;
    switch (image_sniff(data, len)) {
    case IMAGE_JPEG:
        return image_jpeg_decode(data, len, want, max_pixels, out, meta, e);
    case IMAGE_PNG:
        if (out && image_png_decode_fast(data, len, want, max_pixels, out, meta))
            return 0;
        return image_png_decode(data, len, want, max_pixels, out, meta, e);
    case IMAGE_NONE:
        break;
    }
    return err_set(e, ERR_UNSUPPORTED, "neither a JPEG nor a PNG image");
}

int image_decode_meta(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                      struct image_meta *meta, struct err *e)
{
    struct frame *f = NULL;
    *out = NULL;
    int rc = decode(data, len, want, max_pixels, &f, meta, e);
    if (rc < 0)
        return rc;
    if (want != IMAGE_RGB && f->fmt == FRAME_RGB24)
        rc = to_luma(&f, e);
    if (rc == 0)
        rc = orient_apply(&f, meta->orientation, e);
    if (rc < 0) {
        frame_unref(f);
        return rc;
    }
    if (want == IMAGE_MASK)
        to_mask(f, meta->palette);
    *out = f;
    return 0;
}

int image_decode(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                 struct err *e)
{
    struct image_meta meta;
    return image_decode_meta(data, len, want, max_pixels, out, &meta, e);
}

static int image_read(const char *path, enum image_want want, int64_t max_pixels, struct frame **out, struct err *e)
{
    struct buf file = BUF_INIT;
    *out = NULL;
    int rc = fs_read(path, IMAGE_FILE_MAX, &file, e);
    if (rc == 0 && (rc = image_decode(file.data, file.len, want, max_pixels, out, e)) < 0)
        err_wrap(e, "%s", path);
    buf_free(&file);
    return rc;
}

int image_read_rgb(const char *path, int64_t max_pixels, struct frame **out, struct err *e)
{
    return image_read(path, IMAGE_RGB, max_pixels, out, e);
}

int image_read_gray(const char *path, int64_t max_pixels, struct frame **out, struct err *e)
{
    return image_read(path, IMAGE_GRAY, max_pixels, out, e);
}

int image_read_index(const char *path, int64_t max_pixels, struct frame **out, struct err *e)
{
    return image_read(path, IMAGE_INDEX, max_pixels, out, e);
}

int image_read_mask(const char *path, int64_t max_pixels, struct frame **out, struct err *e)
{
    return image_read(path, IMAGE_MASK, max_pixels, out, e);
}

int image_read_size(const char *path, int *width_px, int *height_px, struct err *e)
{
    struct buf file = BUF_INIT;
    struct image_meta meta;
    int rc = fs_read(path, IMAGE_FILE_MAX, &file, e);
    if (rc == 0 && (rc = decode(file.data, file.len, IMAGE_RGB, INT64_MAX, NULL, &meta, e)) < 0)
        err_wrap(e, "%s", path);
    if (rc == 0) {
        bool swap = orient_swaps_sides(meta.orientation);
        *width_px = swap ? meta.height_px : meta.width_px;
        *height_px = swap ? meta.width_px : meta.height_px;
    }
    buf_free(&file);
    return rc;
}

int image_write_png(const char *path, const struct frame *f, struct err *e)
{
    struct buf png = BUF_INIT;
    int rc = image_encode_png(f, IMAGE_PNG_FAST, &png, e);
    if (rc == 0)
        rc = fs_write_atomic(path, png.data, png.len, e);
    buf_free(&png);
    return rc;
}
