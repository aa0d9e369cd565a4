/*
 * Metrics of saliency maps and of binary masks. One call measures one frame; reports are made of these by core/task.
 *
 * Values agree with the reference tools to 1e-9, degenerate inputs included: PySODMetrics 1.6.2 for MAE, S, F, E and
 * weighted F, davis2017-evaluation for J and the boundary F. NaN comes out where, and only where, those tools give it.
 *
 *   MAE         Perazzi et al., Saliency Filters, CVPR 2012
 *   F           Achanta et al., Frequency-tuned Salient Region Detection, CVPR 2009
 *   weighted F  Margolin et al., How to Evaluate Foreground Maps?, CVPR 2014
 *   S           Fan et al., Structure-measure, ICCV 2017
 *   E           Fan et al., Enhanced-alignment Measure, IJCAI 2018
 *   J, F, T     Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016
 *
 * Notation: p is the prediction in [0,1] after normalisation, g the ground truth in {0,1}. Curves have 256 points,
 * indexed by threshold t = 0..255 from low to high.
 */
#ifndef CORE_METRIC_METRIC_H
#define CORE_METRIC_METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define METRIC_THRESHOLDS 256

/* ---- names ---------------------------------------------------------------------------------------------------------
 */

enum metric_id {
#define METRIC(id, name, better, what) METRIC_##id,
#include "core/metric/metric.def"
#undef METRIC
    METRIC_COUNT
};

const char *metric_name(enum metric_id id); /* "max_f" */
const char *metric_what(enum metric_id id); /* one line for a person */
bool metric_lower_is_better(enum metric_id id);
/* The id of a name, or -1. */
int metric_find(const char *name, size_t len);

/* ---- one frame -----------------------------------------------------------------------------------------------------
 */

enum metric_cut {
    METRIC_CUT_U8,     /* trunc(255 p) >= t, as PySODMetrics */
    METRIC_CUT_DOUBLE, /* p >= 1 - (255 - t) / 255 in double, as the DAVSOD tool */
};

struct metric_opts {
    int gt_above;              /* ground truth is foreground where its value is > this (0..254) */
    int pred_from;             /* the binary prediction of J, boundary F and contours: raw value >= this (1..255) */
    bool minmax;               /* stretch p to [0,1] unless it is constant */
    enum metric_cut cut;       /* thresholds of the curves */
    double boundary_tolerance; /* of boundary F: below 1 a share of the image's diagonal, else pixels */
};
extern const struct metric_opts metric_opts_default; /* 128, 128, true, METRIC_CUT_U8, 0.008 */

struct metric_image {
    const uint8_t *data; /* one byte a pixel */
    int width_px, height_px, stride_bytes;
};

#define METRIC_CONTOUR_POINTS 100
/* The longest contour of the binary prediction, resampled; n is 0 (no foreground) or METRIC_CONTOUR_POINTS. */
struct metric_contour {
    int n;
    float xy[METRIC_CONTOUR_POINTS][2];
};

struct metric_frame {
    double mae, s_measure, weighted_f, adaptive_f, adaptive_e, j, boundary_f;
    double f[METRIC_THRESHOLDS], e[METRIC_THRESHOLDS];
    double precision[METRIC_THRESHOLDS], recall[METRIC_THRESHOLDS];
    struct metric_contour contour;
    int pred_max, gt_max; /* largest raw values, to tell a 0/1 coded file from an empty one */
    int64_t gt_pixels;    /* foreground of the ground truth */
};

struct metric_scratch;                           /* working memory of one thread, grown to the largest frame seen */
struct metric_scratch *metric_scratch_new(void); /* NULL when out of memory */
void metric_scratch_free(struct metric_scratch *s);

/* All frame metrics in one pass over the pair. Both images have the same size (ERR_INVALID), at least one pixel.
 * Time is linear in the number of pixels; memory in `s` is about 20 bytes a pixel. ERR_NOMEM. */
int metric_frame(struct metric_scratch *s, const struct metric_image *pred, const struct metric_image *gt,
                 const struct metric_opts *o, struct metric_frame *out, struct err *e);

/* ---- sequences -----------------------------------------------------------------------------------------------------
 */

/* DAVIS statistics of the per-frame values of one sequence, in order, as davis2017-evaluation: NaN values are left out
 * of the mean; recall is the share > 0.5; decay is the mean of the first of four bins minus that of the last, bins
 * sharing their end frames. (That tool keeps bin limits in 8 bits, so past 256 frames its decay reads wrong frames;
 * here it does not.) All NaN when n is 0. */
struct metric_stats {
    double mean, recall, decay;
};
struct metric_stats metric_stats(const double *v, size_t n);

/*
 * Temporal stability, after the T measure of DAVIS 2016: how much the shape of the predicted mask's contour changes
 * from a frame to the next, 0 (not at all) to 1. Lower is better. Motion and slow deformation cost little, flicker
 * much. Each contour point is described by a shape context (Belongie et al., PAMI 2002: 12 angles x 5 radii 1/8..2 of
 * the mean point distance), points of consecutive contours are matched by dynamic time warping, realigned once at the
 * cheapest pair, reduced to one-to-one pairs, and T is the mean chi-square distance of the pairs. As there, frames
 * without a contour give NaN and are left out of means. It differs from DAVIS in how a contour is sampled: 100 points
 * equidistant along the pixel edges in place of a simplified polygon with points at most 3 px apart. No optical flow is
 * involved.
 */
struct metric_shape {
    int n;                                /* 0 or METRIC_CONTOUR_POINTS */
    float bin[METRIC_CONTOUR_POINTS][64]; /* normalised histograms of 12 * 5 bins, then zeros */
};
void metric_shape(const struct metric_contour *c, struct metric_shape *out);
double metric_shape_cost(const struct metric_shape *a, const struct metric_shape *b);

#endif
