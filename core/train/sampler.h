/*
 * What a training sample is, for each kind of training. A sampler turns a sample number into network input and target;
 * it is the sample_fn of a loader. Everything random about sample k of epoch e follows from (seed, e, k).
 */
#ifndef CORE_TRAIN_SAMPLER_H
#define CORE_TRAIN_SAMPLER_H

#include "core/train/loader.h"
#include "core/train/loss.h"
#include "core/train/shot.h"

enum sampler_kind {
    SAMPLER_STILLS, /* photos and frames, one by one */
    SAMPLER_CLIPS,  /* clips: real ones where the data has them, else synthesised from a photo */
    SAMPLER_GUIDED, /* FGPLG: the middle frame of a clip, labels warped to it by flow, flow magnitudes */
};

struct sampler_opts {
    enum sampler_kind kind;
    struct batch_shape shape;
    struct shot_opts shot;
    enum loss_kind loss;
    float mean[3], std[3];
    uint64_t seed;
    bool plain_flow;        /* GUIDED: labels as the paper warps them, without reliability */
    bool plain;             /* no augmentation: photos as they are */
    bool in_order;          /* neither shuffled nor played backwards */
    uint64_t epoch_samples; /* of one epoch, whatever the size of the set: each draws its own; 0: all, once */
};

struct sampler;

/* Borrows the data set. */
int sampler_new(struct dataset *d, const struct sampler_opts *o, struct sampler **out, struct err *e);
void sampler_free(struct sampler *s);
/* Samples of one epoch: the training part, cut to whole batches (at least one batch: small sets repeat). */
uint64_t sampler_epoch_samples(const struct sampler *s);
int sampler_make(void *sampler, uint64_t index, const struct batch *at, struct err *e); /* a sample_fn */
/* Validation sample i (in [0, sampler_held_out)): not augmented, drawn the same in every epoch. */
uint64_t sampler_held_out(const struct sampler *s);
int sampler_make_held_out(struct sampler *s, uint64_t i, const struct batch *at, struct err *e);

#endif
