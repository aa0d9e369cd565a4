/*
 * Label masks as people and tools write them, PNG, one label a pixel, 0 is background:
 *   palette                     the index is the label
 *   grey or black-and-white     one value besides 0 (1, 255, ...): object 1. Several, none above 64: they are labels
 *   RGB, RGBA, grey with alpha  black and white only: object 1 (alpha lies over black)
 * Refused by name (ERR_UNSUPPORTED): what is no PNG, 16 bits, soft edges, colours.
 */
#ifndef CORE_MEDIA_LABELMAP_H
#define CORE_MEDIA_LABELMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/media/frame.h"

struct labelmap {
    struct frame *labels; /* GRAY8 of labels; the caller's */
    bool present[256];    /* which labels occur */
    int objects;          /* of them besides 0 */
};

/* The mask must have exactly this size (ERR_INVALID names both). Also ERR_CORRUPT, ERR_NOMEM. */
int labelmap_decode(const void *png, size_t len, int width_px, int height_px, struct labelmap *out, struct err *e);
/* Fills present and objects from labels. */
void labelmap_count(struct labelmap *m);
void labelmap_fini(struct labelmap *m);
/* As a palette PNG with the colours below; the same labels give the same bytes. */
int labelmap_encode(const struct frame *labels, struct buf *out, struct err *e);
/* The colours that PASCAL VOC and DAVIS use: the bits of the label dealt out to the channels. */
void labelmap_palette(uint8_t rgb[256][3]);

#endif
