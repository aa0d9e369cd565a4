/*
 * Video through FFmpeg: one stream of one file, read through our own byte callback.
 *
 * Safety. Only formats and codecs of the two lists below are tried; the demuxer has no way to open another file or
 * address (io_open refuses, and there is no protocol, only our callback). Pixels, pictures, bytes and time are bounded.
 *
 * Counting. The n-th picture the decoder gives is frame n. Their time stamps are kept as they come; seeking back starts
 * at a key frame and recognises pictures by time stamp, and whenever a stamp is missing, repeated or unknown it starts
 * over from the first byte, which is slow and always right.
 *
 * Damage. A packet that does not decode, a picture the decoder had to patch up, or a file that ends inside its data
 * counts as damaged; more than max_damaged of them is ERR_CORRUPT. Packets before the first key frame may fail: a cut
 * stream begins so.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavutil/avstring.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/media/clip_source.h"
#include "core/media/ffmpeg.h"
#include "core/media/orient.h"

#define IO_BUFFER_BYTES (64 << 10)
#define SKIP_MAX 32        /* pictures that are decoded over rather than jumped */
#define READ_ERRORS_MAX 16 /* in a row, before the rest of the file is given up */

static const char demuxers[] =
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mjpeg,gif,apng,mpegts,mpeg,mpegvideo,m4v,flv,ogg,"
    "asf,h264,hevc,ivf,obu,yuv4mpegpipe,dv,"
    "bmp_pipe,webp_pipe,tiff_pipe,pgm_pipe,ppm_pipe,pbm_pipe,pam_pipe";
static const char decoders[] =
    "h264,hevc,libdav1d,libaom-av1,av1,vp8,vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,"
    "wmv1,wmv2,wmv3,vc1,h261,h263,h263i,h263p,flv,theora,mjpeg,mjpegb,gif,apng,png,webp,bmp,tiff,"
    "pgm,ppm,pbm,pam,prores,dnxhd,cfhd,ffv1,huffyuv,ffvhuff,utvideo,magicyuv,lagarith,rawvideo,v210,"
    "dvvideo,cinepak,svq1,svq3,qtrle,rpza,indeo3,indeo5,vp6,vp6f,vp6a,zlib,mszh,snow,cyuv";

struct video {
    struct source base;
    struct source_bytes in;
    const AVInputFormat *hint; /* NULL: by content */
    int64_t at;                /* read position */
    AVIOContext *io;
    AVFormatContext *fmt;
    AVCodecContext *dec;
    AVPacket *pkt;
    AVFrame *pic;
    int stream, orientation;
    struct picture picture;
    int64_t next;  /* ordinal of the picture that comes next */
    bool drained;  /* no more packets */
    bool key_seen; /* a key frame has been given to the decoder */
    int read_errors, damaged;
    /* Time stamps of pictures 0..n_pts-1, in stream units; usable for seeking while all are known and rise. */
    int64_t *pts, n_pts, cap_pts;
    bool pts_rise;
    bool jumped; /* since the last start at the first byte: time stamps are checked against pts */
};

/* ---- bytes ---------------------------------------------------------------------------------------------------------
 */

static int on_read(void *opaque, uint8_t *out, int n)
{
    struct video *v = opaque;
    if (source_check_time(v->base.env, NULL) < 0)
        return AVERROR_EXIT;
    int64_t got = source_read_at(v->in, v->at, out, (size_t)n, NULL);
    if (got < 0)
        return AVERROR(EIO);
    v->at += got;
    return got ? (int)got : AVERROR_EOF;
}

static int64_t on_seek(void *opaque, int64_t to, int whence)
{
    struct video *v = opaque;
    switch (whence & ~AVSEEK_FORCE) {
    case AVSEEK_SIZE:
        return v->in.size;
    case SEEK_CUR:
        to += v->at;
        break;
    case SEEK_END:
        to += v->in.size;
        break;
    default:
        break;
    }
    return to < 0 ? AVERROR(EINVAL) : (v->at = to);
}

static int refuse_open(AVFormatContext *fmt, AVIOContext **pb, const char *url, int flags, AVDictionary **options)
{
    (void)fmt, (void)pb, (void)url, (void)flags, (void)options;
    return AVERROR(EPERM);
}

static int on_interrupt(void *opaque)
{
    const struct video *v = opaque;
    return source_check_time(v->base.env, NULL) < 0;
}

/* ---- opening -------------------------------------------------------------------------------------------------------
 */

static void video_shut(struct video *v)
{
    avcodec_free_context(&v->dec);
    avformat_close_input(&v->fmt);
    if (v->io)
        av_freep(&v->io->buffer);
    avio_context_free(&v->io);
}

static void video_close(struct source *s)
{
    struct video *v = (struct video *)s;
    video_shut(v);
    av_packet_free(&v->pkt);
    av_frame_free(&v->pic);
    picture_fini(&v->picture);
    free(v->pts);
    free(v);
}

static int open_container(struct video *v, struct err *e)
{
    uint8_t *buffer = av_malloc(IO_BUFFER_BYTES);
    v->at = 0;
    v->io = buffer ? avio_alloc_context(buffer, IO_BUFFER_BYTES, 0, v, on_read, NULL, on_seek) : NULL;
    v->fmt = v->io ? avformat_alloc_context() : NULL;
    if (!v->fmt) {
        if (!v->io)
            av_free(buffer);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    v->fmt->pb = v->io;
    v->fmt->io_open = refuse_open;
    v->fmt->interrupt_callback = (AVIOInterruptCB){on_interrupt, v};
    v->fmt->format_whitelist = av_strdup(demuxers);
    v->fmt->codec_whitelist = av_strdup(decoders);
    v->fmt->max_streams = 64;
    if (!v->fmt->format_whitelist || !v->fmt->codec_whitelist)
        return err_set(e, ERR_NOMEM, "out of memory");
    int rc = avformat_open_input(&v->fmt, NULL, v->hint, NULL);
    if (rc < 0 && source_check_time(v->base.env, NULL) < 0)
        return source_check_time(v->base.env, e);
    if (rc == AVERROR(EINVAL) || (rc == AVERROR_INVALIDDATA && !ffmpeg_note()[0]))
        return err_set(e, ERR_UNSUPPORTED, "not a video or image format that is supported");
    return rc < 0 ? ffmpeg_fail(e, rc, "cannot be opened") : 0;
}

/* Finds what the container does not say by decoding a little; our pixel limit holds there too. */
static int find_streams(struct video *v, struct err *e)
{
    unsigned n = v->fmt->nb_streams;
    AVDictionary **options = av_calloc(n + 1, sizeof(AVDictionary *));
    if (!options)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (unsigned i = 0; i < n; i++) {
        av_dict_set_int(&options[i], "max_pixels", v->base.env->limits.max_pixels, 0);
        av_dict_set(&options[i], "threads", "1", 0);
    }
    int rc = avformat_find_stream_info(v->fmt, options);
    for (unsigned i = 0; i < n; i++)
        av_dict_free(&options[i]);
    av_free(options);
    if (ffmpeg_saw_too_large())
        return err_set(e, ERR_LIMIT, "its pictures are over the limit of %lld pixels",
                       (long long)v->base.env->limits.max_pixels);
    ffmpeg_clear_note(); /* it also tries streams that are not ours */
    return rc < 0 ? ffmpeg_fail(e, rc, "cannot be read") : 0;
}

static int choose_stream(struct video *v, struct err *e)
{
    v->stream = av_find_best_stream(v->fmt, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (v->stream < 0)
        return err_set(e, ERR_UNSUPPORTED, "holds no video");
    const AVStream *st = v->fmt->streams[v->stream];
    if (st->disposition & AV_DISPOSITION_ATTACHED_PIC)
        return err_set(e, ERR_UNSUPPORTED, "holds no video, only a cover picture");
    for (unsigned i = 0; i < v->fmt->nb_streams; i++)
        if ((int)i != v->stream)
            v->fmt->streams[i]->discard = AVDISCARD_ALL;
    const uint8_t *matrix = av_stream_get_side_data(st, AV_PKT_DATA_DISPLAYMATRIX, NULL);
    v->orientation = matrix ? orient_from_matrix((const int32_t *)(const void *)matrix) : 1;
    return 0;
}

static int open_decoder(struct video *v, struct err *e)
{
    const AVCodecParameters *par = v->fmt->streams[v->stream]->codecpar;
    const AVCodec *codec = avcodec_find_decoder(par->codec_id);
    if (par->codec_id == AV_CODEC_ID_NONE && par->codec_tag == 0)
        return err_set(e, ERR_CORRUPT, "its video stream does not say how it is coded");
    if (!codec || !av_match_name(codec->name, decoders))
        return err_set(e, ERR_UNSUPPORTED, "codec %s is not supported", avcodec_get_name(par->codec_id));
    if (par->width > 0 && par->height > 0) {
        int rc = source_check_size(v->base.env, par->width, par->height, e);
        if (rc < 0)
            return rc;
    }
    v->dec = avcodec_alloc_context3(codec);
    if (!v->dec || avcodec_parameters_to_context(v->dec, par) < 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    v->dec->pkt_timebase = v->fmt->streams[v->stream]->time_base;
    v->dec->thread_count = v->base.env->limits.threads;
    v->dec->max_pixels = v->base.env->limits.max_pixels;
    int rc = avcodec_open2(v->dec, codec, NULL);
    return rc < 0 ? ffmpeg_fail(e, rc, codec->name) : 0;
}

/* Opens from the first byte; used again to start over. */
static int video_start(struct video *v, struct err *e)
{
    ffmpeg_clear_note();
    v->next = 0;
    v->drained = v->key_seen = v->jumped = false;
    v->read_errors = v->damaged = 0;
    int rc = open_container(v, e);
    if (rc == 0)
        rc = find_streams(v, e);
    if (rc == 0)
        rc = choose_stream(v, e);
    if (rc == 0)
        rc = open_decoder(v, e);
    if (rc < 0)
        video_shut(v);
    return rc;
}

static bool is_still_format(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, "_pipe") == 0;
}

static void describe(struct video *v)
{
    AVStream *st = v->fmt->streams[v->stream];
    struct clip_info *info = &v->base.info;
    const char *format = v->fmt->iformat->name;
    info->kind = is_still_format(format) ? CLIP_IMAGE : CLIP_VIDEO;
    snprintf(info->codec, sizeof(info->codec), "%s", avcodec_get_name(v->dec->codec_id));
    snprintf(info->format, sizeof(info->format), "%s", format);
    if (info->kind == CLIP_IMAGE) {
        snprintf(info->format, sizeof(info->format), "%s", info->codec);
        return;
    }
    AVRational rate = av_guess_frame_rate(v->fmt, st, NULL);
    if (st->avg_frame_rate.num > 0 && st->avg_frame_rate.den > 0)
        rate = st->avg_frame_rate;
    info->fps = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 0;
    if (st->duration > 0)
        info->duration_s = (double)st->duration * av_q2d(st->time_base);
    else if (v->fmt->duration > 0)
        info->duration_s = (double)v->fmt->duration / AV_TIME_BASE;
    info->frames = st->nb_frames > 0 ? st->nb_frames : (int64_t)(info->duration_s * info->fps + 0.5);
}

/* ---- decoding ------------------------------------------------------------------------------------------------------
 */

static int note_damage(struct video *v, int averror, struct err *e)
{
    int max = v->base.env->limits.max_damaged;
    if (averror == AVERROR(ENOMEM))
        return err_set(e, ERR_NOMEM, "picture %lld: out of memory", (long long)v->next);
    v->damaged++;
    if (max >= 0 && v->damaged > max)
        return err_set(e, ERR_CORRUPT, "damaged at picture %lld: %s%s%s", (long long)v->next,
                       averror ? ffmpeg_text(averror) : "the decoder had to patch it up", ffmpeg_note()[0] ? ": " : "",
                       ffmpeg_note());
    log_debug(LOG_MSG("damaged picture passed over"), LOG_INT("picture", v->next), LOG_STR("note", ffmpeg_note()));
    return 0;
}

/* Gives the decoder one packet, or the end. */
static int feed(struct video *v, struct err *e)
{
    int rc = av_read_frame(v->fmt, v->pkt);
    if (rc == AVERROR_EXIT)
        return source_check_time(v->base.env, e);
    if (rc == AVERROR(EAGAIN))
        return 0;
    if (rc < 0 && rc != AVERROR_EOF && ++v->read_errors < READ_ERRORS_MAX)
        return note_damage(v, rc, e);
    if (rc < 0) {
        v->drained = true;
        rc = avcodec_send_packet(v->dec, NULL);
        return rc < 0 && rc != AVERROR_EOF ? note_damage(v, rc, e) : 0;
    }
    v->read_errors = 0;
    int out = 0;
    if (v->pkt->stream_index == v->stream) {
        bool counts = v->key_seen || (v->pkt->flags & AV_PKT_FLAG_KEY), cut = v->pkt->flags & AV_PKT_FLAG_CORRUPT;
        v->key_seen = counts;
        rc = avcodec_send_packet(v->dec, v->pkt);
        if ((rc < 0 || cut) && counts)
            out = note_damage(v, rc, e);
    }
    av_packet_unref(v->pkt);
    return out;
}

#define PATCHED (FF_DECODE_ERROR_INVALID_BITSTREAM | FF_DECODE_ERROR_CONCEALMENT_ACTIVE | FF_DECODE_ERROR_DECODE_SLICES)

/* The next picture into v->pic: 1, 0 at the end, negative. */
static int decode(struct video *v, struct err *e)
{
    for (;;) {
        int rc = source_check_time(v->base.env, e);
        if (rc < 0)
            return rc;
        int got = avcodec_receive_frame(v->dec, v->pic);
        if (got == AVERROR_EOF || (got == AVERROR(EAGAIN) && v->drained))
            return 0;
        if (got == AVERROR(EAGAIN))
            rc = feed(v, e);
        else if (got < 0)
            rc = note_damage(v, got, e);
        else if ((v->pic->decode_error_flags & PATCHED) || (v->pic->flags & AV_FRAME_FLAG_CORRUPT))
            rc = note_damage(v, 0, e);
        if (rc < 0)
            return rc;
        if (got == 0)
            return 1;
    }
}

static int64_t stamp(const struct video *v)
{
    return v->pic->best_effort_timestamp;
}

static int remember_stamp(struct video *v, struct err *e)
{
    if (v->next != v->n_pts)
        return 0;
    if (v->n_pts == v->cap_pts) {
        int64_t cap = v->cap_pts ? v->cap_pts * 2 : 256;
        int64_t *grown = realloc(v->pts, (size_t)cap * sizeof(*grown));
        if (!grown)
            return err_set(e, ERR_NOMEM, "out of memory");
        v->pts = grown;
        v->cap_pts = cap;
    }
    int64_t t = stamp(v), last = v->n_pts ? v->pts[v->n_pts - 1] : AV_NOPTS_VALUE;
    if (t == AV_NOPTS_VALUE || (v->n_pts && t <= last))
        v->pts_rise = false;
    if (t == AV_NOPTS_VALUE && last != AV_NOPTS_VALUE && v->base.info.fps > 0) /* AVI leaves some out */
        t = last + llrint(1 / (v->base.info.fps * av_q2d(v->fmt->streams[v->stream]->time_base)));
    v->pts[v->n_pts++] = t;
    return 0;
}

static int check_picture(struct video *v, struct err *e)
{
    const struct clip_limits *limits = &v->base.env->limits;
    if (v->next >= limits->max_frames)
        return err_set(e, ERR_LIMIT, "more than %lld pictures", (long long)limits->max_frames);
    int rc = source_check_size(v->base.env, v->pic->width, v->pic->height, e);
    if (rc < 0)
        return rc;
    if (v->base.info.width_px == 0) {
        bool swap = orient_swaps_sides(v->orientation);
        v->base.info.width_px = swap ? v->pic->height : v->pic->width;
        v->base.info.height_px = swap ? v->pic->width : v->pic->height;
    }
    return remember_stamp(v, e);
}

/* Of the picture that comes next, from the first one. */
static int64_t next_ms(const struct video *v)
{
    int64_t t = v->pts[v->next];
    if (t == AV_NOPTS_VALUE || v->pts[0] == AV_NOPTS_VALUE)
        return -1;
    return av_rescale_q(t - v->pts[0], v->fmt->streams[v->stream]->time_base, (AVRational){1, 1000});
}

/* ---- seeking ------------------------------------------------------------------------------------------------------- */

/* Decodes and counts one picture without converting it. */
static int skip_one(struct video *v, struct err *e)
{
    int rc = decode(v, e);
    if (rc > 0) {
        rc = check_picture(v, e);
        av_frame_unref(v->pic);
        v->next += rc == 0;
    } else if (rc == 0) {
        rc = err_set(e, ERR_NOTFOUND, "no picture %lld", (long long)v->next);
    }
    return rc;
}

/* From the first byte to picture n: slow and always right. */
static int start_over(struct video *v, int64_t n, struct err *e)
{
    video_shut(v);
    int rc = video_start(v, e);
    while (rc == 0 && v->next < n)
        rc = skip_one(v, e);
    return rc;
}

/* Ordinal of the picture with this time stamp, or -1. */
static int64_t find_stamp(const struct video *v, int64_t t)
{
    int64_t lo = 0, hi = v->n_pts;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (v->pts[mid] < t)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < v->n_pts && v->pts[lo] == t ? lo : -1;
}

/* Jumps to a key frame at or before picture n-1 and decodes up to that. 1 done, 0 could not: start over. */
static int jump(struct video *v, int64_t n, struct err *e)
{
    if (av_seek_frame(v->fmt, v->stream, v->pts[n - 1], AVSEEK_FLAG_BACKWARD) < 0)
        return 0;
    avcodec_flush_buffers(v->dec);
    v->drained = v->key_seen = false;
    v->jumped = true;
    int damaged = v->damaged;
    for (;;) {
        struct err ignored = {0};
        int rc = decode(v, &ignored);
        if (rc < 0 && ignored.code == ERR_TIMEOUT)
            return err_set(e, ERR_TIMEOUT, "%s", ignored.msg);
        if (rc <= 0 || v->damaged != damaged)
            return 0;
        int64_t k = find_stamp(v, stamp(v));
        av_frame_unref(v->pic);
        if (k < 0 || k >= n)
            return 0;
        v->next = k + 1;
        if (v->next == n)
            return 1;
    }
}

static int video_seek(struct source *s, int64_t n, struct err *e)
{
    struct video *v = (struct video *)s;
    bool known = v->pts_rise && n > 0 && n <= v->n_pts;
    int rc = 0;
    if (n < v->next || (known && n - v->next > SKIP_MAX)) {
        rc = known ? jump(v, n, e) : 0;
        if (rc == 0)
            rc = start_over(v, n, e);
    }
    while (rc >= 0 && v->next < n)
        rc = skip_one(v, e);
    return rc < 0 ? rc : 0;
}

/* After a jump the decoder may leave out or shuffle pictures (open groups of pictures): every known time stamp is compared. */
static bool went_astray(const struct video *v, int decoded)
{
    if (!v->jumped || v->next >= v->n_pts)
        return false;
    return decoded == 0 || (decoded > 0 && stamp(v) != v->pts[v->next]);
}

static int video_next(struct source *s, struct frame **out, struct err *e)
{
    struct video *v = (struct video *)s;
    int rc = decode(v, e);
    if (went_astray(v, rc)) {
        av_frame_unref(v->pic);
        if ((rc = start_over(v, v->next, e)) == 0)
            rc = decode(v, e);
    }
    if (rc == 0 && v->next == 0)
        return err_set(e, ERR_CORRUPT, "no picture could be decoded%s%s", ffmpeg_note()[0] ? ": " : "", ffmpeg_note());
    if (rc <= 0)
        return rc;
    rc = check_picture(v, e);
    if (rc == 0 && out) {
        rc = picture_convert(&v->picture, v->pic, v->orientation, s->info.width_px, s->info.height_px, s->env->pool,
                             out, e);
        if (rc == 0) {
            (*out)->ordinal = v->next;
            (*out)->pts_ms = next_ms(v);
        }
    }
    av_frame_unref(v->pic);
    if (rc < 0)
        return rc;
    v->next++;
    return 1;
}

static const struct source_ops video_ops = {.next = video_next, .seek = video_seek, .close = video_close};

/* Small still images are too short for FFmpeg's probing; their first bytes say enough. */
static const char *still_format(struct source_bytes in)
{
    static const struct {
        const char *magic, *format;
    } known[] = {{"BM", "bmp_pipe"}, {"II*\0", "tiff_pipe"}, {"MM\0*", "tiff_pipe"}, {"P4", "pbm_pipe"},
                 {"P5", "pgm_pipe"}, {"P6", "ppm_pipe"},     {"P7", "pam_pipe"}};
    uint8_t head[16] = {0};
    if (source_read_at(in, 0, head, sizeof(head), NULL) < 8)
        return NULL;
    if (memcmp(head, "RIFF", 4) == 0 && memcmp(head + 8, "WEBP", 4) == 0)
        return "webp_pipe";
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t n = known[i].magic[0] == 'I' || known[i].magic[0] == 'M' ? 4 : 2;
        if (memcmp(head, known[i].magic, n) == 0)
            return known[i].format;
    }
    return NULL;
}

int source_open_video(struct source_bytes in, const char *format, struct source_env *env, struct source **out,
                      struct err *e)
{
    ffmpeg_init();
    *out = NULL;
    struct video *v = calloc(1, sizeof(*v));
    if (!v)
        return err_set(e, ERR_NOMEM, "out of memory");
    v->base = (struct source){.ops = &video_ops, .env = env};
    v->in = in;
    if (!format)
        format = still_format(in);
    v->hint = format ? av_find_input_format(format) : NULL;
    v->pts_rise = true;
    v->pkt = av_packet_alloc();
    v->pic = av_frame_alloc();
    int rc = v->pkt && v->pic ? video_start(v, e) : err_set(e, ERR_NOMEM, "out of memory");
    if (rc < 0) {
        video_close(&v->base);
        return rc;
    }
    describe(v);
    *out = &v->base;
    return 0;
}
