/*
 * Single pictures of clips, quickly. Finding picture n means decoding all before it (clip.h counts pictures exactly), and somebody who looks
 * at a clip asks for n + 1 next: so the last few clips stay open where they are, for some seconds, and pictures that were passed
 * on the way are kept as JPEG.
 */
#ifndef SERVER_STILLS_H
#define SERVER_STILLS_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/media/clip.h"

struct stills;

struct stills *stills_new(const struct clip_limits *limits); /* NULL: out of memory */
void stills_free(struct stills *s);
/* Appends the n-th picture as JPEG. Thread-safe. Errors as clip_open and clip_seek_frame; ERR_NOTFOUND past the end. */
int stills_get(struct stills *s, const char *path, int64_t n, struct buf *jpeg, struct err *e);
/* Closes clips that nobody asked for lately; to be called every second or so. */
void stills_tidy(struct stills *s);

#endif
