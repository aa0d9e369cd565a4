/*
 * Shared FFmpeg glue: the log bridge and error texts. FFmpeg says what is wrong with a file only in its log, so the
 * last error line of each thread is kept as a note for our own message. Lines can quote bytes of the file: everything
 * unprintable is replaced.
 */
#include "core/media/ffmpeg.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <libavutil/log.h>

#include "core/base/log.h"

static _Thread_local char note[200];
static _Thread_local bool too_large;
static _Thread_local char text[AV_ERROR_MAX_STRING_SIZE];

static void clean(char *s)
{
    size_t n = strlen(s);
    while (n && (s[n - 1] == '\n' || s[n - 1] == ' ' || s[n - 1] == '.'))
        s[--n] = 0;
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || (unsigned char)*s >= 0x7f)
            *s = '?';
}

__attribute__((format(printf, 3, 0))) static void on_log(void *ctx, int level, const char *fmt, va_list args)
{
    if (level > AV_LOG_WARNING)
        return;
    too_large |= strstr(fmt, "max pixel count") != NULL;
    char line[sizeof(note)];
    vsnprintf(line, sizeof(line), fmt, args);
    clean(line);
    if (!line[0])
        return;
    const AVClass *class = ctx ? *(AVClass **)ctx : NULL;
    const char *from = class && class->item_name ? class->item_name(ctx) : "ffmpeg";
    if (level <= AV_LOG_ERROR)
        memcpy(note, line, sizeof(note));
    log_debug(LOG_MSG(line), LOG_STR("from", from));
}

static void init_once(void)
{
    av_log_set_callback(on_log);
}

void ffmpeg_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

void ffmpeg_warm_up(void)
{
    static const enum AVCodecID common[] = {AV_CODEC_ID_H264,  AV_CODEC_ID_HEVC, AV_CODEC_ID_VP8,  AV_CODEC_ID_VP9,
                                            AV_CODEC_ID_MJPEG, AV_CODEC_ID_GIF,  AV_CODEC_ID_MPEG4};
    ffmpeg_init();
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++) {
        const AVCodec *codec = avcodec_find_decoder(common[i]);
        AVCodecContext *c = codec ? avcodec_alloc_context3(codec) : NULL;
        if (c) {
            c->thread_count = 1;
            avcodec_open2(c, codec, NULL); /* its failure is told when a clip needs it */
        }
        avcodec_free_context(&c);
    }
}

const char *ffmpeg_note(void)
{
    return note;
}

void ffmpeg_clear_note(void)
{
    note[0] = 0;
    too_large = false;
}

bool ffmpeg_saw_too_large(void)
{
    return too_large;
}

const char *ffmpeg_text(int averror)
{
    av_strerror(averror, text, sizeof(text));
    return text;
}

static int code_of(int averror)
{
    switch (averror) {
    case AVERROR(ENOMEM):
        return ERR_NOMEM;
    case AVERROR(EIO):
        return ERR_IO;
    case AVERROR(ENOSPC):
    case AVERROR(EDQUOT):
        return ERR_FULL;
    case AVERROR_EXIT:
        return ERR_TIMEOUT;
    case AVERROR_DECODER_NOT_FOUND:
    case AVERROR_DEMUXER_NOT_FOUND:
    case AVERROR_PATCHWELCOME:
    case AVERROR(ENOSYS):
        return ERR_UNSUPPORTED;
    default:
        return ERR_CORRUPT;
    }
}

int ffmpeg_fail(struct err *e, int averror, const char *what)
{
    return err_set(e, code_of(averror), "%s: %s%s%s", what, ffmpeg_text(averror), note[0] ? ": " : "", note);
}
