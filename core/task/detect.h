/*
 * The detect job: a clip in, a saliency map for every frame out. Decoding, inference and encoding overlap on bounded
 * queues, so memory does not grow with the clip. Shared by `salient detect` and the worker; where results go is the
 * sink's business.
 */
#ifndef CORE_TASK_DETECT_H
#define CORE_TASK_DETECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/media/clip.h"

struct detector;
struct model;

/* Called one at a time, in the order of frames, from a thread of the job's own. A negative return stops the job with
 * that error. */
struct detect_sink {
    void *arg;
    /* Once, before the first map. info->frames may be a claim (see frames_exact). May be NULL. */
    int (*begin)(void *arg, const struct clip_info *info, struct err *e);
    /* One 8-bit grey PNG of the frame's own size. name: see clip_frame_name, NULL for video. The bytes are valid during
     * the call. */
    int (*map)(void *arg, int64_t ordinal, const char *name, const void *png, size_t len, struct err *e);
};

struct detect_opts {
    const char *input;
    struct clip_limits limits; /* zeros are defaults */
    /* Borrowed, ready for a clip; used instead of model and size_px. After an error it may not be ready again. NULL: one
     * is opened for this job. */
    struct detector *detector;
    struct model *model; /* borrowed; not used by anybody else meanwhile. Threads: see net/detector.h */
    int size_px;         /* network input side; 0: the model's own */
    struct detect_sink sink;
    const char
        *overlay_path; /* NULL: no overlay video; else written by overlay.h, complete when detect_run returns 0 */
    /* After each map: done frames, and how many there are: a claim until all are decoded, 0 without one. From the
     * sink's thread. May be NULL. */
    void (*progress)(void *arg, int64_t done, int64_t total);
    void *progress_arg;
    /* Polled at every frame of every stage; true stops the job with ERR_CANCELED. May be called from several threads.
     * May be NULL. */
    bool (*canceled)(void *arg);
    void *canceled_arg;
};

struct detect_result {
    struct clip_info info;                           /* frames exact */
    int64_t frames;                                  /* maps handed to the sink */
    int64_t wall_ms, decode_ms, infer_ms, encode_ms; /* busy time of each stage; they overlap */
};

/* 0, or the first error of any stage; threads are joined and the overlay's partial file is removed in every case. */
int detect_run(const struct detect_opts *opts, struct detect_result *result, struct err *e);

#endif
