/* Between image.c and its two codecs. */
#ifndef CORE_MEDIA_IMAGE_CODEC_H
#define CORE_MEDIA_IMAGE_CODEC_H

#include "core/media/image.h"

/* What a decoder found beside the pixels. */
struct image_meta {
    int width_px, height_px; /* as stored */
    int orientation;         /* EXIF, 1..8 */
    int bits;                /* of a sample as stored; 1 for a bilevel PNG */
    bool palette;
    bool more_pictures; /* JPEG: another picture follows directly: a motion JPEG stream */
};

/* Pixels as stored (not yet upright). out NULL: header only, fills meta. GRAY8 for want != IMAGE_RGB. */
int image_jpeg_decode(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                      struct image_meta *meta, struct err *e);
int image_png_decode(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                     struct image_meta *meta, struct err *e);
/* The same for plain grey and palette PNGs when want is IMAGE_GRAY or IMAGE_INDEX, faster. False: use
 * image_png_decode. */
bool image_png_decode_fast(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                           struct image_meta *meta);
/* As image_decode, also telling what else was found. meta->orientation is already applied. */
int image_decode_meta(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                      struct image_meta *meta, struct err *e);
/* Shared check of sides and area. */
int image_check_size(int64_t width_px, int64_t height_px, int64_t max_pixels, struct err *e);
/* BT.601 luma, rounded, in the 16-bit fixed point that common tools use. */
static inline uint8_t image_luma(unsigned r, unsigned g, unsigned b)
{
    return (uint8_t)((19595 * r + 38470 * g + 7471 * b + 32768) >> 16);
}

#endif
