/*
 * Single images: JPEG through libjpeg-turbo, PNG through libpng, by content. (Other still formats are read by
 * clip_open.) Limits are checked before memory is taken; EXIF orientation is applied; 16 bits become 8; transparency
 * goes over black. Errors: ERR_UNSUPPORTED neither JPEG nor PNG, ERR_CORRUPT damaged or truncated, ERR_LIMIT over
 * max_pixels.
 */
#ifndef CORE_MEDIA_IMAGE_H
#define CORE_MEDIA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/media/frame.h"

#define IMAGE_MAX_PIXELS_DEFAULT ((int64_t)64 << 20)

enum image_type { IMAGE_NONE, IMAGE_JPEG, IMAGE_PNG };
enum image_want {
    IMAGE_RGB,   /* RGB24 */
    IMAGE_GRAY,  /* GRAY8: BT.601 luma of colour, of 16 bits the high 8, palette colours resolved. For saliency maps */
    IMAGE_INDEX, /* GRAY8 with raw labels: a palette PNG's indices, a grey image's values (1, 2 and 4 bits unscaled);
                  * colour gives luma */
    IMAGE_MASK,  /* GRAY8 of 0 and 255: palette index != 0; 1-bit != 0; else luma >= 128 */
};

enum image_type image_sniff(const void *data, size_t len);
/* max_pixels 0: IMAGE_MAX_PIXELS_DEFAULT. *out is the caller's. */
int image_decode(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                 struct err *e);
int image_read_rgb(const char *path, int64_t max_pixels, struct frame **out, struct err *e);
int image_read_gray(const char *path, int64_t max_pixels, struct frame **out, struct err *e);
int image_read_index(const char *path, int64_t max_pixels, struct frame **out, struct err *e);
int image_read_mask(const char *path, int64_t max_pixels, struct frame **out, struct err *e);
/* Size without decoding pixels (upright). */
int image_read_size(const char *path, int *width_px, int *height_px, struct err *e);

enum image_png_speed {
    IMAGE_PNG_FAST, /* for maps: a few ms at 480p */
    IMAGE_PNG_SMALL,
};
/* Appends a PNG (8-bit grey or RGB) / a baseline JPEG, quality 1..100, to `out`. ERR_NOMEM. */
int image_encode_png(const struct frame *f, enum image_png_speed speed, struct buf *out, struct err *e);
int image_encode_jpeg(const struct frame *f, int quality, struct buf *out, struct err *e);
/* GRAY8 frame as a palette PNG: its values are indices below n <= 256; rgb holds n colours. For label exports. */
int image_encode_png_palette(const struct frame *f, const uint8_t (*rgb)[3], int n, struct buf *out, struct err *e);
/* Atomic file write of IMAGE_PNG_FAST. */
int image_write_png(const char *path, const struct frame *f, struct err *e);
/* A borrowed view of packed grey pixels, for the encoders. */
static inline struct frame image_gray_view(const uint8_t *data, int width_px, int height_px, int stride_bytes)
{
    return (struct frame){.data = (uint8_t *)(uintptr_t)data,
                          .width_px = width_px,
                          .height_px = height_px,
                          .stride_bytes = stride_bytes,
                          .fmt = FRAME_GRAY8};
}

#endif
