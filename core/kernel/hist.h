/*
 * Counts over (quadrant, ground truth, level) of a prediction, what most metrics of a frame are made of. Quadrants in reading order meet at
 * (cx, cy): columns below cx are left, rows below cy are above.
 */
#ifndef CORE_KERNEL_HIST_H
#define CORE_KERNEL_HIST_H

#include <stdint.h>

#include "core/kernel/resample.h"

enum { HIST_QUADRANTS = 4, HIST_LEVELS = 256, HIST_BINS = HIST_QUADRANTS * 2 * HIST_LEVELS };

/* Of one quadrant: level, then ground truth (0, 1). */
KERNEL_INLINE int hist_bin(uint8_t level, uint8_t gt)
{
    return level | (int)gt << 8;
}

KERNEL_INLINE int hist_quadrant(int x, int y, int cx, int cy)
{
    return 2 * (y >= cy) + (x >= cx);
}

struct hist_frame {
    const uint8_t *pred, *gt; /* w x h; gt holds 0 and 1 */
    int w, h, cx, cy;
};

/* The counter of pixel i among HIST_BINS. */
KERNEL_INLINE int hist_counter(const struct hist_frame *f, int64_t i)
{
    int x = (int)(i % f->w), y = (int)(i / f->w);
    return hist_quadrant(x, y, f->cx, f->cy) * 2 * HIST_LEVELS + hist_bin(f->pred[i], f->gt[i]);
}

#endif
