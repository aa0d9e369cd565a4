/*
 * A zip made while it is sent. The zip writer pushes, HTTP pulls: between them stands a buffer that holds the output of one entry.
 * A range is made by letting the writer run from the start and dropping what lies before; checksums need the skipped data anyway.
 */
#include "api/zipstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/media/zip.h"

#define INDEX_MAX ((size_t)256 << 20)
#define MAP_MAX ((size_t)256 << 20)

struct zipstream {
    struct blobs *blobs;
    struct zip_writer *zip;
    struct buf index, map, out;
    char prefix[BLOB_KEY_MAX];
    char *next; /* line of the index, NULL when all entries are out */
    bool finished;
    size_t taken; /* of out */
    int64_t total, skip, left;
};

struct entry {
    int64_t ordinal, bytes;
    char name[FS_PATH_MAX];
};

/* Parses the line at *s and moves on. 1, 0 at the end, ERR_CORRUPT. */
static int next_entry(char **s, struct entry *en, struct err *e)
{
    if (!*s || **s == '\0')
        return 0;
    char *tab1 = strchr(*s, '\t'), *tab2 = tab1 ? strchr(tab1 + 1, '\t') : NULL,
         *end = tab2 ? strchr(tab2, '\n') : NULL;
    if (!end || end - tab2 > FS_PATH_MAX - 8)
        return err_set(e, ERR_CORRUPT, "the job's index of maps is damaged");
    en->ordinal = strtoll(*s, NULL, 10);
    en->bytes = strtoll(tab1 + 1, NULL, 10);
    if (end == tab2 + 1)
        snprintf(en->name, sizeof(en->name), "%05lld.png", (long long)en->ordinal);
    else
        snprintf(en->name, sizeof(en->name), "%.*s.png", (int)(end - tab2 - 1), tab2 + 1);
    *s = end + 1;
    return 1;
}

/* Output of the writer: drops what lies before the range, keeps the rest for the reader. */
static int take(void *arg, const void *data, size_t len, struct err *e)
{
    struct zipstream *z = arg;
    size_t drop = z->skip < (int64_t)len ? (size_t)z->skip : len;
    z->skip -= (int64_t)drop;
    buf_append(&z->out, (const char *)data + drop, len - drop);
    return z->out.failed ? err_set(e, ERR_NOMEM, "no memory for the archive") : 0;
}

static int measure(struct zipstream *z, struct err *e)
{
    struct entry en;
    char *s = z->index.data;
    int rc;
    while ((rc = next_entry(&s, &en, e)) > 0)
        z->total += zip_entry_bytes(en.name, en.bytes);
    z->total += zip_end_bytes();
    return rc;
}

int zipstream_open(struct blobs *blobs, const char *prefix, struct zipstream **out, struct err *e)
{
    struct zipstream *z = calloc(1, sizeof(*z));
    if (!z)
        return err_set(e, ERR_NOMEM, "no memory for the archive");
    char key[BLOB_KEY_MAX + 16];
    z->blobs = blobs;
    snprintf(z->prefix, sizeof(z->prefix), "%s", prefix);
    snprintf(key, sizeof(key), "%s" MAP_INDEX, prefix);
    int rc = blob_get(blobs, key, INDEX_MAX, &z->index, e);
    if (rc == 0)
        rc = measure(z, e);
    z->zip = rc == 0 ? zip_writer_new(take, z) : NULL;
    if (rc == 0 && !z->zip)
        rc = err_set(e, ERR_NOMEM, "no memory for the archive");
    if (rc < 0) {
        zipstream_close(z);
        return rc;
    }
    z->next = z->index.data;
    z->left = z->total;
    *out = z;
    return 0;
}

int64_t zipstream_bytes(const struct zipstream *z)
{
    return z->total;
}

void zipstream_range(struct zipstream *z, int64_t offset, int64_t len)
{
    z->skip = offset;
    z->left = len;
}

/* Lets the writer make the next entry, or the end records. */
static int produce(struct zipstream *z, struct err *e)
{
    struct entry en;
    char key[BLOB_KEY_MAX + 48];
    int rc = next_entry(&z->next, &en, e);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        z->finished = true;
        return zip_finish(z->zip, e);
    }
    snprintf(key, sizeof(key), "%s" MAP_NAME_FORMAT, z->prefix, (long long)en.ordinal);
    buf_reset(&z->map);
    rc = blob_get(z->blobs, key, MAP_MAX, &z->map, e);
    if (rc == 0 && (int64_t)z->map.len != en.bytes)
        rc = err_set(e, ERR_CORRUPT, "%s is not the size its index says", key);
    return rc == 0 ? zip_add(z->zip, en.name, z->map.data, z->map.len, e) : rc;
}

ssize_t zipstream_read(void *arg, int64_t pos, char *out, size_t cap)
{
    (void)pos;
    struct zipstream *z = arg;
    struct err e = {0};
    if (z->left == 0)
        return HTTP_STREAM_END;
    while (z->taken == z->out.len) {
        buf_reset(&z->out);
        z->taken = 0;
        if (z->finished || produce(z, &e) < 0) {
            log_error(LOG_MSG("archive cut off"), LOG_STR("prefix", z->prefix), LOG_STR("error", e.msg));
            return HTTP_STREAM_BROKEN;
        }
    }
    size_t n = z->out.len - z->taken;
    n = n < cap ? n : cap;
    n = (int64_t)n < z->left ? n : (size_t)z->left;
    memcpy(out, z->out.data + z->taken, n);
    z->taken += n;
    z->left -= (int64_t)n;
    return (ssize_t)n;
}

void zipstream_close(void *arg)
{
    struct zipstream *z = arg;
    if (!z)
        return;
    zip_writer_free(z->zip);
    buf_free(&z->index);
    buf_free(&z->map);
    buf_free(&z->out);
    free(z);
}
