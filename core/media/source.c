/* What all sources share: bytes of a file or of memory, the limits, and still images of any format. */
#include "core/media/clip_source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/media/image.h"

int64_t source_read_at(struct source_bytes in, int64_t at, void *out, size_t n, struct err *e)
{
    if (at >= in.size)
        return 0;
    if ((int64_t)n > in.size - at)
        n = (size_t)(in.size - at);
    if (in.fd < 0) {
        memcpy(out, in.mem + at, n);
        return (int64_t)n;
    }
    ssize_t got;
    do
        got = pread(in.fd, out, n, at);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_errno(e, "reading the clip") : (int64_t)got;
}

static bool is_zip(const uint8_t *head, int64_t n)
{
    return n >= 4 && (memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0);
}

int source_open_file(struct source_bytes in, struct source_env *env, struct source **out, struct err *e)
{
    uint8_t head[8];
    *out = NULL;
    int64_t n = source_read_at(in, 0, head, sizeof(head), e);
    if (n < 0)
        return (int)n;
    return is_zip(head, n) ? source_open_zip(in, env, out, e) : source_open_image(in, env, out, e);
}

int source_read_all(struct source_bytes in, int64_t max_bytes, struct buf *out, struct err *e)
{
    if (in.size > max_bytes)
        return err_set(e, ERR_LIMIT, "an image of %lld bytes is over the limit of %lld", (long long)in.size,
                       (long long)max_bytes);
    int64_t at = 0;
    while (at < in.size) {
        size_t n = (size_t)(in.size - at);
        void *p = buf_reserve(out, n);
        if (!p)
            return err_set(e, ERR_NOMEM, "no memory for an image of %lld bytes", (long long)in.size);
        int64_t got = source_read_at(in, at, p, n, e);
        if (got < 0)
            return (int)got;
        if (got == 0)
            return err_set(e, ERR_IO, "the file became shorter while it was read");
        out->len += (size_t)got;
        at += got;
    }
    return 0;
}

int source_check_time(const struct source_env *env, struct err *e)
{
    if (clock_mono_ms() <= env->deadline_ms)
        return 0;
    return err_set(e, ERR_TIMEOUT, "decoding took longer than %lld ms", (long long)env->limits.max_decode_ms);
}

int source_check_size(const struct source_env *env, int64_t width_px, int64_t height_px, struct err *e)
{
    const struct clip_limits *l = &env->limits;
    if (width_px <= 0 || height_px <= 0)
        return err_set(e, ERR_CORRUPT, "a picture of %lld x %lld pixels", (long long)width_px, (long long)height_px);
    if (width_px > l->max_side_px || height_px > l->max_side_px)
        return err_set(e, ERR_LIMIT, "a picture of %lld x %lld has a side over the limit of %d pixels",
                       (long long)width_px, (long long)height_px, l->max_side_px);
    if (width_px * height_px > l->max_pixels)
        return err_set(e, ERR_LIMIT, "a picture of %lld x %lld is over the limit of %lld pixels", (long long)width_px,
                       (long long)height_px, (long long)l->max_pixels);
    return 0;
}

/* BMP, WebP, TIFF, PNM: one picture through FFmpeg. */
static int decode_other(const void *data, size_t len, struct source_env *env, struct frame **out, char codec[32],
                        struct err *e)
{
    struct source *s = NULL;
    struct source_bytes in = {.fd = -1, .mem = data, .size = (int64_t)len};
    int rc = source_open_video(in, NULL, env, &s, e);
    if (rc < 0)
        return rc;
    if (s->info.kind != CLIP_IMAGE)
        rc = err_set(e, ERR_UNSUPPORTED, "not an image");
    else if ((rc = s->ops->next(s, out, e)) == 0)
        rc = err_set(e, ERR_CORRUPT, "no picture could be decoded");
    snprintf(codec, 32, "%s", s->info.codec);
    s->ops->close(s);
    return rc < 0 ? rc : 0;
}

int source_decode_still(const void *data, size_t len, struct source_env *env, struct frame **out, char codec[32],
                        struct err *e)
{
    *out = NULL;
    enum image_type type = image_sniff(data, len);
    if (type == IMAGE_NONE)
        return decode_other(data, len, env, out, codec, e);
    snprintf(codec, 32, "%s", type == IMAGE_JPEG ? "jpeg" : "png");
    int rc = image_decode(data, len, IMAGE_RGB, env->limits.max_pixels, out, e);
    if (rc == 0 && (rc = source_check_size(env, (*out)->width_px, (*out)->height_px, e)) < 0) {
        frame_unref(*out);
        *out = NULL;
    }
    return rc;
}
