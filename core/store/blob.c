/* blob: checks keys, picks the backend, and does what all backends do the same way. */
#include "core/store/blob_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct blob_ops *const backends[] = {&blob_s3, &blob_disk};

int blobs_open(const char *url, const struct blobs_opts *opts, struct blobs **out, struct err *e)
{
    static const struct blobs_opts none;
    *out = NULL;
    for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
        if (strncmp(url, backends[i]->scheme, strlen(backends[i]->scheme)) == 0)
            return backends[i]->open(url, opts ? opts : &none, out, e) ? err_wrap(e, "opening the blobs") : 0;
    return err_set(e, ERR_INVALID, "no blob backend for this URL");
}

void blobs_close(struct blobs *b)
{
    if (b)
        b->ops->close(b);
}

/* ---- keys ------------------------------------------------------------------------------------------------------- */

static bool key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

/* Parts separated by single slashes, none starting with a dot; a prefix ends with a slash, a key does not. */
static int parts_valid(const char *key, bool prefix)
{
    size_t n = strlen(key);
    if (n > BLOB_KEY_MAX)
        return 0;
    char before = '/';
    for (size_t i = 0; i < n; before = key[i++])
        if (key[i] == '/' ? before == '/' : !key_char(key[i]) || (key[i] == '.' && before == '/'))
            return 0;
    return prefix ? before == '/' : before != '/';
}

int blob_key_valid(const char *key)
{
    return *key && parts_valid(key, false);
}

static int check_key(const char *key, struct err *e)
{
    return blob_key_valid(key) ? 0 : err_set(e, ERR_INVALID, "not a blob key");
}

static int check_prefix(const char *prefix, struct err *e)
{
    return parts_valid(prefix, true) ? 0 : err_set(e, ERR_INVALID, "not a blob prefix");
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

int64_t blobs_free_bytes(struct blobs *b)
{
    return b->ops->free_bytes(b);
}

int blobs_temp(struct blobs *b, char out[FS_PATH_MAX], struct err *e)
{
    return b->ops->temp(b, out, e);
}

int blob_writer_open(struct blobs *b, const char *key, struct blob_writer **out, struct err *e)
{
    *out = NULL;
    int rc = check_key(key, e);
    return rc ? rc : b->ops->writer_open(b, key, out, e);
}

int blob_write(struct blob_writer *w, const void *data, size_t len, struct err *e)
{
    return len ? w->b->ops->write(w, data, len, e) : 0;
}

int blob_writer_commit(struct blob_writer *w, struct err *e)
{
    return w->b->ops->commit(w, e);
}

void blob_writer_abort(struct blob_writer *w)
{
    if (w)
        w->b->ops->abort(w);
}

int blob_put(struct blobs *b, const char *key, const void *data, size_t len, struct err *e)
{
    struct blob_writer *w;
    int rc = blob_writer_open(b, key, &w, e);
    if (rc)
        return rc;
    rc = blob_write(w, data, len, e);
    if (!rc)
        return blob_writer_commit(w, e);
    blob_writer_abort(w);
    return rc;
}

int blob_put_file(struct blobs *b, const char *key, const char *path, bool move, struct err *e)
{
    int rc = check_key(key, e);
    return rc ? rc : b->ops->put_file(b, key, path, move, e);
}

int blobs_check(struct blobs *b, struct err *e)
{
    static const char key[] = "probe/alive";
    int rc = blob_put(b, key, "1", 1, e);
    return rc ? rc : blob_delete(b, key, e);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

int blob_stat(struct blobs *b, const char *key, struct blob_stat *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    int rc = check_key(key, e);
    return rc ? rc : b->ops->stat(b, key, out, e);
}

int blob_exists(struct blobs *b, const char *key, struct err *e)
{
    struct blob_stat st;
    struct err own = {0};
    e = e ? e : &own;
    int rc = blob_stat(b, key, &st, e);
    if (rc == ERR_NOTFOUND) {
        *e = (struct err){0};
        return 0;
    }
    return rc ? rc : 1;
}

int blob_reader_open(struct blobs *b, const char *key, int64_t offset, int64_t len, struct blob_reader **out,
                     struct err *e)
{
    *out = NULL;
    int rc = check_key(key, e);
    if (!rc && offset < 0)
        rc = err_set(e, ERR_LIMIT, "%s: negative offset", key);
    return rc ? rc : b->ops->reader_open(b, key, offset, len, out, e);
}

int64_t blob_read(struct blob_reader *r, void *out, size_t cap, struct err *e)
{
    return r->b->ops->read(r, out, cap, e);
}

void blob_reader_close(struct blob_reader *r)
{
    if (r)
        r->b->ops->reader_close(r);
}

#define CHUNK (256 * 1024)

static int get_once(struct blobs *b, const char *key, size_t max_bytes, struct buf *out, struct err *e)
{
    struct blob_reader *r;
    int64_t n = blob_reader_open(b, key, 0, -1, &r, e);
    if (n)
        return (int)n;
    size_t begin = out->len;
    do {
        char *p = buf_reserve(out, CHUNK);
        n = p ? blob_read(r, p, CHUNK, e) : err_set(e, ERR_NOMEM, "out of memory for %s", key);
        if (n > 0)
            out->len += (size_t)n;
        if (n > 0 && out->len - begin > max_bytes)
            n = err_set(e, ERR_LIMIT, "%s is larger than %zu bytes", key, max_bytes);
    } while (n > 0);
    blob_reader_close(r);
    if (n < 0)
        out->len = begin;
    if (out->data)
        out->data[out->len] = '\0';
    return (int)n;
}

int blob_get(struct blobs *b, const char *key, size_t max_bytes, struct buf *out, struct err *e)
{
    int rc = ERR_CONFLICT;
    for (int i = 0; i < 5 && rc == ERR_CONFLICT; i++) /* replaced while it was read: read the new one */
        rc = get_once(b, key, max_bytes, out, e);
    return rc;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno != EINTR)
            return -1;
        if (w > 0) {
            p += w;
            n -= (size_t)w;
        }
    }
    return 0;
}

int blob_get_file(struct blobs *b, const char *key, const char *path, struct err *e)
{
    struct blob_reader *r;
    int64_t n = blob_reader_open(b, key, 0, -1, &r, e);
    if (n)
        return (int)n;
    char *chunk = malloc(CHUNK);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    n = !chunk ? err_set(e, ERR_NOMEM, "out of memory for %s", key) : fd < 0 ? err_errno(e, "%s", path) : 1;
    while (n > 0) {
        n = blob_read(r, chunk, CHUNK, e);
        if (n > 0 && write_all(fd, chunk, (size_t)n))
            n = err_errno(e, "%s", path);
    }
    if (fd >= 0 && close(fd) && n == 0)
        n = err_errno(e, "%s", path);
    if (n && fd >= 0)
        unlink(path);
    free(chunk);
    blob_reader_close(r);
    return (int)n;
}

int blob_local_path(struct blobs *b, const char *key, char out[FS_PATH_MAX], struct err *e)
{
    int rc = check_key(key, e);
    return rc ? rc : b->ops->local_path ? b->ops->local_path(b, key, out, e) : 0;
}

int blob_presign(struct blobs *b, const char *key, int ttl_s, struct buf *out, struct err *e)
{
    int rc = check_key(key, e);
    return rc ? rc : b->ops->presign ? b->ops->presign(b, key, ttl_s, out, e) : 0;
}

/* ---- removing, listing ------------------------------------------------------------------------------------------ */

int blob_delete(struct blobs *b, const char *key, struct err *e)
{
    int rc = check_key(key, e);
    return rc ? rc : b->ops->del(b, key, e);
}

int blob_list(struct blobs *b, const char *prefix, blob_list_fn *fn, void *arg, struct err *e)
{
    int rc = check_prefix(prefix, e);
    return rc ? rc : b->ops->list(b, prefix, fn, arg, e);
}

struct delete_walk {
    struct blobs *b;
    int64_t n;
    struct err *e;
};

static int delete_one(void *arg, const char *key, const struct blob_stat *st)
{
    (void)st;
    struct delete_walk *w = arg;
    int rc = w->b->ops->del(w->b, key, w->e);
    w->n += rc == 0;
    return rc;
}

int blob_delete_prefix(struct blobs *b, const char *prefix, int64_t *n, struct err *e)
{
    struct delete_walk w = {.b = b, .e = e};
    int rc =
        *prefix ? blob_list(b, prefix, delete_one, &w, e) : err_set(e, ERR_INVALID, "refusing to delete every blob");
    if (n)
        *n = w.n;
    return rc;
}
