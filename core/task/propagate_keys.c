/* Keyframe masks: finding them in a directory, telling what their pixels mean, reading them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/media/image.h"
#include "core/media/labelmap.h"
#include "core/task/propagate_impl.h"

#define MASK_MAX_BYTES ((size_t)256 << 20)
#define PNG_COLOUR_TYPE 25 /* offset of that byte in the header chunk, which always comes first */
#define PNG_PALETTE 3

/* ---- one mask -------------------------------------------------------------------------------------------------------- */

static bool has_palette(const struct buf *file)
{
    return image_sniff(file->data, file->len) == IMAGE_PNG && file->len > PNG_COLOUR_TYPE &&
           file->data[PNG_COLOUR_TYPE] == PNG_PALETTE;
}

static int load(const struct key_mask *k, int w, int h, struct buf *file, struct frame **labels, struct err *e)
{
    int rc = fs_read(k->path, MASK_MAX_BYTES, file, e);
    if (rc == 0)
        rc = image_decode(file->data, file->len, IMAGE_INDEX, 0, labels, e);
    if (rc)
        return err_wrap(e, "keyframe mask %s", k->path);
    const struct frame *m = *labels;
    if (m->width_px == w && m->height_px == h)
        return 0;
    rc = err_set(e, ERR_INVALID, "keyframe mask %s is %d x %d, its frame %d x %d", k->path, m->width_px, m->height_px,
                 w, h);
    frame_unref(*labels);
    *labels = NULL;
    return rc;
}

int key_inspect(const struct propagate_key *src, int w, int h, struct key_mask *out, struct err *e)
{
    struct buf file = BUF_INIT;
    struct frame *m = NULL;
    *out = (struct key_mask){.frame = src->frame, .path = src->mask_path};
    int rc = load(out, w, h, &file, &m, e);
    if (rc)
        goto out;
    sha256_hex(file.data, file.len, out->sha256);
    bool seen[256] = {false};
    int distinct = 0;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            uint8_t v = m->data[(ptrdiff_t)y * m->stride_bytes + x];
            distinct += !seen[v];
            seen[v] = true;
        }
    if (has_palette(&file))
        out->kind = KEY_LABELS;
    else if (distinct - seen[0] <= 1)
        out->kind = KEY_TWO_VALUED;
    else if (seen[255] || image_sniff(file.data, file.len) == IMAGE_JPEG)
        out->kind = KEY_SOFT;
    else
        out->kind = KEY_LABELS;
out:
    frame_unref(m);
    buf_free(&file);
    return rc;
}

int key_read(const struct key_mask *k, int w, int h, bool binary, struct frame **out, struct err *e)
{
    struct buf file = BUF_INIT;
    *out = NULL;
    int rc = load(k, w, h, &file, out, e);
    if (rc == 0 && (binary || k->kind == KEY_SOFT)) {
        int threshold = k->kind == KEY_SOFT ? 128 : 1;
        uint8_t object = binary ? 255 : 1;
        for (int y = 0; y < h; y++) {
            uint8_t *p = (*out)->data + (ptrdiff_t)y * (*out)->stride_bytes;
            for (int x = 0; x < w; x++)
                p[x] = p[x] >= threshold ? object : 0;
        }
    }
    buf_free(&file);
    return rc;
}

/* ---- the palette of the output --------------------------------------------------------------------------------------- */

static uint32_t be32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* Copies the colours of a PNG's PLTE chunk; false when there is none. */
static bool read_palette(const struct buf *file, uint8_t rgb[256][3])
{
    if (!has_palette(file))
        return false;
    for (size_t at = 8; at + 12 <= file->len;) {
        size_t len = be32(file->data + at), left = file->len - at - 12;
        if (len > left)
            return false;
        if (!memcmp(file->data + at + 4, "PLTE", 4) && len <= 768) {
            memcpy(rgb, file->data + at + 8, len);
            return true;
        }
        at += len + 12;
    }
    return false;
}

void propagate_palette(const struct propagate_key *keys, size_t n, uint8_t rgb[256][3])
{
    labelmap_palette(rgb);
    for (size_t i = 0; i < n; i++) {
        struct buf file = BUF_INIT;
        bool found = fs_read(keys[i].mask_path, MASK_MAX_BYTES, &file, NULL) == 0 && read_palette(&file, rgb);
        buf_free(&file);
        if (found)
            return;
    }
}

/* ---- a directory of masks -------------------------------------------------------------------------------------------- */

/* The frame that a stem names, or -1. Names of a folder's frames first, then numbers for video. */
static int64_t frame_of(const struct clip *clip, int64_t frames, const char *stem)
{
    if (clip_frame_name(clip, 0)) {
        for (int64_t i = 0; i < frames; i++) {
            const char *name = clip_frame_name(clip, i);
            if (name && !strcmp(name, stem))
                return i;
        }
        return -1;
    }
    char *end;
    if (*stem < '0' || *stem > '9')
        return -1;
    long long v = strtoll(stem, &end, 10);
    return *end || v >= frames ? -1 : v;
}

static bool is_image(const char *dir, const char *name)
{
    char path[FS_PATH_MAX];
    if (name[0] == '.' || fs_join(path, dir, name, NULL) || fs_is_dir(path))
        return false;
    const char *dot = strrchr(name, '.');
    return dot && (!strcasecmp(dot, ".png") || !strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"));
}

static int add_key(const struct clip *clip, int64_t frames, const char *dir, const char *name,
                   struct propagate_key *key, struct err *e)
{
    char path[FS_PATH_MAX], stem[FS_PATH_MAX];
    int rc = fs_join(path, dir, name, e);
    if (rc)
        return rc;
    snprintf(stem, sizeof(stem), "%.*s", (int)(strrchr(name, '.') - name), name);
    key->frame = frame_of(clip, frames, stem);
    if (key->frame < 0)
        return err_set(e, ERR_INVALID, "keyframe %s names no frame of the clip", path);
    key->mask_path = strdup(path);
    return key->mask_path ? 0 : err_set(e, ERR_NOMEM, "keyframes");
}

int propagate_keys_from_dir(const char *dir, const char *frames, const struct clip_limits *limits,
                            struct propagate_key **keys, size_t *n, struct err *e)
{
    struct fs_list names = {0};
    struct clip *clip = NULL;
    struct clip_info info;
    *keys = NULL;
    *n = 0;
    int rc = fs_list(dir, &names, e);
    if (rc == 0)
        rc = clip_open(frames, limits, &clip, e);
    if (rc)
        goto out;
    info = *clip_info(clip);
    *keys = calloc(names.n + 1, sizeof(**keys));
    if (!*keys) {
        rc = err_set(e, ERR_NOMEM, "keyframes");
        goto out;
    }
    for (size_t i = 0; rc == 0 && i < names.n; i++)
        if (is_image(dir, names.names[i]))
            rc = add_key(clip, info.frames_exact ? info.frames : INT64_MAX, dir, names.names[i], *keys + (*n)++, e);
    if (rc == 0 && *n == 0)
        rc = err_set(e, ERR_NOTFOUND, "no keyframe masks (PNG or JPEG images) in %s", dir);
out:
    if (rc) {
        propagate_keys_free(*keys, *n);
        *keys = NULL;
        *n = 0;
    }
    clip_close(clip);
    fs_list_free(&names);
    return rc;
}

void propagate_keys_free(struct propagate_key *keys, size_t n)
{
    for (size_t i = 0; keys && i < n; i++)
        free((void *)(uintptr_t)keys[i].mask_path);
    free(keys);
}
