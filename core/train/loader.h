/*
 * Batches made ahead in threads. Batch number g is a pure function of g (the maker seeds its own random state from it),
 * so the order of work between threads does not matter and a resumed run continues with the very same batches.
 */
#ifndef CORE_TRAIN_LOADER_H
#define CORE_TRAIN_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct batch_shape {
    int samples;  /* clips in a batch */
    int frames;   /* pictures of a clip; 1 for stills */
    int channels; /* of the input */
    int size;     /* side, px */
};

struct batch {
    float *input;         /* (samples*frames, channels, size, size), normalised */
    float *target;        /* (samples*frames, 1, size, size), 0..1 */
    float *weight;        /* same shape: where the loss counts more */
    float *sample_weight; /* (samples*frames): how far the label is trusted */
};

/* Fills sample `index` (counted over the whole run) at the given places, which hold `frames` pictures. */
typedef int (*sample_fn)(void *arg, uint64_t index, const struct batch *at, struct err *e);

struct loader;

/* Starts `threads` makers at batch `first`. `ahead` batches are kept ready. */
int loader_new(struct batch_shape shape, sample_fn fn, void *arg, int threads, int ahead, uint64_t first,
               struct loader **out, struct err *e);
/* The next batch; stays the loader's and valid until the next call. The first error of a maker is returned here. */
int loader_next(struct loader *l, const struct batch **out, struct err *e);
void loader_free(struct loader *l);

#endif
