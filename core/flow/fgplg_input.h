/*
 * The seven input channels of the flow-guided label generator, built by one function for training and for propagation.
 * Source: Yan et al., ICCV 2019, section 4 (channels 0-6), with one addition: reliability.
 *
 * For a frame k between annotated frames i < k < j, all planes (size,size), row-major:
 *   0-2  RGB of k, (x/255 - mean) / std
 *   3    label of i brought onto k's grid:  0.5 + r_i (warped_i - 0.5)
 *   4    label of j likewise
 *   5    |flow k->i|, dx divided by the width and dy by the height before the norm (flow_magnitude)
 *   6    |flow k->j| likewise
 *
 * warped is the binary label (0 or 1), warped bilinearly at the working size, so soft at edges. Several objects: one
 * tensor per object, label = this object against everything else.
 *
 * Reliability r in [0,1] says how far the flow can be trusted at a pixel: 1 keeps the paper's channel, 0 makes it 0.5,
 * "do not know" (occluded, lost, out of the picture). It comes from the forward-backward consistency of the flow
 * (flow_reliability). FGPLG_PLAIN networks (fgplg-r50, published) get r = 1 everywhere; FGPLG_RELIABLE ones
 * (fgplg-lite) the measured r.
 *
 * Chained flow: for neighbouring frames the flow is estimated and for longer spans the steps are composed (flow_chain),
 * so channels 3-6 have the meaning above with the *total* displacement k->i, and r falls as errors add up along the
 * chain.
 *
 * One-sided (no annotated frame on that side): channels 3/4 are 0.5 and 5/6 are 0 for the missing side. Training should
 * show this now and then (about one sample in ten).
 *
 * What training input must look like when it is synthesised without estimating flow: warped labels whose edges are off
 * by 1-4 px at 480 lines, growing with the span (5 to 10 frames); r near 1 in the inside of things, r falling to 0 in
 * bands along motion boundaries (the side that gets uncovered is unknown from i, the other side from j) and in blobs
 * where motion is fast or non-rigid; wrong labels with r still high in about one object in five. Better: draw frames i,
 * k, j and call flow_compute_pair, flow_reliability, flow_warp and this function; everything then agrees by
 * construction.
 */
#ifndef CORE_FLOW_FGPLG_INPUT_H
#define CORE_FLOW_FGPLG_INPUT_H

#include "core/flow/flow.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FGPLG_CHANNELS 7

enum fgplg_style { FGPLG_PLAIN, FGPLG_RELIABLE };

struct fgplg_side {              /* planes of k's working size */
    const struct flow_field *to; /* flow k -> annotated frame; NULL: there is none on this side */
    const float *warped;         /* its label on k's grid, 0..1 */
    const float *reliability;    /* 0..1; ignored by FGPLG_PLAIN; NULL means 1 everywhere */
};

struct fgplg_norm {
    float mean[3], std[3]; /* of RGB in 0..1 */
};

/*
 * out (7,size,size). rgb may have another size than the sides; everything is resampled to size x size (area average
 * when shrinking, bilinear when growing, core/kernel/resample.h; magnitudes are relative, so they do not change).
 * ERR_NOMEM; ERR_INVALID when rgb is not RGB or the two sides differ in size.
 */
int fgplg_input(const struct flow_image *rgb, const struct fgplg_side sides[2], enum fgplg_style style,
                const struct fgplg_norm *norm, int size, float *out, struct err *e);

/* Resamples a float plane as fgplg_input does (core/kernel/resample.h). ERR_NOMEM, ERR_INVALID for impossible sizes. */
int plane_resample(const float *src, int src_w, int src_h, float *dst, int dst_w, int dst_h, struct err *e);

#ifdef __cplusplus
}
#endif
#endif
