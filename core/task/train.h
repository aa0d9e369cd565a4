/*
 * Training as a library call: `salient train` and the service's retraining jobs both come here.
 *
 * A run lives in its output folder:
 *   checkpoint.safetensors   everything needed to go on: weights, their average, optimiser, position; replaced
 * atomically model.safetensors        the best epoch's averaged weights (fp16), and model.json beside it log.jsonl one
 * object per epoch; events.out.tfevents.*: the same curves for TensorBoard
 *
 * With one thread count, seed and data set a run is deterministic, and one that was killed and resumed ends with the
 * same bits as one that was not (unless max_minutes ties its schedule to the clock).
 */
#ifndef CORE_TASK_TRAIN_H
#define CORE_TASK_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/tensor/tensor.h"

enum train_target { TRAIN_DETECTOR, TRAIN_FGPLG };
enum train_stage {
    TRAIN_IMAGE, /* stills; heads use batch statistics, a pre-trained backbone keeps its own */
    TRAIN_VIDEO, /* clips through the temporal module; all statistics frozen */
    TRAIN_PAPER, /* the published recipe: one clip a step, plain BCE, Adam, frozen statistics, no augmentation but reversal */
};

struct train_opts {
    enum train_target target;
    enum train_stage stage;
    const char *arch;        /* "rcrnet-lite" ... */
    const char *const *data; /* folders, each "DIR" or "DIR@WEIGHT" */
    size_t n_data;
    const char
        *init; /* weights to start from: a model, a checkpoint of ours, a published or an ImageNet file; or NULL */
    const char *out; /* folder */
    int size;        /* side of the square input, px; 0: the architecture's own */
    int batch;       /* pictures (stills) or clips in a step */
    int clip;        /* frames of a clip */
    int epochs;
    int epoch_steps;           /* steps of an epoch, whatever the size of the data set; 0: once through it */
    int64_t max_steps;         /* 0: no limit; stops early without changing the schedule */
    double max_minutes;        /* 0: no limit; else the schedule ends when the time is up */
    double lr, backbone_scale; /* the backbone learns with lr * backbone_scale */
    const char *freeze;        /* comma-separated prefixes of parameter names to keep as they are, or NULL */
    double weight_decay, clip_norm;
    double warmup; /* share of the schedule */
    double ema;    /* decay of the weight average; 0: none */
    int patience;  /* epochs without improvement before stopping; 0: never */
    const char *loss;
    double val_fraction;
    double composite, zoom_out, occluder, motion; /* augmentation: probabilities, and the scale of synthetic motion */
    uint64_t seed;
    int loaders;         /* threads that prepare batches */
    size_t cache_bytes;  /* decoded pictures kept in memory */
    double save_minutes; /* how often to write a checkpoint inside an epoch; 0: only at its end */
    bool resume;         /* go on from out/checkpoint.safetensors; without one, start */
    const char *dump;    /* write loss and gradients of the first step, in float64 and without dropout, to this
                            safetensors file, then stop; or NULL. With TRAIN_PAPER the first clip is the first one */
    struct tensor_device device;
};

struct train_progress {
    int epoch, epochs;
    int64_t step, steps; /* of the whole run */
    double loss, lr;     /* running mean over the epoch */
    double samples_per_s;
};

struct train_hooks { /* any may be NULL */
    void *arg;
    void (*progress)(void *arg, const struct train_progress *p);
    void (*log)(void *arg, const char *json_line); /* one per epoch, as in log.jsonl, without the newline */
    void (*saved)(void *arg);                      /* a new checkpoint is on disk, and the best model so far, if any */
    bool (*cancel)(void *arg);
};

struct train_result {
    int epochs;
    int best_epoch; /* from 1; 0 when none was validated */
    double best_s_measure, best_mae;
    bool stopped_early;
};

/* The defaults of a target and stage. */
struct train_opts train_defaults(enum train_target target, enum train_stage stage);
/* ERR_CANCELED after a cancel, with a checkpoint on disk. `result` may be NULL. */
int train_run(const struct train_opts *o, const struct train_hooks *hooks, struct train_result *result, struct err *e);

#endif
