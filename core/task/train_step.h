/*
 * One training step of the published recipe on given numbers, for comparing gradients with another implementation:
 * binary cross-entropy on the logits (the mean over all pixels), batch-norm statistics frozen and their affine part
 * trained, no dropout, Adam (0.9, 0.999, 1e-8) without decay or clipping.
 */
#ifndef CORE_TASK_TRAIN_STEP_H
#define CORE_TASK_TRAIN_STEP_H

#include <stdbool.h>

#include "core/base/err.h"
#include "core/net/net.h"

struct train_step {
    const struct net_arch *arch;
    const char *init; /* weights: a folder or file as for training */
    bool video;       /* the frames are one clip through the temporal module; else each goes alone */
    const char *loss; /* a name of core/train/loss.h */
    double lr;
    bool single; /* compute in float32 as training does; else in float64, where rounding moves nothing across a ReLU */
    int frames, height, width;
    const double *input;  /* (frames, channels, height, width), normalised */
    const double *target; /* (frames, height, width), 0..1 */
    const char *dump;     /* safetensors to write: "loss" and every trained parameter's gradient under its name */
    const char *after;    /* weights after the step, or NULL */
    struct tensor_device device;
};

int train_step_run(const struct train_step *t, double *loss, struct err *e);

#endif
