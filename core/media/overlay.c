/*
 * Overlay video: blend, convert to YUV 4:2:0, encode, mux. The encoder is the first of a short list that this FFmpeg
 * has. H.264 is written for the widest players: High profile, 4:2:0, BT.709 tagged and converted, constant quality. MP4
 * time stamps are frame times in 1/90000 s, forced to rise, so variable frame rates survive.
 */
#include "core/media/overlay.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libavutil/opt.h>
#include <libswscale/swscale.h>

#include "core/base/fs.h"
#include "core/media/ffmpeg.h"

#define TIME_BASE 90000
#define OPACITY_DEFAULT 0.6
#define FPS_DEFAULT 25.0

struct overlay {
    struct overlay_opts opts;
    char path[FS_PATH_MAX], part[FS_PATH_MAX];
    int width_px, height_px; /* of frames; the video's are rounded up to even */
    AVFormatContext *fmt;
    AVCodecContext *enc;
    AVFrame *yuv;
    AVPacket *pkt;
    struct SwsContext *sws, *fit;
    struct frame *canvas; /* video-sized RGB */
    int64_t last_pts, frames;
    bool finished;
};

/* ---- blending ------------------------------------------------------------------------------------------------------
 */

/* Black, blue, purple, red, orange, yellow: lightness rises all the way, so the scale reads without colour too. */
static const uint8_t heat_stops[6][3] = {{0, 0, 0},     {20, 20, 140},  {120, 20, 150},
                                         {215, 30, 60}, {250, 110, 10}, {255, 200, 20}};

static void heat_color(int v, uint8_t out[3])
{
    int at = v * 5, i = at / 255, part = at % 255;
    for (int k = 0; k < 3; k++) {
        int a = heat_stops[i][k], b = heat_stops[i < 5 ? i + 1 : 5][k];
        out[k] = (uint8_t)(a + (b - a) * part / 255);
    }
}

/* out = (in * keep + add) / 255 per map value: one table for each style. */
struct blend_table {
    uint16_t keep[256], add[256][3];
};

/* Heat hides the frame where the map is high; cut-out darkens it where the map is low. */
static void make_table(struct blend_table *t, enum overlay_style style, double opacity)
{
    for (int v = 0; v < 256; v++) {
        uint8_t heat[3];
        heat_color(v, heat);
        double share = style == OVERLAY_HEAT ? opacity * sqrt(v / 255.0) : opacity * (255 - v) / 255.0;
        int part = (int)lrint(255 * share);
        t->keep[v] = (uint16_t)(255 - part);
        for (int k = 0; k < 3; k++)
            t->add[v][k] = (uint16_t)(style == OVERLAY_HEAT ? heat[k] * part : 0);
    }
}

void overlay_blend(struct frame *rgb, const uint8_t *map, int map_stride_bytes, enum overlay_style style,
                   double opacity)
{
    struct blend_table t;
    make_table(&t, style, opacity);
    for (int y = 0; y < rgb->height_px; y++) {
        uint8_t *p = rgb->data + (size_t)y * (size_t)rgb->stride_bytes;
        const uint8_t *m = map + (ptrdiff_t)y * map_stride_bytes;
        for (int x = 0; x < rgb->width_px; x++, p += 3)
            for (int k = 0; k < 3; k++)
                p[k] = (uint8_t)((p[k] * t.keep[m[x]] + t.add[m[x]][k] + 127) / 255);
    }
}

/* ---- encoder -------------------------------------------------------------------------------------------------------
 */

static const struct {
    const char *name, *preset_key, *preset, *quality_key, *quality;
} encoders[] = {
    {"libx264", "preset", "veryfast", "crf", "21"},
    {"libvpx-vp9", "deadline", "realtime", "crf", "32"},
    {"mpeg4", NULL, NULL, "qscale", "4"},
};

static void set_encoder(struct overlay *o, AVCodecContext *c)
{
    double fps = o->opts.fps > 0 && o->opts.fps <= 1000 ? o->opts.fps : FPS_DEFAULT;
    c->width = (o->width_px + 1) & ~1;
    c->height = (o->height_px + 1) & ~1;
    c->pix_fmt = AV_PIX_FMT_YUV420P;
    c->time_base = (AVRational){1, TIME_BASE};
    c->framerate = av_d2q(fps, 100000);
    c->gop_size = 50;
    c->thread_count = o->opts.threads > 0 ? o->opts.threads : 1;
    c->colorspace = AVCOL_SPC_BT709;
    c->color_primaries = AVCOL_PRI_BT709;
    c->color_trc = AVCOL_TRC_BT709;
    c->color_range = AVCOL_RANGE_MPEG;
    c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
}

static int try_encoder(struct overlay *o, size_t i, struct err *e)
{
    const AVCodec *codec = avcodec_find_encoder_by_name(encoders[i].name);
    if (!codec)
        return err_set(e, ERR_UNSUPPORTED, "FFmpeg here has no encoder for the overlay video");
    AVCodecContext *c = avcodec_alloc_context3(codec);
    if (!c)
        return err_set(e, ERR_NOMEM, "out of memory");
    set_encoder(o, c);
    AVDictionary *options = NULL;
    if (encoders[i].preset_key)
        av_dict_set(&options, encoders[i].preset_key, encoders[i].preset, 0);
    if (strcmp(encoders[i].quality_key, "qscale") == 0) {
        c->flags |= AV_CODEC_FLAG_QSCALE;
        c->global_quality = FF_QP2LAMBDA * atoi(encoders[i].quality);
        c->time_base = (AVRational){1, 1000}; /* MPEG-4 has 16 bits for its clock */
    } else {
        av_dict_set(&options, encoders[i].quality_key, encoders[i].quality, 0);
    }
    int rc = avcodec_open2(c, codec, &options);
    av_dict_free(&options);
    if (rc < 0) {
        avcodec_free_context(&c);
        return ffmpeg_fail(e, rc, encoders[i].name);
    }
    o->enc = c;
    return 0;
}

static int open_encoder(struct overlay *o, struct err *e)
{
    int rc = ERR_UNSUPPORTED;
    for (size_t i = 0; i < sizeof(encoders) / sizeof(encoders[0]); i++) {
        rc = try_encoder(o, i, e);
        if (rc != ERR_UNSUPPORTED)
            break;
    }
    return rc;
}

static int open_muxer(struct overlay *o, struct err *e)
{
    int rc = avformat_alloc_output_context2(&o->fmt, NULL, "mp4", o->part);
    if (rc < 0)
        return ffmpeg_fail(e, rc, "mp4");
    AVStream *st = avformat_new_stream(o->fmt, NULL);
    if (!st || avcodec_parameters_from_context(st->codecpar, o->enc) < 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    st->time_base = o->enc->time_base;
    st->avg_frame_rate = o->enc->framerate;
    if ((rc = avio_open(&o->fmt->pb, o->part, AVIO_FLAG_WRITE)) < 0)
        return ffmpeg_fail(e, rc, o->part);
    AVDictionary *options = NULL;
    av_dict_set(&options, "movflags", "+faststart", 0);
    rc = avformat_write_header(o->fmt, &options);
    av_dict_free(&options);
    if (rc < 0)
        return ffmpeg_fail(e, rc, o->part);
    return 0;
}

static int open_pictures(struct overlay *o, struct err *e)
{
    int w = o->enc->width, h = o->enc->height;
    int rc = frame_new(FRAME_RGB24, w, h, &o->canvas, e);
    if (rc < 0)
        return rc;
    o->pkt = av_packet_alloc();
    o->yuv = av_frame_alloc();
    if (!o->pkt || !o->yuv)
        return err_set(e, ERR_NOMEM, "out of memory");
    o->yuv->width = w;
    o->yuv->height = h;
    o->yuv->format = AV_PIX_FMT_YUV420P;
    o->sws = sws_getContext(w, h, AV_PIX_FMT_RGB24, w, h, AV_PIX_FMT_YUV420P, SWS_BILINEAR, NULL, NULL, NULL);
    if (!o->sws || av_frame_get_buffer(o->yuv, 0) < 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
    sws_setColorspaceDetails(o->sws, bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16);
    return 0;
}

int overlay_open(const char *path, int width_px, int height_px, const struct overlay_opts *opts, struct overlay **out,
                 struct err *e)
{
    ffmpeg_init();
    ffmpeg_clear_note();
    *out = NULL;
    struct overlay *o = calloc(1, sizeof(*o));
    if (!o)
        return err_set(e, ERR_NOMEM, "out of memory");
    if (opts)
        o->opts = *opts;
    if (o->opts.opacity <= 0 || o->opts.opacity > 1)
        o->opts.opacity = OPACITY_DEFAULT;
    o->width_px = width_px;
    o->height_px = height_px;
    o->last_pts = -1;
    int rc = strlen(path) + 6 < FS_PATH_MAX ? 0 : err_set(e, ERR_LIMIT, "path too long");
    if (rc == 0) {
        snprintf(o->path, sizeof(o->path), "%s", path);
        snprintf(o->part, sizeof(o->part), "%.*s.part", FS_PATH_MAX - 6, path);
        rc = open_encoder(o, e);
    }
    if (rc == 0)
        rc = open_pictures(o, e);
    if (rc == 0)
        rc = open_muxer(o, e);
    if (rc < 0) {
        err_wrap(e, "overlay video");
        overlay_close(o);
        return rc;
    }
    *out = o;
    return 0;
}

/* ---- frames --------------------------------------------------------------------------------------------------------
 */

/* Repeats the last column and row into the padding of an odd-sized video. */
static void pad(struct frame *f, int width_px, int height_px)
{
    if (f->width_px > width_px)
        for (int y = 0; y < height_px; y++) {
            uint8_t *end = f->data + (size_t)y * (size_t)f->stride_bytes + (size_t)width_px * 3;
            memcpy(end, end - 3, 3);
        }
    if (f->height_px > height_px)
        memcpy(f->data + (size_t)height_px * (size_t)f->stride_bytes,
               f->data + (size_t)(height_px - 1) * (size_t)f->stride_bytes, (size_t)f->width_px * 3);
}

/* Puts the frame on the canvas, blended; frames of another size are blended first and then scaled. */
static int compose(struct overlay *o, const struct frame *frame, const uint8_t *map, int map_stride_bytes,
                   struct err *e)
{
    struct frame view = *o->canvas;
    view.width_px = o->width_px;
    view.height_px = o->height_px;
    bool fits = frame->width_px == o->width_px && frame->height_px == o->height_px;
    struct frame *copy = &view;
    int rc = fits ? 0 : frame_new(FRAME_RGB24, frame->width_px, frame->height_px, &copy, e);
    if (rc < 0)
        return rc;
    for (int y = 0; y < frame->height_px; y++)
        memcpy(copy->data + (size_t)y * (size_t)copy->stride_bytes,
               frame->data + (size_t)y * (size_t)frame->stride_bytes, (size_t)frame->width_px * 3);
    overlay_blend(copy, map, map_stride_bytes, o->opts.style, o->opts.opacity);
    if (!fits) {
        o->fit = sws_getCachedContext(o->fit, copy->width_px, copy->height_px, AV_PIX_FMT_RGB24, view.width_px,
                                      view.height_px, AV_PIX_FMT_RGB24, SWS_BILINEAR, NULL, NULL, NULL);
        const uint8_t *from[4] = {copy->data};
        uint8_t *to[4] = {view.data};
        if (!o->fit || sws_scale(o->fit, from, (int[4]){copy->stride_bytes}, 0, copy->height_px, to,
                                 (int[4]){view.stride_bytes}) != view.height_px)
            rc = err_set(e, ERR_NOMEM, "out of memory");
        frame_unref(copy);
    }
    pad(o->canvas, o->width_px, o->height_px);
    return rc;
}

/* picture NULL: the end. */
static int encode(struct overlay *o, const AVFrame *picture, struct err *e)
{
    int rc = avcodec_send_frame(o->enc, picture);
    while (rc >= 0) {
        rc = avcodec_receive_packet(o->enc, o->pkt);
        if (rc == AVERROR(EAGAIN) || rc == AVERROR_EOF)
            return 0;
        if (rc < 0)
            break;
        av_packet_rescale_ts(o->pkt, o->enc->time_base, o->fmt->streams[0]->time_base);
        o->pkt->stream_index = 0;
        rc = av_write_frame(o->fmt, o->pkt);
        av_packet_unref(o->pkt);
    }
    return ffmpeg_fail(e, rc, "overlay video");
}

static int64_t pts_of(struct overlay *o, const struct frame *frame)
{
    double ms = frame->pts_ms >= 0 ? (double)frame->pts_ms : (double)o->frames * 1000 / av_q2d(o->enc->framerate);
    int64_t pts = llrint(ms * o->enc->time_base.den / 1000);
    return pts > o->last_pts ? pts : o->last_pts + 1;
}

int overlay_add(struct overlay *o, const struct frame *frame, const uint8_t *map, int map_stride_bytes, struct err *e)
{
    int rc = compose(o, frame, map, map_stride_bytes, e);
    if (rc < 0)
        return rc;
    if (av_frame_make_writable(o->yuv) < 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    const uint8_t *from[4] = {o->canvas->data};
    sws_scale(o->sws, from, (int[4]){o->canvas->stride_bytes}, 0, o->canvas->height_px, o->yuv->data, o->yuv->linesize);
    o->yuv->pts = o->last_pts = pts_of(o, frame);
    o->frames++;
    return encode(o, o->yuv, e);
}

int overlay_finish(struct overlay *o, struct err *e)
{
    int rc = encode(o, NULL, e);
    if (rc < 0)
        return rc;
    rc = av_write_trailer(o->fmt);
    if (rc >= 0)
        rc = avio_closep(&o->fmt->pb);
    if (rc < 0)
        return ffmpeg_fail(e, rc, "overlay video");
    if (rename(o->part, o->path) < 0)
        return err_errno(e, "%s", o->path);
    o->finished = true;
    return 0;
}

void overlay_close(struct overlay *o)
{
    if (!o)
        return;
    if (o->fmt && o->fmt->pb)
        avio_closep(&o->fmt->pb);
    if (!o->finished && o->part[0])
        unlink(o->part);
    avformat_free_context(o->fmt);
    avcodec_free_context(&o->enc);
    av_frame_free(&o->yuv);
    av_packet_free(&o->pkt);
    sws_freeContext(o->sws);
    sws_freeContext(o->fit);
    frame_unref(o->canvas);
    free(o);
}
