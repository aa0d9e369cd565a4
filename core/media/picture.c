/*
 * Decoded picture to RGB frame, by libswscale. The YCbCr matrix and the range come from the picture; a picture that
 * does not say is taken as BT.709 when it is of HD size and BT.601 otherwise, the common player rule. Pictures with
 * alpha are laid over black. High dynamic range is not tone-mapped: its code values are used as they are.
 */
#include <stdlib.h>

#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>

#include "core/media/ffmpeg.h"
#include "core/media/orient.h"

static int space_of(const AVFrame *in)
{
    switch (in->colorspace) {
    case AVCOL_SPC_UNSPECIFIED:
    case AVCOL_SPC_RESERVED:
        return in->width >= 1280 || in->height > 576 ? SWS_CS_ITU709 : SWS_CS_ITU601;
    default:
        return in->colorspace;
    }
}

/* The deprecated full-range formats, by their plain names. */
static int plain_format(int fmt, bool *full)
{
    switch (fmt) {
    case AV_PIX_FMT_YUVJ420P:
        *full = true;
        return AV_PIX_FMT_YUV420P;
    case AV_PIX_FMT_YUVJ422P:
        *full = true;
        return AV_PIX_FMT_YUV422P;
    case AV_PIX_FMT_YUVJ444P:
        *full = true;
        return AV_PIX_FMT_YUV444P;
    case AV_PIX_FMT_YUVJ440P:
        *full = true;
        return AV_PIX_FMT_YUV440P;
    case AV_PIX_FMT_YUVJ411P:
        *full = true;
        return AV_PIX_FMT_YUV411P;
    default:
        return fmt;
    }
}

static int prepare(struct picture *p, const AVFrame *in, int dst_w, int dst_h, int dst_fmt, struct err *e)
{
    bool full = in->color_range == AVCOL_RANGE_JPEG;
    int fmt = plain_format(in->format, &full), space = space_of(in);
    if (p->sws && p->src_w == in->width && p->src_h == in->height && p->src_fmt == fmt && p->src_space == space &&
        p->src_range == full && p->dst_w == dst_w && p->dst_h == dst_h && p->dst_fmt == dst_fmt)
        return 0;
    sws_freeContext(p->sws);
    bool scaled = in->width != dst_w || in->height != dst_h;
    /* Same size: the vector path, which repeats chroma samples where the accurate one interpolates, in a quarter of its
     * time. */
    int flags = scaled ? SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT : SWS_BILINEAR;
    p->sws = sws_getContext(in->width, in->height, fmt, dst_w, dst_h, dst_fmt, flags, NULL, NULL, NULL);
    if (!p->sws)
        return err_set(e, ERR_UNSUPPORTED, "cannot convert pixel format %s of %d x %d",
                       av_get_pix_fmt_name(in->format) ? av_get_pix_fmt_name(in->format) : "unknown", in->width,
                       in->height);
    /* Fails for RGB sources, which have no matrix to set. */
    sws_setColorspaceDetails(p->sws, sws_getCoefficients(space), full, sws_getCoefficients(SWS_CS_DEFAULT), 1, 0,
                             1 << 16, 1 << 16);
    p->src_w = in->width;
    p->src_h = in->height;
    p->src_fmt = fmt;
    p->src_space = space;
    p->src_range = full;
    p->dst_w = dst_w;
    p->dst_h = dst_h;
    p->dst_fmt = dst_fmt;
    return 0;
}

static int scale(struct picture *p, const AVFrame *in, uint8_t *data, int stride_bytes, struct err *e)
{
    uint8_t *planes[4] = {data};
    int strides[4] = {stride_bytes};
    int rows = sws_scale(p->sws, (const uint8_t *const *)in->data, in->linesize, 0, in->height, planes, strides);
    return rows == p->dst_h ? 0 : err_set(e, ERR_CORRUPT, "colour conversion failed");
}

static void over_black(const uint8_t *rgba, struct frame *out)
{
    for (int y = 0; y < out->height_px; y++) {
        uint8_t *d = out->data + (size_t)y * (size_t)out->stride_bytes;
        for (int x = 0; x < out->width_px; x++, rgba += 4, d += 3)
            for (int k = 0; k < 3; k++)
                d[k] = (uint8_t)((rgba[k] * rgba[3] + 127) / 255);
    }
}

static bool has_alpha(int fmt)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(fmt);
    return d && (d->flags & AV_PIX_FMT_FLAG_ALPHA);
}

/* `out` has the stored orientation. */
static int fill(struct picture *p, const AVFrame *in, struct frame *out, struct err *e)
{
    bool alpha = has_alpha(in->format);
    int rc = prepare(p, in, out->width_px, out->height_px, alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24, e);
    if (rc < 0)
        return rc;
    if (!alpha)
        return scale(p, in, out->data, out->stride_bytes, e);
    size_t bytes = (size_t)out->width_px * (size_t)out->height_px * 4;
    if (bytes > p->rgba_bytes) {
        free(p->rgba);
        p->rgba = malloc(bytes + 64);
        p->rgba_bytes = p->rgba ? bytes : 0;
    }
    if (!p->rgba)
        return err_set(e, ERR_NOMEM, "no memory for a picture of %d x %d", out->width_px, out->height_px);
    if ((rc = scale(p, in, p->rgba, out->width_px * 4, e)) == 0)
        over_black(p->rgba, out);
    return rc;
}

int picture_convert(struct picture *p, const AVFrame *in, int orientation, int width_px, int height_px,
                    struct frame_pool *pool, struct frame **out, struct err *e)
{
    struct frame *f = NULL;
    *out = NULL;
    int rc = frame_pool_get(pool, FRAME_RGB24, width_px, height_px, &f, e);
    if (rc == 0 && orientation == 1) {
        rc = fill(p, in, f, e);
    } else if (rc == 0) {
        bool swap = orient_swaps_sides(orientation);
        if (!p->turned)
            rc = frame_new(FRAME_RGB24, swap ? height_px : width_px, swap ? width_px : height_px, &p->turned, e);
        if (rc == 0)
            rc = fill(p, in, p->turned, e);
        if (rc == 0)
            orient_copy(p->turned, f, orientation);
    }
    if (rc < 0) {
        frame_unref(f);
        return rc;
    }
    *out = f;
    return 0;
}

void picture_fini(struct picture *p)
{
    sws_freeContext(p->sws);
    frame_unref(p->turned);
    free(p->rgba);
    *p = (struct picture){0};
}
