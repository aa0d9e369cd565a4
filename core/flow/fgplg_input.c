/*
 * The generator's input channels. RGB goes through the same resizing and normalisation as the detector's frames
 * (core/kernel/frame_in); labels and magnitudes are prepared at the working size and then resampled with the same
 * filter.
 */
#include "core/flow/fgplg_input.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/kernel/frame_in.h"
#include "core/kernel/resample.h"

/* ---- resampling one plane: rows first, then columns
 * ------------------------------------------------------------------ */

struct resample_job {
    const struct resample_axis *x, *y;
    const float *src;
    float *mid; /* src_h x dst_w */
    float *dst;
};

static void resample_row(void *arg, int y)
{
    const struct resample_job *j = arg;
    const float *src = j->src + (size_t)y * (size_t)j->x->in;
    float *mid = j->mid + (size_t)y * (size_t)j->x->out;
    for (int o = 0; o < j->x->out; o++) {
        const float *w = j->x->weight + (size_t)o * (size_t)j->x->taps, *p = src + j->x->first[o];
        float sum = 0;
        for (int k = 0; k < j->x->count[o]; k++)
            sum += w[k] * p[k];
        mid[o] = sum;
    }
}

static void resample_column(void *arg, int o)
{
    const struct resample_job *j = arg;
    size_t width = (size_t)j->x->out;
    const float *w = j->y->weight + (size_t)o * (size_t)j->y->taps;
    const float *mid = j->mid + (size_t)j->y->first[o] * width;
    float *dst = j->dst + (size_t)o * width;
    memset(dst, 0, width * sizeof(*dst));
    for (int k = 0; k < j->y->count[o]; k++, mid += width)
        for (size_t x = 0; x < width; x++)
            dst[x] += w[k] * mid[x];
}

int plane_resample(const float *src, int src_w, int src_h, float *dst, int dst_w, int dst_h, struct err *e)
{
    struct resample_axis ax = {0}, ay = {0};
    float *mid = NULL;
    int rc = resample_axis(&ax, src_w, dst_w, e);
    if (!rc)
        rc = resample_axis(&ay, src_h, dst_h, e);
    if (rc)
        goto out;
    mid = malloc((size_t)src_h * (size_t)dst_w * sizeof(*mid));
    if (!mid) {
        rc = err_set(e, ERR_NOMEM, "resizing a plane");
        goto out;
    }
    struct resample_job j = {.x = &ax, .y = &ay, .src = src, .mid = mid, .dst = dst};
    par_for(src_h, resample_row, &j);
    par_for(dst_h, resample_column, &j);
out:
    free(mid);
    resample_free(&ax);
    resample_free(&ay);
    return rc;
}

/* ---- the channels
 * ---------------------------------------------------------------------------------------------------- */

static int rgb_channels(const struct flow_image *rgb, const struct fgplg_norm *norm, int size, float *out,
                        struct err *e)
{
    struct frame_in in;
    int rc = frame_in_init(&in, 3, rgb->width_px, rgb->height_px, size, size, norm->mean, norm->std, e);
    if (rc)
        return rc;
    rc = frame_in_run(&in, rgb->data, rgb->stride_bytes, out, e);
    frame_in_fini(&in);
    return rc;
}

/* Channels 3/4 and 5/6 of one side; scratch holds a plane of the working size. */
static int side_channels(const struct fgplg_side *side, enum fgplg_style style, int size, float *scratch, float *label,
                         float *motion, struct err *e)
{
    size_t n = (size_t)size * (size_t)size;
    if (!side->to) {
        for (size_t i = 0; i < n; i++)
            label[i] = 0.5f;
        memset(motion, 0, n * sizeof(*motion));
        return 0;
    }
    int w = side->to->width_px, h = side->to->height_px;
    const float *r = style == FGPLG_RELIABLE ? side->reliability : NULL;
    for (size_t i = 0, m = (size_t)w * (size_t)h; i < m; i++)
        scratch[i] = r ? 0.5f + r[i] * (side->warped[i] - 0.5f) : side->warped[i];
    int rc = plane_resample(scratch, w, h, label, size, size, e);
    if (rc)
        return rc;
    flow_magnitude(side->to, scratch);
    return plane_resample(scratch, w, h, motion, size, size, e);
}

int fgplg_input(const struct flow_image *rgb, const struct fgplg_side sides[2], enum fgplg_style style,
                const struct fgplg_norm *norm, int size, float *out, struct err *e)
{
    const struct flow_field *a = sides[0].to, *b = sides[1].to;
    if (rgb->channels != 3)
        return err_set(e, ERR_INVALID, "generator input: an image of %d channels, not RGB", rgb->channels);
    if (a && b && (a->width_px != b->width_px || a->height_px != b->height_px))
        return err_set(e, ERR_INVALID, "generator input: flows of %d x %d and %d x %d", a->width_px, a->height_px,
                       b->width_px, b->height_px);
    if (size < 1 || size > RESAMPLE_MAX)
        return err_set(e, ERR_INVALID, "generator input: size %d", size);
    size_t n = (size_t)size * (size_t)size;
    const struct flow_field *any = a ? a : b;
    float *scratch = NULL;
    if (any) {
        scratch = malloc((size_t)any->width_px * (size_t)any->height_px * sizeof(*scratch));
        if (!scratch)
            return err_set(e, ERR_NOMEM, "generator input of %d x %d", any->width_px, any->height_px);
    }
    int rc = rgb_channels(rgb, norm, size, out, e);
    for (size_t i = 0; !rc && i < 2; i++)
        rc = side_channels(&sides[i], style, size, scratch, out + (3 + i) * n, out + (5 + i) * n, e);
    free(scratch);
    return rc;
}
