/*
 * Labelled pictures: decode an image and its mask, agree on one size, shrink when they are larger than training can
 * use. Shrinking averages areas (box filter), so thin structures stay visible in the soft mask.
 */
#include "core/train/picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/media/frame.h"
#include "core/media/image.h"

struct picture *picture_new(int width_px, int height_px)
{
    struct picture *p = calloc(1, sizeof(*p));
    if (!p)
        return NULL;
    size_t n = (size_t)width_px * (size_t)height_px;
    p->width_px = width_px;
    p->height_px = height_px;
    p->rgb = calloc(n, 3);
    p->mask = calloc(n, 1);
    if (!p->rgb || !p->mask) {
        picture_free(p);
        return NULL;
    }
    return p;
}

void picture_free(struct picture *p)
{
    if (!p)
        return;
    free(p->rgb);
    free(p->mask);
    free(p);
}

size_t picture_bytes(const struct picture *p)
{
    return sizeof(*p) + (size_t)p->width_px * (size_t)p->height_px * 4;
}

void picture_measure(struct picture *p)
{
    size_t n = (size_t)p->width_px * (size_t)p->height_px;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p->mask[i];
    p->area = n ? (double)sum / (255.0 * (double)n) : 0;
}

/* Copies rows out of a frame, dropping the padding at their ends. */
static void pack_rows(uint8_t *dst, const struct frame *f, size_t row_bytes)
{
    for (int y = 0; y < f->height_px; y++)
        memcpy(dst + (size_t)y * row_bytes, f->data + (size_t)y * (size_t)f->stride_bytes, row_bytes);
}

/* Area-averaging shrink of an interleaved image; weights of the covered source pixels, in 1/256 of a pixel. */
static void shrink(const uint8_t *src, int sw, int sh, uint8_t *dst, int dw, int dh, int channels)
{
    for (int y = 0; y < dh; y++) {
        double y0 = (double)y * sh / dh, y1 = (double)(y + 1) * sh / dh;
        for (int x = 0; x < dw; x++) {
            double x0 = (double)x * sw / dw, x1 = (double)(x + 1) * sw / dw;
            double sum[3] = {0}, total = 0;
            for (int v = (int)y0; v < sh && v < y1; v++) {
                double wy = fmin(v + 1, y1) - fmax(v, y0);
                for (int u = (int)x0; u < sw && u < x1; u++) {
                    double w = wy * (fmin(u + 1, x1) - fmax(u, x0));
                    const uint8_t *p = src + ((size_t)v * (size_t)sw + (size_t)u) * (size_t)channels;
                    for (int c = 0; c < channels; c++)
                        sum[c] += w * p[c];
                    total += w;
                }
            }
            uint8_t *q = dst + ((size_t)y * (size_t)dw + (size_t)x) * (size_t)channels;
            for (int c = 0; c < channels; c++)
                q[c] = (uint8_t)lrint(sum[c] / total);
        }
    }
}

static struct picture *shrunk(const struct picture *p, int max_side_px)
{
    int longer = p->width_px > p->height_px ? p->width_px : p->height_px;
    int w = (int)((int64_t)p->width_px * max_side_px / longer), h = (int)((int64_t)p->height_px * max_side_px / longer);
    struct picture *q = picture_new(w > 0 ? w : 1, h > 0 ? h : 1);
    if (!q)
        return NULL;
    shrink(p->rgb, p->width_px, p->height_px, q->rgb, q->width_px, q->height_px, 3);
    shrink(p->mask, p->width_px, p->height_px, q->mask, q->width_px, q->height_px, 1);
    return q;
}

static int assemble(const char *image, const struct frame *rgb, const char *mask, const struct frame *grey,
                    struct picture **out, struct err *e)
{
    if (rgb->width_px != grey->width_px || rgb->height_px != grey->height_px)
        return err_set(e, ERR_INVALID, "%s is %dx%d but its mask %s is %dx%d", image, rgb->width_px, rgb->height_px,
                       mask, grey->width_px, grey->height_px);
    struct picture *p = picture_new(rgb->width_px, rgb->height_px);
    if (!p)
        return err_set(e, ERR_NOMEM, "%s: out of memory", image);
    pack_rows(p->rgb, rgb, (size_t)rgb->width_px * 3);
    pack_rows(p->mask, grey, (size_t)grey->width_px);
    *out = p;
    return 0;
}

int picture_load(const char *image, const char *mask, int max_side_px, struct picture **out, struct err *e)
{
    struct frame *rgb = NULL, *grey = NULL;
    struct picture *p = NULL;
    int rc = image_read_rgb(image, 0, &rgb, e);
    if (!rc)
        rc = image_read_mask(mask, 0, &grey, e);
    if (!rc)
        rc = assemble(image, rgb, mask, grey, &p, e);
    frame_unref(rgb);
    frame_unref(grey);
    if (rc)
        return rc;
    if (p->width_px > max_side_px || p->height_px > max_side_px) {
        struct picture *q = shrunk(p, max_side_px);
        picture_free(p);
        if (!q)
            return err_set(e, ERR_NOMEM, "%s: out of memory", image);
        p = q;
    }
    picture_measure(p);
    *out = p;
    return 0;
}
