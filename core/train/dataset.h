/*
 * A data set: labelled pictures found in folders, grouped into clips, split into a training and a validation part.
 *
 * Layouts that dataset_add recognises:
 *   DIR/images/X.jpg + DIR/masks/X.png             photos; every photo is its own group
 *   DIR/JPEGImages/[RES/]SEQ/N.jpg + DIR/Annotations/[RES/]SEQ/N.png   clips (DAVIS); frames without a mask are skipped
 *   DIR/labels.json + DIR/images/ + DIR/masks/     one clip with provenance: rejected and uncovered labels are skipped,
 *                                                  pseudo-labels weigh their confidence
 *   DIR/labels.json + DIR/source.json + masks      what `salient propagate` leaves: the same, frames where it found them
 *   DIR/SUB/... each of one of the layouts above    a collection (a project snapshot)
 */
#ifndef CORE_TRAIN_DATASET_H
#define CORE_TRAIN_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/train/picture.h"

struct dataset_item {
    char *image, *mask; /* paths */
    double weight;      /* of its loss: the folder's weight, times the confidence of a pseudo-label */
    int group;          /* index of its group */
    int frame;          /* ordinal in its clip; 0 for photos */
    bool pseudo;
    bool held_out; /* belongs to the validation part */
};

struct dataset_group { /* a clip, or one photo */
    size_t first, n;   /* its items, in frame order */
    bool clip;
};

struct dataset {
    struct dataset_item *items;
    size_t n, cap;
    struct dataset_group *groups;
    size_t n_groups, cap_groups;
    struct dataset_cache *cache;
    int max_side_px;
};

/* max_side_px: pictures are kept no larger than this. cache_bytes: how much of the decoded set may stay in memory. */
int dataset_init(struct dataset *d, int max_side_px, size_t cache_bytes, struct err *e);
void dataset_fini(struct dataset *d);
/* Adds a folder. ERR_NOTFOUND when it holds no labelled picture, ERR_INVALID when it has none of the layouts. */
int dataset_add(struct dataset *d, const char *dir, double weight, struct err *e);
/* Holds out a share of the data for validation: whole clips where there are at least three, else the tail of each clip;
 * photos by a hash of their name and `seed`. fraction 0 holds out nothing. */
int dataset_split(struct dataset *d, double fraction, uint64_t seed, struct err *e);
/* The picture of an item; thread-safe. Release with dataset_put. */
int dataset_get(struct dataset *d, size_t item, const struct picture **out, struct err *e);
void dataset_put(struct dataset *d, size_t item, const struct picture *p);
/* Compares the sizes of all pictures with their masks', and decodes up to `n` items spread over the set: ERR_INVALID
 * when sizes differ or when no mask of the sample has any foreground; whatever a damaged file gives. */
int dataset_check(struct dataset *d, size_t n, struct err *e);
size_t dataset_count(const struct dataset *d, bool held_out);
/* Content hash over names, sizes and weights: a resumed run refuses another data set. */
uint64_t dataset_fingerprint(const struct dataset *d);

#endif
