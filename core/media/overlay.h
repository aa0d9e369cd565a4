/*
 * Overlay video out: each frame with its saliency map laid over it, MP4 with the index in front (plays while it loads).
 * H.264 by libx264, else VP9, else MPEG-4 part 2, whichever the FFmpeg at hand has. Odd sizes are padded by repeating
 * the last row or column. Frames that differ from the video's size are scaled.
 */
#ifndef CORE_MEDIA_OVERLAY_H
#define CORE_MEDIA_OVERLAY_H

#include <stdint.h>

#include "core/base/err.h"
#include "core/media/frame.h"

enum overlay_style {
    OVERLAY_HEAT,   /* the map in heat colours, more opaque where it is higher */
    OVERLAY_CUTOUT, /* the background dimmed, more where the map is lower */
};

struct overlay_opts {
    enum overlay_style style;
    double opacity; /* 0..1; 0 means 0.6 */
    double fps;     /* for frames without time stamps; 0 means 25 */
    int threads;    /* 0 means 1 */
};

struct overlay;

/* Writes to path + ".part", renamed by overlay_finish. */
int overlay_open(const char *path, int width_px, int height_px, const struct overlay_opts *opts, struct overlay **out,
                 struct err *e);
/* frame RGB24; map: frame-sized, one byte a pixel. Frames come in order. */
int overlay_add(struct overlay *o, const struct frame *frame, const uint8_t *map, int map_stride_bytes, struct err *e);
int overlay_finish(struct overlay *o, struct err *e);
void overlay_close(struct overlay *o); /* NULL is fine; without finish the file is removed */
/* The blending alone: rgb (packed or strided, changed in place). */
void overlay_blend(struct frame *rgb, const uint8_t *map, int map_stride_bytes, enum overlay_style style,
                   double opacity);

#endif
