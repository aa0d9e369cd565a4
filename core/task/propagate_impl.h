/* What the files of the propagate job share. Not for others. */
#ifndef CORE_TASK_PROPAGATE_IMPL_H
#define CORE_TASK_PROPAGATE_IMPL_H

#include "core/flow/flow.h"
#include "core/flow/gfilter.h"
#include "core/flow/vote.h"
#include "core/task/propagate.h"
#include "core/task/propagate_net.h"

/* ---- keyframes (propagate_keys.c) ------------------------------------------------------------------------------------ */

struct key_mask { /* a keyframe as it was read */
    int64_t frame;
    const char *path;
    char sha256[SHA256_HEX_SIZE]; /* of the file */
    enum { KEY_TWO_VALUED, KEY_SOFT, KEY_LABELS } kind;
};

/* Reads, checks and hashes the mask, keeps no pixels. */
int key_inspect(const struct propagate_key *src, int w, int h, struct key_mask *out, struct err *e);
/* GRAY8 of labels, of the frame's size; in a binary job 0 and 255. */
int key_read(const struct key_mask *k, int w, int h, bool binary, struct frame **out, struct err *e);

/* ---- the job (propagate.c) ------------------------------------------------------------------------------------------- */

#define PROPAGATE_LANES 8 /* frames fused at once, at most */

#define READER_HELD (PROPAGATE_CHUNK + 4)

struct reader { /* frames that were read lately, in order (propagate_reader.c) */
    struct frame *held[READER_HELD];
    int n, room;
    int64_t next; /* the ordinal after the last held one, where the clip stands; -1: nothing is held */
};

void reader_init(struct reader *r, int w, int h);
void reader_fini(struct reader *r);

struct pjob {
    const struct propagate_opts *opts;
    struct propagate_result *result;
    struct clip *clip;
    struct reader reader;
    struct clip_info info;
    struct flow *flow;      /* on pictures of working size in paper mode, else of voting size: a coarse look far away */
    struct flow *near_flow; /* between neighbours, on pictures of voting size but with the detail of the working size */
    struct propagate_net
        *nets[PROPAGATE_LANES]; /* one per lane, made when it is first needed; all NULL without a model */
    char model_name[192];
    int w, h;   /* of the frames */
    int ww, wh; /* working size */
    int vw,
        vh; /* voting size, half of it for large pictures; that of flow fields too (paper mode's have the working size) */
    bool binary;
    struct key_mask *keys; /* by frame */
    size_t n_keys;
    struct propagate_span *spans;
    size_t n_spans;
    int64_t done;
};

/* Counts a frame as done and reports it; ERR_CANCELED when the job was canceled. */
int pjob_step(struct pjob *j, int64_t frames, struct err *e);
/* Frame n, a reference of the caller's; its size is the clip's. */
int pjob_frame(struct pjob *j, int64_t n, struct frame **out, struct err *e);
const struct key_mask *pjob_key(const struct pjob *j, int64_t frame); /* NULL for -1 */

/* ---- one interval (propagate_span.c) --------------------------------------------------------------------------------- */

int span_run(struct pjob *j, const struct propagate_span *plan, struct err *e);

/* ---- one frame (propagate_fuse.c) ------------------------------------------------------------------------------------ */

/* A frame at working and voting size. */
struct pframe {
    int64_t ordinal;
    uint8_t *rgb;    /* ww x wh */
    uint8_t *grey;   /* vw x vh */
    float *features; /* vote_features, vw x vh */
};

struct pkeyframe {
    struct pframe im;
    uint8_t *labels; /* ww x wh */
    uint32_t *edges; /* vote_edges of labels */
};

/* How one keyframe sees a frame. */
struct pside {
    const struct pkeyframe *key;
    double nearness;                 /* 0..1, the two sides' add up to 1 */
    struct flow_field chain, direct; /* frame -> keyframe, composed and estimated at once */
    struct flow_field back;          /* keyframe -> frame, composed */
    float *rel_chain, *rel_direct;   /* their reliability */
    bool has_direct;
};

/* ---- the network's say (propagate_refine.c) -------------------------------------------------------------------------- */

struct refiner; /* a network with its buffers */

struct object_view { /* one object of one frame, as the keyframes see it */
    const struct pframe *frame;
    const struct pside *const *sides;
    int n_sides;
    uint8_t id;
    float *p;           /* working size: its probability */
    const float *split; /* working size: how far the two sides differ, 0..1 */
};

int refiner_new(struct pjob *j, int lane, struct refiner **out, struct err *e);
void refiner_free(struct refiner *f);
/* Changes v->p, which is 0 outside r, where the network has something to add. */
int refiner_run(struct refiner *f, const struct object_view *v, struct gfilter_rect r, struct err *e);
/* v->p = the network's answer; v->split is not used. */
int refiner_paper(struct refiner *f, const struct object_view *v, struct err *e);

/* ---- fusing (propagate_fuse.c) --------------------------------------------------------------------------------------- */

struct fuser; /* buffers of a size and, per span, the labels that occur */

/* lane 0..PROPAGATE_LANES-1: fusers with different ones may run at the same time. */
int fuser_new(struct pjob *j, int lane, struct fuser **out, struct err *e);
void fuser_free(struct fuser *f);
void fuser_set_labels(struct fuser *f, const struct pkeyframe *a, const struct pkeyframe *b); /* either may be NULL */

struct fused {
    struct frame *mask, *uncertainty; /* the fuser's own, valid until the next call */
    double confidence;
};
/* n sides: 1 or 2. */
int fuser_run(struct fuser *f, const struct pframe *frame, const struct pside *const *sides, int n, struct fused *out,
              struct err *e);
/* Paper mode: the network's answer alone. Both sides, left first; only `chain` of a side is used and holds the direct flow. */
int fuser_run_paper(struct fuser *f, const struct pframe *frame, const struct pside *const sides[2], struct fused *out,
                    struct err *e);

#endif
