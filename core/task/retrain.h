/*
 * Retraining: from a project's labels to a verdict on a new version of a detector. Pure steps, each repeatable; the
 * worker (server/run_train.c) strings them together, keeps checkpoints and talks to the registry.
 *
 *   snapshot    what is known about the project's frames now, as one JSON manifest: clips, masks, provenance, and which
 *               part each label has: "train", "held_out" (people's own or accepted labels only) or "unused"
 *   extract     pictures and masks of a clip, the training part as folders that core/train reads, the held-out masks beside
 *   train       the champion's weights go on learning (core/task/train.h)
 *   judge       champion and challenger on the same held-out frames, through the evaluation task and its gates
 *
 * Held out are whole clips where at least three have labels that count, else the end of every clip. Which clips follows
 * from their content, so a project that grows keeps most of its split.
 */
#ifndef CORE_TASK_RETRAIN_H
#define CORE_TASK_RETRAIN_H

#include <jansson.h>

#include "core/media/clip.h"
#include "core/net/model.h"
#include "core/store/project.h"
#include "core/store/registry.h"
#include "core/task/train.h"

/* What a retraining can be told: RETRAIN(name, member, type, default, min, max, help). */
#define RETRAIN_OPTIONS(X)                                                                                             \
    X("holdout", holdout, double, 0.2, 0.01, 0.5, "share of the clips, or of each clip, that only measures")           \
    X("steps", steps, int64_t, 400, 1, 100000, "training steps")                                                       \
    X("minutes", minutes, double, 12, 0.05, 1440, "the schedule ends when they are over, however many steps are done") \
    X("size", size, int64_t, 0, 0, 1024, "side of the training pictures; 0: what the champion sees")                   \
    X("batch", batch, int64_t, 4, 1, 64, "frames in a step")                                                           \
    X("lr", lr, double, 2e-4, 1e-7, 0.1, "learning rate")                                                              \
    X("min_confidence", min_confidence, double, 0.6, 0, 1, "pseudo-labels that nobody accepted count from here on")    \
    X("seed", seed, int64_t, 1, 0, 1000000000, "seed of everything random")

struct retrain_opts {
#define X(name, member, type, def, min, max, help) type member;
    RETRAIN_OPTIONS(X)
#undef X
    char min[400], max_drop[400]; /* "s_measure=0.8,..." as evaluate_opts */
};

/* Reads the job's parameters; absent ones are defaults. "min" and "max_drop" are objects of metric: number. ERR_INVALID
 * names what is wrong. Members that are not listed above are the caller's. */
int retrain_parse(const json_t *params, struct retrain_opts *out, struct err *e);
/* The names retrain_parse knows, ending with NULL. */
extern const char *const retrain_members[];

/* ---- the snapshot ----------------------------------------------------------------------------------------------- */

struct retrain_label {
    int64_t frame;
    const char *sha256, *source, *state;
    double confidence;
    enum { RETRAIN_UNUSED, RETRAIN_TRAIN, RETRAIN_HELD_OUT } part;
};

struct retrain_clip {
    const char *id, *sha256;
    struct retrain_label *labels; /* in the order of frames */
    size_t n, n_train, n_held;
};

struct retrain_set {
    json_t *doc; /* the manifest; owns all strings */
    struct retrain_clip *clips;
    size_t n;
    int64_t n_train, n_held;
    bool by_clip; /* the split */
};

/* Reads the project and splits it; *manifest is what to store. ERR_INVALID: too little to train on and to measure. */
int retrain_snapshot(struct store *s, const char *project_id, const struct retrain_opts *o, struct buf *manifest,
                     struct err *e);
/* The set of a stored manifest. ERR_CORRUPT. */
int retrain_load(const struct buf *manifest, struct retrain_set *out, struct err *e);
void retrain_set_free(struct retrain_set *set);

/* ---- folders ---------------------------------------------------------------------------------------------------- */

struct retrain_dirs { /* below one scratch folder */
    char root[FS_PATH_MAX], data[FS_PATH_MAX], run[FS_PATH_MAX], gt[FS_PATH_MAX], champion[FS_PATH_MAX],
        challenger[FS_PATH_MAX];
};
int retrain_dirs_make(const char *root, struct retrain_dirs *d, struct err *e);
/* Writes pictures and masks of a clip's training part below data/, masks of its held-out part below gt/. `video` is the
 * clip's file. canceled may be NULL: ERR_CANCELED. */
int retrain_extract(const struct retrain_clip *c, struct blobs *b, const char *video, const struct clip_limits *limits,
                    const struct retrain_dirs *d, bool (*canceled)(void *arg), void *arg, struct err *e);

/* ---- training --------------------------------------------------------------------------------------------------- */

/* Options of core/task/train for this set: the one place where the recipe of fine-tuning stands. data[0] is filled. */
void retrain_recipe(const struct retrain_opts *o, const struct model_info *champion,
                    const struct registry_version *version, const char *init, const struct retrain_dirs *d,
                    const char **data, struct train_opts *out);

/* ---- the verdict ------------------------------------------------------------------------------------------------ */

/* Maps of the held-out frames of a clip, below `out`. Only windows of the model with such a frame are computed. */
int retrain_predict(struct model *m, const struct retrain_clip *c, const char *video, const struct clip_limits *limits,
                    const char *out, bool (*canceled)(void *arg), void *arg, struct err *e);

struct retrain_verdict {
    bool promote;
    char reason[500];
    json_t *champion, *challenger; /* overall metrics */
    json_t *gates, *protocol;
};
int retrain_judge(const struct retrain_opts *o, const struct retrain_dirs *d, struct retrain_verdict *out,
                  struct err *e);
void retrain_verdict_fini(struct retrain_verdict *v);

/* ---- jobs ------------------------------------------------------------------------------------------------------- */

#define RETRAIN_PRIORITY (-10) /* people who wait for maps come first */
#define RETRAIN_ATTEMPTS 5
/* The parameters of a train job: what was asked for, checked, with the project's settings where it says nothing. */
int retrain_params(const struct project_record *p, const json_t *given, struct buf *out, struct err *e);

/* ---- by itself -------------------------------------------------------------------------------------------------- */

/* Queues a training for every project whose settings say retrain.mode = auto and that has min_new_labels more since its
 * last one. ref: the model, of which any version is left out. *started counts them (may be NULL). Any number of processes may
 * call it. */
int retrain_auto(struct store *s, const char *ref, int64_t *started, struct err *e);

#endif
