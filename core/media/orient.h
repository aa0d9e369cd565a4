/* Turning pictures upright: the eight orientations of EXIF tag 0x0112 (TIFF 6.0, "Orientation"), also made by display
 * matrices. */
#ifndef CORE_MEDIA_ORIENT_H
#define CORE_MEDIA_ORIENT_H

#include <stddef.h>
#include <stdint.h>

#include "core/media/frame.h"

/* Orientation 1..8 of an EXIF block ("Exif\0\0" optional, then TIFF); 1 when it says nothing valid. */
int orient_from_exif(const uint8_t *data, size_t len);
/* Of a 3x3 display matrix (16.16 fixed point, row-vector convention of ISO 14496-12); 1 unless it is a multiple of 90
 * degrees. */
int orient_from_matrix(const int32_t m[9]);
static inline int orient_swaps_sides(int orientation)
{
    return orientation >= 5;
}
/* Copies src into dst, turned. dst has the sides of the upright picture and the same format. */
void orient_copy(const struct frame *src, struct frame *dst, int orientation);
/* Replaces *f by a new, upright frame; times and ordinal are kept. */
int orient_apply(struct frame **f, int orientation, struct err *e);

#endif
