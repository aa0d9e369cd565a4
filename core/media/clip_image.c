/*
 * A clip that is one JPEG or PNG. Animated PNG and concatenated JPEG (motion JPEG) look like still images at first
 * sight and are handed to the video source; other still formats are the video source's anyway.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/media/clip_source.h"
#include "core/media/image_codec.h"

#define STILL_BYTES_MAX ((int64_t)128 << 20)

struct still {
    struct source base;
    struct frame *picture;
    int64_t next; /* 0 or 1 */
};

static int still_next(struct source *s, struct frame **out, struct err *e)
{
    struct still *p = (struct still *)s;
    (void)e;
    if (p->next > 0)
        return 0;
    p->next = 1;
    if (out)
        *out = frame_ref(p->picture);
    return 1;
}

static int still_seek(struct source *s, int64_t n, struct err *e)
{
    struct still *p = (struct still *)s;
    if (n > 1)
        return err_set(e, ERR_NOTFOUND, "no picture %lld: the clip has 1", (long long)n);
    p->next = n;
    return 0;
}

static void still_close(struct source *s)
{
    struct still *p = (struct still *)s;
    frame_unref(p->picture);
    free(p);
}

static const struct source_ops still_ops = {.next = still_next, .seek = still_seek, .close = still_close};

/* An acTL chunk before the first IDAT (APNG 1.0). */
static bool is_animated_png(const uint8_t *p, size_t len)
{
    for (size_t at = 8; at + 8 <= len;) {
        size_t n = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        if (memcmp(p + at + 4, "acTL", 4) == 0)
            return true;
        if (memcmp(p + at + 4, "IDAT", 4) == 0 || n > len - at - 8)
            return false;
        at += 12 + n;
    }
    return false;
}

static int open_still(struct source_bytes in, const struct buf *file, struct source_env *env, struct source **out,
                      struct err *e)
{
    struct image_meta meta = {0};
    struct frame *picture = NULL;
    int rc = image_decode_meta(file->data, file->len, IMAGE_RGB, env->limits.max_pixels, &picture, &meta, e);
    if (rc == 0 && meta.more_pictures) {
        frame_unref(picture);
        return source_open_video(in, "mjpeg", env, out, e);
    }
    struct still *p = rc == 0 ? calloc(1, sizeof(*p)) : NULL;
    if (rc == 0 && !p)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == 0)
        rc = source_check_size(env, picture->width_px, picture->height_px, e);
    if (rc != 0) {
        frame_unref(picture);
        free(p);
        return rc;
    }
    p->base = (struct source){.ops = &still_ops, .env = env, .info = {.kind = CLIP_IMAGE, .frames = 1}};
    p->picture = picture;
    p->base.info.width_px = picture->width_px;
    p->base.info.height_px = picture->height_px;
    const char *codec = image_sniff(file->data, file->len) == IMAGE_JPEG ? "jpeg" : "png";
    snprintf(p->base.info.codec, sizeof(p->base.info.codec), "%s", codec);
    snprintf(p->base.info.format, sizeof(p->base.info.format), "%s", codec);
    *out = &p->base;
    return 0;
}

/* A motion JPEG stream may be of any length: only its first part is looked at here. */
int source_open_image(struct source_bytes in, struct source_env *env, struct source **out, struct err *e)
{
    struct buf file = BUF_INIT;
    uint8_t head[16];
    *out = NULL;
    int64_t n = source_read_at(in, 0, head, sizeof(head), e);
    if (n < 0)
        return (int)n;
    enum image_type type = image_sniff(head, (size_t)n);
    if (type == IMAGE_NONE)
        return source_open_video(in, NULL, env, out, e);
    struct source_bytes part = in;
    part.size = in.size < STILL_BYTES_MAX ? in.size : STILL_BYTES_MAX;
    int rc = source_read_all(part, STILL_BYTES_MAX, &file, e);
    if (rc == 0 && type == IMAGE_PNG && is_animated_png((const uint8_t *)file.data, file.len))
        rc = source_open_video(in, "apng", env, out, e);
    else if (rc == 0)
        rc = open_still(in, &file, env, out, e);
    buf_free(&file);
    return rc;
}
