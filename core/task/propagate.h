/*
 * The propagate job: a clip and a few annotated frames (keyframes) in, a mask for every other frame out, each with a confidence and
 * a map of where it is uncertain. Shared by `salient propagate` and the worker; where results go is the sink's business.
 *
 * Keyframes cut the clip into intervals. An interval is computed from its two keyframes and the frames between them alone, so
 * changing one keyframe changes two intervals. Each interval has a key, a hash of everything it depends on: a caller who kept the
 * results under that key says so in sink.have and the interval is skipped. Frames before the first and after the last keyframe form
 * one-sided intervals, and their labels say so.
 *
 * Modes.
 *   PROPAGATE_CHAIN  (default) flow from frame to frame, composed towards both keyframes, beside direct flow to them; the warped labels
 *                    vote with weights from distance, forward-backward consistency and colour agreement; the vote is fitted to the
 *                    image's edges and, with a model, refined by the network within a bound (see propagate_net.h)
 *   PROPAGATE_PAPER  Yan et al., ICCV 2019: direct flow to both keyframes, the network's output is the label. Needs a model; frames
 *                    outside the outermost keyframes stay uncovered
 *
 * Memory is bounded in the clip's and in the intervals' length: about PROPAGATE_CHUNK frames of working size are held (20 MB each at
 * 854 x 480), plus one checkpoint of two flow fields per chunk of the longest interval, at most PROPAGATE_REACH frames' worth. A
 * keyframe farther than PROPAGATE_REACH to the right of a frame has no say in it. Intervals longer than a chunk compute
 * their frame-to-frame flow twice.
 */
#ifndef CORE_TASK_PROPAGATE_H
#define CORE_TASK_PROPAGATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/media/clip.h"
#include "core/media/frame.h"

#define PROPAGATE_CHUNK 20
#define PROPAGATE_REACH 1000
#define PROPAGATE_WORK_PX 854 /* longer side at which flow is estimated, by default */
#define PROPAGATE_VOTE_PX 427 /* smaller pictures are worked on at full size throughout */
#define PROPAGATE_MAX_LABELS 255
#define PROPAGATE_NET_PX 288 /* a cut-out around the object needs no more (tests/bench/RESULTS.md) */

struct model;

enum propagate_mode { PROPAGATE_CHAIN, PROPAGATE_PAPER };

struct propagate_key { /* a keyframe */
    int64_t frame;
    const char *
        mask_path; /* image of the frame's size. Palette PNG: its indices are the labels, 0 is background. Grey: two values, or
                            * values up to 255, mean background and object (>= half of the largest); other grey values are labels */
};

struct propagate_span {        /* an interval */
    int64_t left, right;       /* its keyframes; -1: none on this side */
    int64_t first, last;       /* the frames to label, inclusive; never empty */
    char key[SHA256_HEX_SIZE]; /* of everything the labels depend on */
};

enum propagate_source { PROPAGATE_MANUAL, PROPAGATE_PSEUDO, PROPAGATE_UNCOVERED };

struct propagate_label {
    int64_t frame;
    const char *name; /* see clip_frame_name; NULL for video */
    enum propagate_source source;
    double confidence;   /* 0..1, an estimate of the region similarity J with the true mask; 1 for MANUAL */
    int64_t left, right; /* keyframes it comes from; -1: none */
    bool one_sided;
    bool binary;              /* one kind of object: masks are 0 and 255. Else labels 0..255 */
    const char *flow, *model; /* "dis:brisk"; "name/version sha256" or NULL */
};

/* Called one at a time, `label` from any thread of the job. A negative return stops the job with that error. All but `label` may be
 * NULL. */
struct propagate_sink {
    void *arg;
    int (*begin)(void *arg, const struct clip_info *info, const struct propagate_span *spans, size_t n, struct err *e);
    /* True: the labels of this span are there already under span->key; it is skipped. */
    bool (*have)(void *arg, const struct propagate_span *span);
    /* Every keyframe, and every frame of a span that is computed; not in the order of frames. mask and uncertainty (0 certain ..
     * 255) are GRAY8 of the frame's size, valid during the call; both NULL for UNCOVERED. */
    int (*label)(void *arg, const struct propagate_label *l, const struct frame *mask, const struct frame *uncertainty,
                 struct err *e);
    /* All labels of a span were handed over. */
    int (*span_done)(void *arg, const struct propagate_span *span, struct err *e);
};

struct propagate_opts {
    const char *frames;               /* see clip_open */
    struct clip_limits limits;        /* zeros are defaults */
    const struct propagate_key *keys; /* any order, one per frame, at least one */
    size_t n_keys;
    const char *flow; /* see flow_open; NULL: "dis" */
    enum propagate_mode mode;
    struct model *model;  /* borrowed; NULL: no network */
    int work_px;          /* 0: PROPAGATE_WORK_PX */
    int net_px;           /* network input side; 0: the model's own, of our own generators at most PROPAGATE_NET_PX */
    const char *clip_key; /* identifies the clip's content in span keys; NULL: it is hashed */
    struct propagate_sink sink;
    void (*progress)(void *arg, int64_t done, int64_t total); /* frames labelled or skipped, of all; may be NULL */
    void *progress_arg;
    bool (*canceled)(void *arg); /* polled at every frame; true: ERR_CANCELED. May be NULL */
    void *canceled_arg;
};

struct propagate_result {
    struct clip_info info;
    int64_t labelled, skipped, uncovered; /* frames; keyframes count in none of them */
    int64_t wall_ms, flow_ms, net_ms;
};

/* Errors: ERR_INVALID (a mask of another size, two keyframes on one frame, a keyframe beyond the end, a changing frame size),
 * ERR_CANCELED, and those of clip_open, flow_open, image_read_index and the network. */
int propagate_run(const struct propagate_opts *o, struct propagate_result *result, struct err *e);

/* The name that labels made with this flow carry ("dis:brisk"); spec as in propagate_opts. ERR_INVALID: there is no such flow. */
int propagate_flow_name(const char *spec, char *out, size_t size, struct err *e);

/*
 * Keyframes of a directory: image files named as their frames. For a clip of named frames (folder, zip) a stem is the frame's name; for
 * video it is the frame's number ("00010.png"). ERR_INVALID for a name that is no frame of the clip, ERR_NOTFOUND when there is none.
 * Free with propagate_keys_free.
 */
int propagate_keys_from_dir(const char *dir, const char *frames, const struct clip_limits *limits,
                            struct propagate_key **keys, size_t *n, struct err *e);
/* Colours for writing label masks: those of the first palette mask among the keys, else the usual ones of VOC and DAVIS. */
void propagate_palette(const struct propagate_key *keys, size_t n, uint8_t rgb[256][3]);
void propagate_keys_free(struct propagate_key *keys, size_t n);

#endif
