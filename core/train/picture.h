/*
 * A labelled picture in memory: 8-bit RGB and an 8-bit mask of the same size. What a data set hands out and what
 * augmentation reads. Pictures are immutable once loaded and may be shared between threads.
 */
#ifndef CORE_TRAIN_PICTURE_H
#define CORE_TRAIN_PICTURE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct picture {
    int width_px, height_px;
    uint8_t *rgb;  /* height * width * 3 */
    uint8_t *mask; /* height * width; 0..255, soft along edges after shrinking */
    double area;   /* share of the picture that is foreground, 0..1 */
};

/* Reads both files; their sizes must agree (ERR_INVALID names both). Masks are read as IMAGE_MASK. When the longer side
 * exceeds max_side_px both are shrunk by area averaging. The caller frees with picture_free. */
int picture_load(const char *image, const char *mask, int max_side_px, struct picture **out, struct err *e);
/* Makes an empty (black, no foreground) picture; NULL when out of memory. */
struct picture *picture_new(int width_px, int height_px);
/* Recomputes `area` after the mask was written. */
void picture_measure(struct picture *p);
size_t picture_bytes(const struct picture *p);
void picture_free(struct picture *p);

#endif
