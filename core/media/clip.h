/*
 * Clips in: a video file, a single image, a zip of images or a folder of images, read as a sequence of RGB frames.
 *
 * A frame is the n-th decoded picture, counted from 0, everywhere: time stamps say when it is shown, never which one it
 * is. Pictures come upright (rotation metadata and EXIF orientation applied), in sRGB, full range, transparency over
 * black. All pictures of a video have the size of its first one (later ones that differ are scaled to it); images of a
 * zip or a folder keep their own.
 *
 * Content decides the kind, never the file's name. Only the one file is read: formats that refer to other files or to
 * the network are refused.
 *
 * Errors: ERR_UNSUPPORTED not media, or a codec we do not decode; ERR_CORRUPT damaged; ERR_LIMIT over a limit, naming
 * it; ERR_TIMEOUT over the time; ERR_NOTFOUND, ERR_IO, ERR_NOMEM. A clip is used by one thread at a time.
 */
#ifndef CORE_MEDIA_CLIP_H
#define CORE_MEDIA_CLIP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/media/frame.h"

enum clip_sandbox {
    CLIP_SANDBOXED, /* decoded in a confined process of its own (sandbox.h): ERR_UNSUPPORTED where the system cannot */
    CLIP_UNSANDBOXED, /* decoded in this process: for files that are trusted, or a process that is confined already */
};

/* Zero means the default of clip_limits_default. Every limit is an ERR_LIMIT error that names it, except time:
 * ERR_TIMEOUT. */
struct clip_limits {
    int64_t max_bytes;          /* the file; for a folder the sum */
    int64_t max_unpacked_bytes; /* a zip's entries, inflated, together */
    int64_t max_pixels;         /* one picture */
    int64_t max_frames;         /* pictures in the clip */
    int64_t max_decode_ms;      /* wall time spent inside the decoder, all calls of one clip together */
    int max_side_px;            /* width or height */
    int threads;                /* decoder threads */
    int max_damaged; /* pictures or packets that may fail to decode before the clip is ERR_CORRUPT; -1: any number.
                      * The default, 0, refuses a clip at its first damaged picture. Here zero means zero. */
    enum clip_sandbox sandbox;
};
extern const struct clip_limits clip_limits_default;

enum clip_kind { CLIP_VIDEO, CLIP_IMAGE, CLIP_ZIP, CLIP_FOLDER };

struct clip_info {
    enum clip_kind kind;
    int width_px, height_px; /* of the first picture, upright */
    int64_t frames;          /* exact when frames_exact, else the container's claim, 0 when it makes none */
    bool frames_exact;
    double fps;        /* average; 0 for images and where unknown */
    double duration_s; /* 0 for images and where unknown */
    char codec[32];    /* "h264", "jpeg", "png"; of the first image in a zip or folder */
    char format[32];   /* "mov,mp4", "zip", "folder", "jpeg" */
};

struct clip;

/* Starts the process that forks the confined decoders. Clips do so by themselves; a program that will load much or start threads
 * calls this first thing, while it is small. */
int clip_sandbox_start(struct err *e);
/* Instead, for a process that has threads when decoders must be restarted: another one calls clip_sandbox_serve on one end of a
 * SOCK_SEQPACKET pair while it has one thread, this one clip_sandbox_use on the other. Borrowed for good. */
void clip_sandbox_use(int requests);
_Noreturn void clip_sandbox_serve(int requests);

/* Opens and decodes the first picture, so what is not decodable fails here. limits may be NULL. */
int clip_open(const char *path, const struct clip_limits *limits, struct clip **out, struct err *e);
const struct clip_info *clip_info(const struct clip *c);
/* 1 and a frame (the caller's reference), 0 at the end, negative on error. After 0 the frame count in clip_info is
 * exact. */
int clip_next(struct clip *c, struct frame **out, struct err *e);
/* The n-th decoded picture, exactly; clip_next goes on after it. ERR_NOTFOUND past the end. Going forward decodes what
 * lies between; going back uses the time stamps seen so far to start at a key frame, and checks them. After a failure
 * only seek or close. */
int clip_seek_frame(struct clip *c, int64_t n, struct frame **out, struct err *e);
/* Name of a frame that had one (image, zip, folder): relative path without the extension, unique in the clip, safe to
 * append to a directory (no "..", no leading '/'). NULL for video. Lives as long as the clip. */
const char *clip_frame_name(const struct clip *c, int64_t ordinal);
/* Video frames come from this pool instead of the clip's own, which has no bound; images are allocated one by one. The
 * pool must outlive the clip. */
void clip_use_pool(struct clip *c, struct frame_pool *p);
void clip_close(struct clip *c); /* NULL is fine; frames may outlive it */

/* Opens, counts every picture by decoding, closes: info->frames is exact. */
int clip_probe(const char *path, const struct clip_limits *limits, struct clip_info *info, struct err *e);

#endif
