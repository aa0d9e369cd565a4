/*
 * The pictures of a stored clip as JPEG. Entries of an archive that are JPEG and upright go out as they are, so that an
 * archive survives being exported and imported again; everything else is decoded, in confinement, and encoded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/media/image.h"
#include "core/task/exchange_impl.h"

enum { JPEG_QUALITY = 95 };

static int list_pictures(struct exchange_frames *f, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < unzip_count(f->zip) && rc == 0; i++) {
        const struct unzip_entry *en = unzip_entry(f->zip, i);
        if (entries_is_image(en->name))
            rc = entries_add(&f->entries, en->name, en->size, i, e);
    }
    if (rc == 0)
        rc = entries_finish(&f->entries, e);
    f->own_names = rc == 0;
    for (size_t i = 0; i < f->entries.n && f->own_names; i++) {
        const char *name = f->entries.v[i].name;
        size_t n = strlen(name);
        f->own_names = n < EXCHANGE_NAME_SIZE && strspn(name, "0123456789") == n && n == strlen(f->entries.v[0].name);
    }
    return rc;
}

int exchange_frames_open(struct exchange_frames *f, struct blobs *b, const struct clip_record *c, struct err *e)
{
    char key[CLIP_KEY_SIZE];
    *f = (struct exchange_frames){0};
    clip_key(c, key);
    int rc = blob_local_path(b, key, f->path, e);
    if (rc == 0) {
        rc = blobs_temp(b, f->path, e);
        f->copy = rc == 0;
        if (rc == 0)
            rc = blob_get_file(b, key, f->path, e);
    }
    rc = rc < 0 ? rc : 0;
    if (rc == 0 && unzip_sniff(f->path)) {
        struct err why = {0};
        if (unzip_open(f->path, c->name, NULL, &f->zip, &why) == 0)
            rc = list_pictures(f, e);
    }
    if (rc)
        exchange_frames_close(f);
    return rc;
}

void exchange_frames_close(struct exchange_frames *f)
{
    clip_close(f->clip);
    unzip_close(f->zip);
    entries_free(&f->entries);
    if (f->copy)
        unlink(f->path);
    *f = (struct exchange_frames){0};
}

const char *exchange_frames_name(const struct exchange_frames *f, int64_t n, char out[EXCHANGE_NAME_SIZE])
{
    if (f->own_names && n < (int64_t)f->entries.n)
        snprintf(out, EXCHANGE_NAME_SIZE, "%s", f->entries.v[n].name);
    else
        snprintf(out, EXCHANGE_NAME_SIZE, "%05lld", (long long)n);
    return out;
}

static int by_name(const void *name, const void *entry)
{
    return strcmp(name, ((const struct entry *)entry)->name);
}

int64_t exchange_frames_find(const struct exchange_frames *f, const char *name, int64_t frames)
{
    char own[EXCHANGE_NAME_SIZE];
    size_t digits = strspn(name, "0123456789");
    if (f->own_names) { /* numbers of one length: sorted as text, too */
        const struct entry *en = bsearch(name, f->entries.v, f->entries.n, sizeof(*f->entries.v), by_name);
        return en && en - f->entries.v < frames ? en - f->entries.v : -1;
    }
    if (digits == 0 || name[digits] || digits > 9)
        return -1;
    int64_t n = strtoll(name, NULL, 10);
    return n < frames && strcmp(exchange_frames_name(f, n, own), name) == 0 ? n : -1;
}

/* A JPEG without EXIF, which might say that it is to be turned. Segments: ITU T.81, annex B. */
static bool is_plain_jpeg(const uint8_t *p, size_t len)
{
    if (image_sniff(p, len) != IMAGE_JPEG)
        return false;
    for (size_t i = 2; i + 4 <= len && p[i] == 0xff;) {
        if (p[i + 1] == 0xda)
            return true;
        if (p[i + 1] == 0xe1)
            return false;
        i += 2 + ((size_t)p[i + 2] << 8 | p[i + 3]);
    }
    return false;
}

/* 1: the entry was one that goes as it is. */
static int copy_entry(struct exchange_frames *f, int64_t n, struct buf *out, struct err *e)
{
    size_t before = out->len;
    if (!f->zip || n >= (int64_t)f->entries.n)
        return 0;
    int rc = unzip_read(f->zip, f->entries.v[n].position, out, e);
    if (rc < 0)
        return rc;
    if (is_plain_jpeg((const uint8_t *)out->data + before, out->len - before))
        return 1;
    out->len = before;
    return 0;
}

int exchange_frames_jpeg(struct exchange_frames *f, int64_t n, struct buf *out, struct err *e)
{
    struct frame *picture = NULL;
    int rc = copy_entry(f, n, out, e);
    if (rc)
        return rc < 0 ? rc : 0;
    if (!f->clip)
        rc = clip_open(f->path, NULL, &f->clip, e);
    if (rc == 0)
        rc = n == f->next ? clip_next(f->clip, &picture, e) : clip_seek_frame(f->clip, n, &picture, e);
    if (rc >= 0 && !picture)
        rc = err_set(e, ERR_CORRUPT, "the clip ends before frame %lld", (long long)n);
    f->next = n + 1;
    if (rc >= 0)
        rc = image_encode_jpeg(picture, JPEG_QUALITY, out, e);
    frame_unref(picture);
    return rc;
}

void exchange_dir(const struct clip_record *c, char out[EXCHANGE_DIR_SIZE])
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *name = c->name && *c->name ? c->name : c->id, *stem;
    size_t n = fs_stem(name, &stem);
    snprintf(out, EXCHANGE_DIR_SIZE - 8, "%.*s", (int)(n < 60 ? n : 60), stem);
    for (char *p = out; *p; p++)
        if (!strchr(legal, *p))
            *p = '_';
    if (out[0] == '.' || !out[0])
        snprintf(out, EXCHANGE_DIR_SIZE, "%s", c->id);
}
