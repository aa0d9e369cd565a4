/*
 * A zip of images as a clip, through libarchive over our bytes. The directory at the end is what counts (the seekable
 * reader): names and sizes come from it, and every name is checked even though nothing is ever written under it.
 *
 * Frames come in natural order of their names, which need not be the order in the archive. Entries are therefore read
 * in windows: one walk over the archive fetches the next frames that fit the window's memory, in whatever order they
 * lie. An archive in order is walked once per window, a shuffled one too.
 *
 * Bombs: unpacked sizes are bounded one by one and together, an entry that unpacks to more than it claims is damaged,
 * and the number of entries is bounded while they are listed.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/media/clip_source.h"
#include "core/media/entries.h"

#define WINDOW_BYTES ((int64_t)32 << 20)
#define WINDOW_ENTRIES 64
#define ENTRY_BYTES_MAX ((int64_t)256 << 20)
#define IO_BYTES (64 << 10)
#define OTHER_ENTRIES_MAX 10000 /* that are not images */

struct zip_in {
    struct source_bytes in;
    int64_t at;
    uint8_t buffer[IO_BYTES];
};

struct zip_clip {
    struct source base;
    struct zip_in io;
    struct archive *archive; /* the walk going on, or NULL */
    size_t position;         /* of the entry the walk comes to next */
    struct entries entries;
    int64_t next;
    struct buf window[WINDOW_ENTRIES]; /* frames first .. first+count-1, packed images */
    int64_t first, count;
};

static la_ssize_t on_read(struct archive *a, void *opaque, const void **out)
{
    struct zip_in *z = opaque;
    struct err e;
    int64_t n = source_read_at(z->in, z->at, z->buffer, sizeof(z->buffer), &e);
    if (n < 0) {
        archive_set_error(a, EIO, "%s", e.msg);
        return -1;
    }
    z->at += n;
    *out = z->buffer;
    return (la_ssize_t)n;
}

static la_int64_t on_seek(struct archive *a, void *opaque, la_int64_t to, int whence)
{
    struct zip_in *z = opaque;
    (void)a;
    to += whence == SEEK_CUR ? z->at : whence == SEEK_END ? z->in.size : 0;
    if (to < 0 || to > z->in.size)
        return ARCHIVE_FATAL;
    return z->at = to;
}

static la_int64_t on_skip(struct archive *a, void *opaque, la_int64_t n)
{
    struct zip_in *z = opaque;
    (void)a;
    if (n > z->in.size - z->at)
        n = z->in.size - z->at;
    z->at += n;
    return n;
}

static int archive_fail(struct archive *a, struct err *e, const char *what)
{
    const char *text = archive_error_string(a);
    int code = archive_errno(a) == ENOMEM ? ERR_NOMEM : ERR_CORRUPT;
    return err_set(e, code, "zip: %.150s: %.150s", what, text ? text : "damaged");
}

static void archive_end(struct zip_clip *z)
{
    if (z->archive)
        archive_read_free(z->archive);
    z->archive = NULL;
}

/* Before the first entry. */
static int archive_begin(struct zip_clip *z, struct err *e)
{
    archive_end(z);
    struct archive *a = z->archive = archive_read_new();
    if (!a)
        return err_set(e, ERR_NOMEM, "out of memory");
    z->io.at = 0;
    z->position = 0;
    archive_read_support_format_zip_seekable(a);
    archive_read_set_callback_data(a, &z->io);
    archive_read_set_read_callback(a, on_read);
    archive_read_set_seek_callback(a, on_seek);
    archive_read_set_skip_callback(a, on_skip);
    return archive_read_open1(a) == ARCHIVE_OK ? 0 : archive_fail(a, e, "cannot be opened");
}

/* 1 an entry, whose position is z->position - 1; 0 the end, negative. */
static int archive_step(struct zip_clip *z, struct archive_entry **entry, struct err *e)
{
    int rc = source_check_time(z->base.env, e);
    if (rc < 0)
        return rc;
    rc = archive_read_next_header(z->archive, entry);
    if (rc == ARCHIVE_EOF)
        return 0;
    z->position++;
    /* A warning is about a name's character set only. */
    return rc == ARCHIVE_OK || rc == ARCHIVE_WARN ? 1 : archive_fail(z->archive, e, "directory");
}

/* Bytes as stored when the locale cannot show them: names are only compared and cleaned. */
static const char *path_of(struct archive_entry *entry)
{
    const char *p = archive_entry_pathname_utf8(entry);
    return p ? p : archive_entry_pathname(entry);
}

static int list_one(struct zip_clip *z, struct archive_entry *entry, size_t position, int64_t *total, struct err *e)
{
    const struct clip_limits *l = &z->base.env->limits;
    const char *path = path_of(entry);
    if (!path)
        return err_set(e, ERR_CORRUPT, "zip: entry %zu has no readable name", position);
    int rc = entries_check_path(path, e);
    if (rc < 0 || archive_entry_filetype(entry) == AE_IFDIR || !entries_is_image(path))
        return rc;
    if (archive_entry_filetype(entry) != AE_IFREG)
        return err_set(e, ERR_INVALID, "zip: '%.100s' is not a plain file", path);
    if (archive_entry_is_data_encrypted(entry) > 0)
        return err_set(e, ERR_UNSUPPORTED, "zip: '%.100s' is encrypted", path);
    int64_t size = archive_entry_size(entry);
    if (size > ENTRY_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "zip: '%.100s' unpacks to more than %lld bytes", path, (long long)ENTRY_BYTES_MAX);
    if ((*total += size) > l->max_unpacked_bytes)
        return err_set(e, ERR_LIMIT, "zip: unpacks to more than %lld bytes", (long long)l->max_unpacked_bytes);
    if ((int64_t)z->entries.n >= l->max_frames)
        return err_set(e, ERR_LIMIT, "more than %lld pictures", (long long)l->max_frames);
    return entries_add(&z->entries, path, size, position, e);
}

static int list_entries(struct zip_clip *z, struct err *e)
{
    struct archive_entry *entry;
    int64_t total = 0;
    int rc = archive_begin(z, e);
    while (rc == 0 && (rc = archive_step(z, &entry, e)) > 0) {
        rc = list_one(z, entry, z->position - 1, &total, e);
        if (rc == 0 && z->position > z->entries.n + OTHER_ENTRIES_MAX)
            rc = err_set(e, ERR_LIMIT, "zip: more than %d entries are not images", OTHER_ENTRIES_MAX);
    }
    archive_end(z);
    if (rc == 0 && (rc = entries_finish(&z->entries, e)) < 0)
        err_wrap(e, "zip");
    return rc;
}

static int unpack(struct zip_clip *z, const struct entry *entry, struct buf *out, struct err *e)
{
    buf_reset(out);
    for (;;) {
        void *p = buf_reserve(out, IO_BYTES);
        if (!p)
            return err_set(e, ERR_NOMEM, "out of memory");
        la_ssize_t n = archive_read_data(z->archive, p, IO_BYTES);
        if (n < 0)
            return archive_fail(z->archive, e, entry->path);
        if (n == 0)
            break;
        out->len += (size_t)n;
        if ((int64_t)out->len > entry->size)
            return err_set(e, ERR_CORRUPT, "zip: '%.100s' unpacks to more than it says", entry->path);
        int rc = source_check_time(z->base.env, e);
        if (rc < 0)
            return rc;
    }
    return (int64_t)out->len == entry->size
               ? 0
               : err_set(e, ERR_CORRUPT, "zip: '%.100s' unpacks to less than it says", entry->path);
}

/* How many frames from `first` fit one window; at least one. */
static int64_t window_size(const struct zip_clip *z, int64_t first)
{
    int64_t n = 0, bytes = 0;
    while (first + n < (int64_t)z->entries.n && n < WINDOW_ENTRIES) {
        bytes += z->entries.v[first + n].size;
        if (n && bytes > WINDOW_BYTES)
            break;
        n++;
    }
    return n;
}

/* Index in the window of the entry at this position of the archive, or -1. */
static int64_t slot_of(const struct zip_clip *z, size_t position)
{
    for (int64_t i = 0; i < z->count; i++)
        if (z->entries.v[z->first + i].position == position)
            return i;
    return -1;
}

/* Whether the walk has already gone past an entry of the window. */
static bool window_is_behind(const struct zip_clip *z)
{
    for (int64_t i = 0; i < z->count; i++)
        if (z->entries.v[z->first + i].position < z->position)
            return true;
    return false;
}

static int fetch_window(struct zip_clip *z, int64_t first, struct err *e)
{
    struct archive_entry *entry;
    z->first = first;
    z->count = window_size(z, first);
    int rc = !z->archive || window_is_behind(z) ? archive_begin(z, e) : 0;
    int64_t missing = z->count;
    while (rc == 0 && missing) {
        rc = archive_step(z, &entry, e);
        if (rc <= 0)
            break;
        int64_t i = slot_of(z, z->position - 1);
        rc = i >= 0 ? unpack(z, &z->entries.v[first + i], &z->window[i], e) : 0;
        missing -= i >= 0;
    }
    if (rc == 0 && missing)
        rc = err_set(e, ERR_CORRUPT, "zip: its directory changed while it was read");
    if (rc < 0) {
        z->count = 0;
        archive_end(z);
    }
    return rc;
}

static int zip_next(struct source *s, struct frame **out, struct err *e)
{
    struct zip_clip *z = (struct zip_clip *)s;
    if (z->next >= (int64_t)z->entries.n)
        return 0;
    int rc = source_check_time(s->env, e);
    if (rc == 0 && (z->next < z->first || z->next >= z->first + z->count))
        rc = fetch_window(z, z->next, e);
    if (rc < 0)
        return rc;
    const struct buf *packed = &z->window[z->next - z->first];
    struct frame *f = NULL;
    char codec[32];
    rc = source_decode_still(packed->data, packed->len, s->env, &f, codec, e);
    if (rc < 0)
        return err_wrap(e, "%.200s", z->entries.v[z->next].path);
    if (z->next == 0)
        memcpy(s->info.codec, codec, sizeof(codec));
    f->ordinal = z->next++;
    f->pts_ms = -1;
    if (out)
        *out = f;
    else
        frame_unref(f);
    return 1;
}

static int zip_seek(struct source *s, int64_t n, struct err *e)
{
    struct zip_clip *z = (struct zip_clip *)s;
    if (n > (int64_t)z->entries.n)
        return err_set(e, ERR_NOTFOUND, "no picture %lld: the clip has %zu", (long long)n, z->entries.n);
    z->next = n;
    return 0;
}

static const char *zip_name(const struct source *s, int64_t ordinal)
{
    const struct zip_clip *z = (const struct zip_clip *)s;
    return ordinal >= 0 && ordinal < (int64_t)z->entries.n ? z->entries.v[ordinal].name : NULL;
}

static void zip_close(struct source *s)
{
    struct zip_clip *z = (struct zip_clip *)s;
    for (size_t i = 0; i < WINDOW_ENTRIES; i++)
        buf_free(&z->window[i]);
    archive_end(z);
    entries_free(&z->entries);
    free(z);
}

static const struct source_ops zip_ops = {.next = zip_next, .seek = zip_seek, .name = zip_name, .close = zip_close};

int source_open_zip(struct source_bytes in, struct source_env *env, struct source **out, struct err *e)
{
    struct zip_clip *z = calloc(1, sizeof(*z));
    *out = NULL;
    if (!z)
        return err_set(e, ERR_NOMEM, "out of memory");
    z->base = (struct source){.ops = &zip_ops, .env = env, .info = {.kind = CLIP_ZIP, .format = "zip"}};
    z->io.in = in;
    int rc = list_entries(z, e);
    if (rc < 0) {
        zip_close(&z->base);
        return rc;
    }
    z->base.info.frames = (int64_t)z->entries.n;
    *out = &z->base;
    return 0;
}
