/*
 * Labels by vote: every pixel of an unlabelled frame asks several places of the annotated frames what they are.
 *
 * A candidate is a flow field from the frame to one annotated frame. Around the place it points to, the neighbouring places
 * (VOTE_REACH pixels in steps of one) are asked too, so a flow that is off by a pixel or two does no harm. A place's vote weighs
 *     prior(x) * exp(-D / (2 h^2))
 * with D the mean squared colour distance of the 5 x 5 patches and the candidate's prior from distance in time and
 * forward-backward consistency. This is the non-local means of multi-atlas segmentation (Coupe et al., NeuroImage 2011) steered by
 * optical flow. It runs at half the working size, on the tiles where the candidates do not all agree.
 */
#ifndef CORE_FLOW_VOTE_H
#define CORE_FLOW_VOTE_H

#include "core/flow/flow.h"

#define VOTE_MAX_CANDIDATES 4
#define VOTE_TILE 8
#define VOTE_TILES(n) (((n) + VOTE_TILE - 1) / VOTE_TILE) /* across n pixels */
#define VOTE_REACH 1
#define VOTE_PLACES ((2 * VOTE_REACH + 1) * (2 * VOTE_REACH + 1))

/* Colour as it is compared: Y, Cr, Cb and an unused lane, (h,w,4) row-major floats, caller-allocated. Resamples rgb to w x h. */
int vote_features(const struct flow_image *rgb, int w, int h, float *features, struct err *e);

/* Where labels change: edges[y*(w+1) + x] counts the pixels above and left of (x, y) that differ from their right or lower neighbour;
 * (h+1) * (w+1) counts, caller-allocated. Tells in no time whether a rectangle holds one label. */
void vote_edges(const uint8_t *labels, int w, int h, uint32_t *edges);

struct vote_candidate {
    const struct flow_field *to; /* frame -> annotated frame, at the vote's size */
    const float *features;       /* of the annotated frame */
    const uint8_t *labels;       /* of the annotated frame, labels_w x labels_h */
    const uint32_t *edges;       /* vote_edges of labels */
    const float *prior;          /* (h,w), >= 0 */
};

struct vote {
    int w, h, n_candidates, n_objects;
    int labels_w, labels_h;   /* size of all label planes */
    const uint8_t *object_id; /* n_objects labels to be found; all others are background to them */
    const float *features;    /* of the frame */
    struct vote_candidate candidates[VOTE_MAX_CANDIDATES];
    /* Results, caller-allocated. */
    float *const *scores;                /* n_objects planes: share of the votes, 0..1 */
    float *weights[VOTE_MAX_CANDIDATES]; /* (h,w): a candidate's share of all votes; their sum is 1 */
    uint8_t *
        agreed; /* VOTE_TILES(h) x VOTE_TILES(w): 1 where all candidates see one label, from all of the tile and two pixels around
                      * it; NULL: not wanted */
};

int vote_run(const struct vote *v, struct err *e);

#endif
