/*
 * Shared by the files of core/metric: one frame's data between its passes.
 *
 * A prediction has at most 256 grey levels, so everything that does not look at a pixel's place is computed from
 * histograms over (quadrant, ground truth, level): MAE, S, F, E. Only weighted F, J, boundary F and the contour see
 * pixels again.
 */
#ifndef CORE_METRIC_INTERNAL_H
#define CORE_METRIC_INTERNAL_H

#include "core/metric/metric.h"

#define METRIC_EPS 2.220446049250313e-16 /* numpy.spacing(1) */

/* Where loops are long and simple the compiler may use wider vectors if the CPU has them; results do not change, since
 * nothing is contracted or reassociated. */
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define METRIC_WIDE __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define METRIC_WIDE
#endif

enum { QUADRANTS = 4, LEVELS = 256 };

struct metric_scratch {
    size_t cap;       /* pixels that the planes hold */
    uint8_t *pred;    /* copy of a prediction whose lines are padded */
    uint8_t *gt;      /* 0, 1 */
    uint8_t *bin;     /* binary prediction: 0, 1; the contour tracer adds its marks */
    uint8_t *edge[2]; /* boundaries of bin and gt */
    uint16_t *reach;  /* vertical distance to a boundary */
    int32_t *above;   /* row of the nearest foreground at or above */
    double *blur;     /* horizontally smoothed error */
    size_t line_cap;  /* columns that the lines hold */
    int32_t
        *line[5];   /* nearest foreground row at or below; nearest at all; columns, rows of the envelope; candidates */
    uint16_t *near; /* squared distances of a row, capped */
    uint8_t *covered;  /* columns that are no candidates */
    double *line_d[4]; /* squared heights of a row; of the envelope: squared heights, offsets, beginnings */
    double *line_f;    /* one row of errors with its margin */
    double *acc;       /* one row of means */
};

/* Columns x0..x1 and rows y0..y1, ends included, that hold the foreground of a mask; y1 < y0 without any. */
struct box {
    int x0, x1, y0, y1;
};

/* The pair and what is known of it. */
struct view {
    int w, h;
    int64_t n;               /* w * h */
    const uint8_t *pred;     /* packed */
    const uint8_t *gt;       /* packed, 0 and 1 */
    int64_t fg;              /* foreground pixels of gt */
    int64_t sum_x, sum_y;    /* of their coordinates */
    struct box box, bin_box; /* of gt's foreground, of the binary prediction's */
    int pred_min, pred_max;
    int cx, cy; /* split of the quadrants: columns [0,cx) and [cx,w) */
    uint32_t hist[QUADRANTS][2][LEVELS];
    int64_t count[2][LEVELS]; /* over all quadrants */
    double p[LEVELS];         /* normalised prediction of a level */
};

/* saliency.c: MAE, S, F, E, curves */
void metric_saliency(const struct view *v, const struct metric_opts *o, struct metric_frame *out);
/* weighted_f.c */
double metric_weighted_f(struct metric_scratch *s, const struct view *v);
/* boundary.c: J and boundary F of s->bin and s->gt */
void metric_regions(struct metric_scratch *s, const struct view *v, const struct metric_opts *o,
                    struct metric_frame *out);
/* contour.c: s->bin keeps marks in its high bits */
void metric_contour(uint8_t *bin, const struct view *v, struct metric_contour *out);
/* sum.c: numpy's own order of addition, where a comparison hangs on the last bit */
double metric_numpy_sum(const uint8_t *data, int64_t n, int64_t step, const double *value);

#endif
