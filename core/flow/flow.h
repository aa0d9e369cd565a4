/*
 * Dense optical flow behind one interface, and the per-pixel operations that use it.
 *
 * A flow field a->b holds, for every pixel x of image a, the displacement (dx, dy) in pixels with a(x) ~ b(x + d(x)).
 * So *backward warping* something that lives on b's grid by the field a->b brings it onto a's grid: out(x) = src(x +
 * d(x)), bilinear, with samples clamped to the border. Planes are contiguous row-major floats of width_px * height_px.
 *
 * Sources: DIS flow: Kroeger et al., ECCV 2016. Occlusion test: Sundaram, Brox, Keutzer, ECCV 2010. FGPLG's flow
 * channels: Yan et al., ICCV 2019.
 */
#ifndef CORE_FLOW_FLOW_H
#define CORE_FLOW_FLOW_H

#include <stdint.h>

#include "core/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct flow_image { /* a view of someone else's pixels */
    const uint8_t *data;
    int width_px, height_px, stride_bytes;
    int channels; /* 1 (grey) or 3 (RGB) */
};

struct flow_field {
    float *dx, *dy; /* one allocation; dx owns it */
    int width_px, height_px;
};

/* Allocates both planes, zeroed; ERR_NOMEM or ERR_INVALID leave *f empty. fini accepts an empty (zeroed) field. */
int flow_field_init(struct flow_field *f, int width_px, int height_px, struct err *e);
void flow_field_fini(struct flow_field *f);

/* ---- estimating */

struct flow;

/*
 * Opens an estimator: "NAME" or "NAME:PRESET". Names and presets stand in the backend table of flow.c; today
 *   dis:brisk (medium with fewer iterations, as good for labels), dis:fast, dis:medium (OpenCV's presets), dis:fine (finest scale at
 *   full size, dense patches); "dis" = dis:brisk.
 * ERR_INVALID names what is known when the name or preset is not.
 */
int flow_open(const char *spec, struct flow **out, struct err *e);
/* For images that were halved `halvings` times before: works up to the same scale as flow_open's estimator does on the images they
 * were made of. "dis:medium" estimates at half size and scales the result up, so at half size it gives the same flow for less. */
int flow_open_halved(const char *spec, int halvings, struct flow **out, struct err *e);
void flow_close(struct flow *f);
const char *flow_name(const struct flow *f); /* canonical "dis:brisk"; enters provenance and cache keys */
/* "dis:fast, dis:medium, ..." for help texts. */
void flow_list(char *out, int size);

/*
 * out = flow a->b. Images and field have one size, at least 16 x 16 (FLOW_MIN_PX); anything else is ERR_INVALID.
 * Thread-safe: concurrent calls on one estimator each use a working set of their own, kept for the next call.
 */
#define FLOW_MIN_PX 16
int flow_compute(struct flow *f, const struct flow_image *a, const struct flow_image *b, struct flow_field *out,
                 struct err *e);

/* Both directions at once, on two threads when there are two. */
int flow_compute_pair(struct flow *f, const struct flow_image *a, const struct flow_image *b, struct flow_field *ab,
                      struct flow_field *ba, struct err *e);

/* ---- using: all threaded by core/base/par.h; in and out must not overlap; sizes must agree (checked, aborts) */

/* out(x) = src(x + d(x)), bilinear, border-clamped. src and out are planes of the field's size. */
void flow_warp(const struct flow_field *ab, const float *src_b, float *out_a);
/* Nearest-neighbour form for label planes: never invents a label. */
void flow_warp_label(const struct flow_field *ab, const uint8_t *src_b, uint8_t *out_a);
/* ac(x) = ab(x) + bc(x + ab(x)): chains two steps. */
void flow_chain(const struct flow_field *ab, const struct flow_field *bc, struct flow_field *ac);
/* err(x) = |ab(x) + ba(x + ab(x))| in pixels: 0 where forward and backward flow agree. */
void flow_consistency(const struct flow_field *ab, const struct flow_field *ba, float *err_px);
/* 1 where a's pixel is occluded in b or the flow is wrong: |ab + ba'|^2 > 0.01 (|ab|^2 + |ba'|^2) + 0.5, or x + ab(x)
 * outside. */
void flow_occlusion(const struct flow_field *ab, const struct flow_field *ba, uint8_t *occluded);
/* r(x) = exp(-err(x) / s) with err of flow_consistency and s = FLOW_RELIABILITY_SCALE of the image's diagonal (2 px at
 * 854 x 480); 0 where x + ab(x) leaves the image. The weight by which propagation trusts a warp, and FGPLG's
 * reliability. */
#define FLOW_RELIABILITY_SCALE 0.00204
void flow_reliability(const struct flow_field *ab, const struct flow_field *ba, float *r);
/* sqrt((dx/W)^2 + (dy/H)^2): the FGPLG motion channel. */
void flow_magnitude(const struct flow_field *ab, float *out);
/* Resamples a field to out's size and scales the displacements with it. */
void flow_resize(const struct flow_field *in, struct flow_field *out);

#ifdef __cplusplus
}
#endif
#endif
