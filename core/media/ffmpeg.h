/* Inside core/media: what every user of FFmpeg's libraries here shares. */
#ifndef CORE_MEDIA_FFMPEG_H
#define CORE_MEDIA_FFMPEG_H

#include <stdbool.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>

#include "core/base/err.h"
#include "core/media/frame.h"

/* Once per process: sends FFmpeg's log lines to ours, at level debug. Safe from any thread. */
void ffmpeg_init(void);
/* Has the decoders that clips mostly need build their constant tables now, for processes forked later. */
void ffmpeg_warm_up(void);
/* The calling thread's last FFmpeg error line since ffmpeg_clear_note, cleaned for people; "" when there was none. */
const char *ffmpeg_note(void);
void ffmpeg_clear_note(void);
/* Whether, since then, a picture was refused on the calling thread for being over max_pixels: decoders say so only in the log. */
bool ffmpeg_saw_too_large(void);
/* Text of an AVERROR code; thread-local storage. */
const char *ffmpeg_text(int averror);
/* "what: text: note" with the ERR_* that fits the AVERROR. */
int ffmpeg_fail(struct err *e, int averror, const char *what);

/* Turns decoded pictures into upright RGB frames. Zero-initialise; free with picture_fini. */
struct picture {
    struct SwsContext *sws;
    int src_w, src_h, src_fmt, src_space, src_range, dst_w, dst_h, dst_fmt; /* what sws was made for */
    struct frame *turned;                                                   /* RGB before it is turned upright */
    uint8_t *rgba;                                                          /* picture with alpha */
    size_t rgba_bytes;
};
/* The frame has the sides width_px x height_px after turning; colours by the picture's own matrix and range. */
int picture_convert(struct picture *p, const AVFrame *in, int orientation, int width_px, int height_px,
                    struct frame_pool *pool, struct frame **out, struct err *e);
void picture_fini(struct picture *p);

#endif
