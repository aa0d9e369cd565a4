/*
 * Guided filter (He, Sun, Tang, PAMI 2013) with a colour guide: fits a soft mask to the edges of the picture it belongs to. In each
 * (2r+1)^2 window the output is an affine function of the pixel's colour, with `eps` against over-fitting.
 */
#ifndef CORE_FLOW_GFILTER_H
#define CORE_FLOW_GFILTER_H

#include "core/flow/flow.h"

struct gfilter;

struct gfilter_rect {
    int x, y, w, h; /* inside the picture, not empty */
};

/* Prepares `area` of the picture, an RGB or grey view that may go away afterwards. eps is in units of (0..1 colour)^2. */
int gfilter_open(const struct flow_image *guide, struct gfilter_rect area, int radius_px, float eps,
                 struct gfilter **out, struct err *e);
void gfilter_close(struct gfilter *g);

/* Filters a rectangle inside the prepared area of `plane`, which has the picture's size, in place (clamped to 0..1); pixels outside are
 * neither read nor written. ERR_NOMEM. */
int gfilter_run(const struct gfilter *g, float *plane, struct gfilter_rect rect, struct err *e);

#endif
