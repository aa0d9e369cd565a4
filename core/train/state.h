/*
 * What a training run carries from step to step: weights, their running average, the optimiser, and where the run is. A
 * checkpoint is all of it in one file, replaced atomically, so that a killed run goes on to the same result.
 */
#ifndef CORE_TRAIN_STATE_H
#define CORE_TRAIN_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/net/net.h"
#include "core/tensor/tensor.h"
#include "core/tensor/weights.h"

struct train_position {
    int64_t step;   /* steps done */
    int epoch;      /* epochs done */
    int best_epoch; /* from 1; 0: none */
    double best_s_measure, best_mae;
    double elapsed_ms; /* of all sessions of the run */
    double loss_sum;   /* over the epoch in progress */
    int64_t loss_n;
    uint64_t fingerprint; /* of data set and options: a checkpoint continues only the run it belongs to */
};

struct train_state {
    const struct net_arch *arch;
    struct scope *root;
    struct weights *weights, *average; /* average NULL: none is kept */
    struct net_params params;
    struct tensor **leaves; /* trained parameters ... */
    const char **leaf_names;
    size_t n_leaves;
    struct optim *optim;
    double ema;
    struct train_position at;
};

struct train_state_opts {
    const char *init;      /* file to start from, or NULL */
    bool train_image_only; /* leave the temporal module as it is */
    const char *freeze;    /* comma-separated name prefixes of parameters that stay as they are, or NULL */
    double backbone_scale, ema;
    struct optim_opts optim;
    uint64_t seed;
    struct tensor_device device;
    bool doubles; /* hold the weights as float64: gradients then agree with a reference beyond float32's rounding */
};

int train_state_init(struct train_state *t, const struct net_arch *arch, const struct train_state_opts *o,
                     struct err *e);
void train_state_fini(struct train_state *t);
/* Folds the current weights into the average; the decay grows from 0 so that early averages forget the start. */
int train_state_average(struct train_state *t, struct err *e);
/* The weights to validate and to ship. */
const struct weights *train_state_best(const struct train_state *t);

int train_state_save(struct train_state *t, const char *path, struct err *e);
/* ERR_CONFLICT when the checkpoint belongs to another data set, architecture or option set. */
int train_state_load(struct train_state *t, const char *path, struct err *e);

#endif
