/*
 * Shots: training pictures and short training clips made from labelled photos. A shot is planned once from a random
 * state and can then be drawn at any time t in [0,1]; equal states give equal shots.
 *
 *   still    a photo, cropped, turned, mirrored; or its object pasted over an object-free part of another photo
 *   moving   camera and object follow their own paths; occluders pass in front; fast motion blurs
 */
#ifndef CORE_TRAIN_SHOT_H
#define CORE_TRAIN_SHOT_H

#include "core/base/rng.h"
#include "core/train/dataset.h"
#include "core/train/warp.h"

struct shot_opts {
    double composite; /* probability that the object is cut out and pasted elsewhere, 0..1 */
    double bend;      /* strength of non-rigid motion, 1 is normal */
    double speed; /* 1: what neighbouring frames of hand-held video show; scales all motion between t = 0 and t = 1 */
    double occluder;    /* probability */
    double motion_blur; /* probability; a still that is blurred is one moment of a moving shot */
    double zoom_out;    /* probability of a view wider than the photo, which goes on mirrored around itself */
    double colour;      /* strength of colour jitter, 1 is normal */
    bool crop;          /* random crop, turn and mirror; off: the photo as it is */
};

struct shot;

/* Plans a shot around the photo `item`; partners come from the training part of the set. Holds its pictures until
 * shot_free. */
int shot_new(struct dataset *d, size_t item, const struct shot_opts *o, bool moving, struct rng *r, struct shot **out,
             struct err *e);
/* Draws the frame at time t: rgb (3,size,size) in 0..1, mask (size,size) in 0..1. `scratch` holds 5 * size * size
 * floats. */
void shot_draw(const struct shot *s, double t, int size, float *rgb, float *mask, float *scratch);
/* Draws another frame of the same real clip as the shot's photo: same view, same colours. `frame` has the photo's size.
 */
void shot_draw_frame(const struct shot *s, const struct picture *frame, int size, float *rgb, float *mask,
                     float *scratch);
void shot_free(struct shot *s);

#endif
