/*
 * Placing a picture on a square canvas: camera and object motion are sequences of poses, and a pose is a similarity
 * plus a smooth bend (cubic B-spline on a small lattice, the stand-in for thin-plate deformation: local support, no
 * linear system to solve).
 *
 * Coordinates: the canvas is [0,1] x [0,1]; a frame of any shape is squeezed into it, as the networks see it, and
 * `aspect` says how much, so that rotations stay rotations in the real frame. Source coordinates are pixels with
 * centres at .5.
 */
#ifndef CORE_TRAIN_WARP_H
#define CORE_TRAIN_WARP_H

#include <stdbool.h>

#include "core/train/picture.h"

#define WARP_LATTICE 6

struct pose {
    double anchor_x, anchor_y;                 /* point of the source, px ... */
    double u, v;                               /* ... and where it lies on the canvas */
    double px_per_unit;                        /* source pixels per canvas height */
    double angle;                              /* radians */
    double aspect;                             /* width / height of the frame the canvas stands for */
    double mirror;                             /* 1 or -1 */
    bool reflect;                              /* outside the source it goes on mirrored, mask and all */
    double bend_span;                          /* canvas share the lattice covers around (u, v); 0: no bend */
    float bend[WARP_LATTICE][WARP_LATTICE][2]; /* displacement of the lattice points, canvas units */
};

/* The whole picture, seen squarely. */
struct pose pose_whole(const struct picture *p);
/* a + t (b - a) for everything that moves; mirror, aspect and reflect are a's. */
struct pose pose_between(const struct pose *a, const struct pose *b, double t);
/* Draws the picture: rgb (3,size,size) in 0..1 and mask (size,size) in 0..1. Outside the source the colour is the
 * border's and the mask is 0, unless the pose reflects. `inside` (size,size), when not NULL, gets the share of each pixel that lies inside the
 * source. */
void warp_draw(const struct picture *p, const struct pose *pose, int size, float *rgb, float *mask, float *inside);

#endif
