/*
 * Inside core/media: what a clip is read from. Each kind of input (video, image, zip, folder, sandboxed process) is a
 * source behind one table of functions; clip.c owns the limits that are the same for all.
 */
#ifndef CORE_MEDIA_CLIP_SOURCE_H
#define CORE_MEDIA_CLIP_SOURCE_H

#include "core/base/buf.h"
#include "core/media/clip.h"

/* Bytes of an input: a regular file (fd, read with pread, so the file offset does not matter) or memory. Plain data,
 * borrowed. */
struct source_bytes {
    int fd; /* -1: mem */
    const uint8_t *mem;
    int64_t size;
};

/* What a source may use of its clip, and must keep to. */
struct source_env {
    struct clip_limits limits;
    struct frame_pool *pool;
    struct remote *remote; /* stills of a folder are decoded there; NULL: in this process */
    int64_t deadline_ms;   /* monotonic; moved by clip.c so that only time inside the clip counts */
};

struct source;
struct remote;

struct source_ops {
    /* Next picture. out NULL: decode without converting. 1, 0 at the end, negative. Sets ordinal and pts_ms. */
    int (*next)(struct source *s, struct frame **out, struct err *e);
    /* Makes the n-th picture the next one. ERR_NOTFOUND when there is none. */
    int (*seek)(struct source *s, int64_t n, struct err *e);
    const char *(*name)(const struct source *s, int64_t ordinal); /* NULL entry: frames have no names */
    void (*close)(struct source *s);
};

/* First member of every source. */
struct source {
    const struct source_ops *ops;
    struct source_env *env;
    struct clip_info info; /* sides may be 0 until the first picture */
};

/* By content. */
int source_open_file(struct source_bytes in, struct source_env *env, struct source **out, struct err *e);
/* Each opens over borrowed bytes that outlive it; on failure nothing is kept. */
/* format: a demuxer to use instead of probing, or NULL. */
int source_open_video(struct source_bytes in, const char *format, struct source_env *env, struct source **out,
                      struct err *e);
int source_open_image(struct source_bytes in, struct source_env *env, struct source **out, struct err *e);
int source_open_zip(struct source_bytes in, struct source_env *env, struct source **out, struct err *e);
int source_open_folder(const char *path, struct source_env *env, struct source **out, struct err *e);

/* Reads up to n bytes at `at`: the number, 0 at the end, negative ERR_IO. */
int64_t source_read_at(struct source_bytes in, int64_t at, void *out, size_t n, struct err *e);
/* All of it (<= max_bytes) into memory. */
int source_read_all(struct source_bytes in, int64_t max_bytes, struct buf *out, struct err *e);
/* A whole still image in memory, of any format we decode, to an upright RGB frame from nobody's pool. codec gets its
 * name. */
int source_decode_still(const void *data, size_t len, struct source_env *env, struct frame **out, char codec[32],
                        struct err *e);
/* ERR_TIMEOUT when the deadline has passed. */
int source_check_time(const struct source_env *env, struct err *e);
int source_check_size(const struct source_env *env, int64_t width_px, int64_t height_px, struct err *e);

#endif
