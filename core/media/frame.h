/*
 * One picture in memory, reference counted, and the pool that recycles and bounds them.
 *
 * A frame belongs to whoever holds a reference; the last frame_unref gives it back to its pool (or frees it). A frame
 * is written only by its maker, before it is shared; afterwards it is read-only and may be used from any thread.
 */
#ifndef CORE_MEDIA_FRAME_H
#define CORE_MEDIA_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum frame_format {
    FRAME_RGB24, /* R,G,B bytes, sRGB-coded, full range */
    FRAME_GRAY8, /* one byte a pixel */
};

struct frame_pool;

struct frame {
    uint8_t *data; /* top row first */
    int width_px, height_px;
    int stride_bytes; /* distance between rows; rows start 64-byte aligned */
    enum frame_format fmt;
    int64_t ordinal;         /* n-th decoded picture of its clip, from 0; 0 for a picture alone */
    int64_t pts_ms;          /* presentation time from the clip's first picture; -1 when the clip has none */
    struct frame_impl *impl; /* of frame.c */
};

/* At most max_frames are out at once; frame_pool_get blocks for the next. 0: no bound, the pool only recycles.
 * NULL when out of memory. */
struct frame_pool *frame_pool_new(size_t max_frames);
/* ERR_NOMEM, or ERR_CANCELED when the pool was closed. Pixels and times of a new frame are undefined. */
int frame_pool_get(struct frame_pool *p, enum frame_format fmt, int width_px, int height_px, struct frame **out,
                   struct err *e);
/* Wakes everybody who waits in frame_pool_get; it fails from now on. */
void frame_pool_close(struct frame_pool *p);
/* Drops the owner's hold; the memory goes when the last frame comes back. NULL is fine. */
void frame_pool_free(struct frame_pool *p);

/* A frame of its own, outside any pool. ERR_NOMEM. */
int frame_new(enum frame_format fmt, int width_px, int height_px, struct frame **out, struct err *e);
struct frame *frame_ref(struct frame *f); /* returns f */
void frame_unref(struct frame *f);        /* NULL is fine */

static inline int frame_channels(enum frame_format fmt)
{
    return fmt == FRAME_RGB24 ? 3 : 1;
}

#endif
