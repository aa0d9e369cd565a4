/*
 * blob_s3: blobs in an S3 bucket. A key is an object below the prefix.
 *
 * Everything moves in parts of PART bytes: a larger blob is written by multipart upload and read by ranged GETs, so that memory stays bounded, every
 * request can be repeated, and an object appears whole or not at all. A reader holds on to the ETag it began with and gives
 * ERR_CONFLICT when the blob is replaced under it.
 *
 * The address and the keys come from the environment, by the names every S3 tool uses. With an endpoint given, buckets are addressed by path.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/store/s3.h"

#define PART ((size_t)8 << 20)
#define READ_PART ((size_t)4 << 20)
#define PARTS_MAX 10000
#define PREFIX_MAX 200 /* S3 takes keys of 1024 bytes */

struct s3_part {
    char etag[BLOB_ETAG_SIZE];
};

struct s3_writer {
    struct blob_writer base;
    char key[BLOB_KEY_MAX + 1];
    struct buf pending;
    char *upload_id; /* once more than a part was written */
    struct s3_part *parts;
    int nparts, cap;
};

struct s3_reader {
    struct blob_reader base;
    char key[BLOB_KEY_MAX + 1], etag[BLOB_ETAG_SIZE];
    int64_t at, end; /* of the blob, still to be fetched */
    struct buf part;
    size_t taken; /* of part */
};

static struct s3 *self(struct blobs *b)
{
    return (struct s3 *)b;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static const char *env(const char *a, const char *b, const char *none)
{
    const char *v = getenv(a);
    if (!v || !*v)
        v = b ? getenv(b) : NULL;
    return v && *v ? v : none;
}

__attribute__((format(printf, 1, 2))) static char *format(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : text;
}

static int copy(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return from && !*to ? ERR_NOMEM : 0;
}

static void s3_close(struct blobs *b)
{
    struct s3 *s = self(b);
    s3_client_fini(s);
    free(s->endpoint);
    free(s->root);
    free(s->prefix);
    free(s->region);
    free(s->access);
    free(s->secret);
    free(s->token);
    free(s->ca_file);
    free(s->temp_dir);
    free(s);
}

static bool bucket_valid(const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '-' ||
              name[i] == '.'))
            return false;
    return n >= 3 && n <= 63 && name[0] != '.' && name[0] != '-';
}

/* "BUCKET/PREFIX" in two; the prefix ends with '/' unless it is empty. */
static int split(struct s3 *s, const char *where, char bucket[64], struct err *e)
{
    size_t n = strcspn(where, "/");
    if (!bucket_valid(where, n))
        return err_set(e, ERR_INVALID, "s3://%s: not a bucket name", where);
    snprintf(bucket, 64, "%.*s", (int)n, where);
    const char *prefix = where[n] ? where + n + 1 : "";
    size_t len = strlen(prefix);
    while (len && prefix[len - 1] == '/')
        len--;
    s->prefix = calloc(1, len + 2);
    if (!s->prefix)
        return err_set(e, ERR_NOMEM, "out of memory for the blobs");
    memcpy(s->prefix, prefix, len);
    if (len && (len > PREFIX_MAX || !blob_key_valid(s->prefix)))
        return err_set(e, ERR_INVALID, "s3://%s: not a prefix", where);
    if (len)
        s->prefix[len] = '/';
    return 0;
}

/* Works out where the bucket is. */
static int locate(struct s3 *s, const char *where, struct err *e)
{
    char bucket[64];
    int rc = split(s, where, bucket, e);
    if (rc)
        return rc;
    const char *endpoint = env("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL);
    if (endpoint) {
        size_t len = strlen(endpoint);
        while (len && endpoint[len - 1] == '/')
            len--;
        s->endpoint = strndup(endpoint, len);
        s->root = format("/%s/", bucket);
    } else {
        s->endpoint = format("https://%s.s3.%s.amazonaws.com", bucket, s->region);
        s->root = strdup("/");
    }
    if (!s->endpoint || !s->root)
        return err_set(e, ERR_NOMEM, "out of memory for the blobs");
    const char *slashes = strstr(s->endpoint, "://");
    if (!slashes || strchr(slashes + 3, '/') ||
        (strncmp(s->endpoint, "http://", 7) != 0 && strncmp(s->endpoint, "https://", 8) != 0))
        return err_set(e, ERR_INVALID, "AWS_ENDPOINT_URL: %s is not http(s)://host[:port]", s->endpoint);
    s->host = slashes + 3;
    return 0;
}

static int credentials(struct s3 *s, const struct blobs_opts *opts, struct err *e)
{
    if (!getenv("AWS_ACCESS_KEY_ID") || !getenv("AWS_SECRET_ACCESS_KEY"))
        return err_set(e, ERR_INVALID, "s3:// needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment");
    int rc = copy(&s->access, getenv("AWS_ACCESS_KEY_ID"));
    rc = rc ? rc : copy(&s->secret, getenv("AWS_SECRET_ACCESS_KEY"));
    rc = rc ? rc : copy(&s->token, env("AWS_SESSION_TOKEN", NULL, NULL));
    rc = rc ? rc : copy(&s->region, env("AWS_REGION", "AWS_DEFAULT_REGION", "us-east-1"));
    rc = rc ? rc : copy(&s->ca_file, env("AWS_CA_BUNDLE", NULL, NULL));
    rc = rc ? rc : copy(&s->temp_dir, opts->temp_dir ? opts->temp_dir : env("TMPDIR", NULL, "/tmp"));
    return rc ? err_set(e, rc, "out of memory for the blobs") : 0;
}

/* A wrong name or key is better found out now. */
static int check_bucket(struct s3 *s, struct err *e)
{
    struct s3_call c = {
        .method = "GET", .query = {{"list-type", "2"}, {"max-keys", "1"}, {"prefix", s->prefix}}, .nquery = 3};
    struct s3_answer a;
    int rc = s3_do(s, &c, &a, e);
    s3_answer_fini(&a);
    return rc;
}

static int s3_open(const char *url, const struct blobs_opts *opts, struct blobs **out, struct err *e)
{
    struct s3 *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, ERR_NOMEM, "out of memory for the blobs");
    s->base.ops = &blob_s3;
    int rc = s3_client_init(s, e);
    if (rc) {
        free(s);
        return rc;
    }
    rc = credentials(s, opts, e);
    if (!rc)
        rc = locate(s, url + strlen(blob_s3.scheme), e);
    if (!rc)
        rc = check_bucket(s, e);
    if (rc)
        s3_close(&s->base);
    else
        *out = &s->base;
    return rc;
}

static int64_t s3_free_bytes(struct blobs *b)
{
    (void)b;
    return -1;
}

static int s3_temp(struct blobs *b, char out[FS_PATH_MAX], struct err *e)
{
    if (snprintf(out, FS_PATH_MAX, "%s/salient-XXXXXX", self(b)->temp_dir) >= FS_PATH_MAX)
        return err_set(e, ERR_LIMIT, "%s: path too long", self(b)->temp_dir);
    int fd = mkostemp(out, O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "%s", out);
    close(fd);
    return 0;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static int put_whole(struct s3 *s, const char *key, const void *data, size_t len, struct err *e)
{
    struct s3_call c = {.method = "PUT", .key = key, .body = data, .body_len = len};
    struct s3_answer a;
    int rc = s3_do(s, &c, &a, e);
    s3_answer_fini(&a);
    return rc;
}

static int s3_writer_open(struct blobs *b, const char *key, struct blob_writer **out, struct err *e)
{
    struct s3_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, ERR_NOMEM, "out of memory for %s", key);
    w->base.b = b;
    snprintf(w->key, sizeof(w->key), "%s", key);
    *out = &w->base;
    return 0;
}

/* The text of the first element `name` in an answer: NULL when there is none. */
static char *element(const struct s3_answer *a, const char *wanted)
{
    struct xml x = {a->body.data, a->body.data ? a->body.data + a->body.len : NULL};
    char name[XML_NAME_MAX];
    struct buf text = BUF_INIT;
    for (enum xml_event ev; (ev = xml_next(&x, name, &text)) != XML_END;)
        if (ev == XML_CLOSE && strcmp(name, wanted) == 0)
            return text.len ? buf_steal(&text, NULL) : (buf_free(&text), NULL);
    buf_free(&text);
    return NULL;
}

static int begin_upload(struct s3_writer *w, struct err *e)
{
    struct s3_call c = {.method = "POST", .key = w->key, .query = {{"uploads", ""}}, .nquery = 1};
    struct s3_answer a;
    int rc = s3_do(self(w->base.b), &c, &a, e);
    if (!rc) {
        w->upload_id = element(&a, "UploadId");
        if (!w->upload_id)
            rc = err_set(e, ERR_NETWORK, "%s: S3 began an upload without an id", w->key);
    }
    s3_answer_fini(&a);
    return rc;
}

/* Room for one more part, or NULL. */
static struct s3_part *next_part(struct s3_writer *w, struct err *e)
{
    if (w->nparts == PARTS_MAX) {
        err_set(e, ERR_LIMIT, "%s: larger than S3 takes", w->key);
        return NULL;
    }
    if (w->nparts == w->cap) {
        int cap = w->cap ? 2 * w->cap : 16;
        struct s3_part *p = realloc(w->parts, (size_t)cap * sizeof(*p));
        if (!p) {
            err_set(e, ERR_NOMEM, "out of memory for %s", w->key);
            return NULL;
        }
        w->parts = p;
        w->cap = cap;
    }
    return &w->parts[w->nparts];
}

static int send_part(struct s3_writer *w, struct err *e)
{
    int rc = w->upload_id ? 0 : begin_upload(w, e);
    if (rc)
        return rc;
    struct s3_part *part = next_part(w, e);
    if (!part)
        return w->nparts == PARTS_MAX ? ERR_LIMIT : ERR_NOMEM;
    char number[16];
    snprintf(number, sizeof(number), "%d", w->nparts + 1);
    struct s3_call c = {.method = "PUT",
                        .key = w->key,
                        .query = {{"partNumber", number}, {"uploadId", w->upload_id}},
                        .nquery = 2,
                        .body = w->pending.data,
                        .body_len = w->pending.len};
    struct s3_answer a;
    rc = s3_do(self(w->base.b), &c, &a, e);
    if (!rc) {
        snprintf(part->etag, sizeof(part->etag), "%s", a.etag);
        w->nparts++;
        buf_reset(&w->pending);
    }
    s3_answer_fini(&a);
    return rc;
}

static int s3_write(struct blob_writer *bw, const void *data, size_t len, struct err *e)
{
    struct s3_writer *w = (struct s3_writer *)bw;
    for (const char *p = data; len > 0;) {
        if (w->pending.len == PART) { /* only now that more follows: the last part is sent by the commit */
            int rc = send_part(w, e);
            if (rc)
                return rc;
        }
        size_t take = PART - w->pending.len < len ? PART - w->pending.len : len;
        buf_append(&w->pending, p, take);
        if (w->pending.failed)
            return err_set(e, ERR_NOMEM, "out of memory for %s", w->key);
        p += take;
        len -= take;
    }
    return 0;
}

static void writer_free(struct s3_writer *w)
{
    buf_free(&w->pending);
    free(w->upload_id);
    free(w->parts);
    free(w);
}

static void s3_abort(struct blob_writer *bw)
{
    struct s3_writer *w = (struct s3_writer *)bw;
    if (w->upload_id) { /* when this fails too, the bucket's lifecycle rule for unfinished uploads cleans up */
        struct s3_call c = {.method = "DELETE", .key = w->key, .query = {{"uploadId", w->upload_id}}, .nquery = 1};
        struct s3_answer a;
        s3_do(self(bw->b), &c, &a, NULL);
        s3_answer_fini(&a);
    }
    writer_free(w);
}

static int complete_upload(struct s3_writer *w, struct err *e)
{
    struct buf xml = BUF_INIT;
    buf_puts(&xml, "<CompleteMultipartUpload>");
    for (int i = 0; i < w->nparts; i++)
        buf_printf(&xml, "<Part><PartNumber>%d</PartNumber><ETag>&quot;%s&quot;</ETag></Part>", i + 1,
                   w->parts[i].etag);
    buf_puts(&xml, "</CompleteMultipartUpload>");
    if (xml.failed) {
        buf_free(&xml);
        return err_set(e, ERR_NOMEM, "out of memory for %s", w->key);
    }
    struct s3_call c = {.method = "POST",
                        .key = w->key,
                        .query = {{"uploadId", w->upload_id}},
                        .nquery = 1,
                        .body = xml.data,
                        .body_len = xml.len};
    struct s3_answer a;
    int rc = s3_do(self(w->base.b), &c, &a, e);
    if (!rc) { /* S3 may find out that it failed after it said 200 */
        char *failed = element(&a, "Code");
        if (failed)
            rc = err_set(e, ERR_NETWORK, "%s: S3 could not complete the upload: %s", w->key, failed);
        free(failed);
    }
    s3_answer_fini(&a);
    buf_free(&xml);
    return rc;
}

static int s3_commit(struct blob_writer *bw, struct err *e)
{
    struct s3_writer *w = (struct s3_writer *)bw;
    int rc = 0;
    if (!w->upload_id)
        rc = put_whole(self(bw->b), w->key, w->pending.data, w->pending.len, e);
    else if (w->pending.len)
        rc = send_part(w, e);
    if (!rc && w->upload_id)
        rc = complete_upload(w, e);
    if (rc)
        s3_abort(bw);
    else
        writer_free(w);
    return rc;
}

static int s3_put_file(struct blobs *b, const char *key, const char *path, bool move, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "%s", path);
    struct stat st;
    struct blob_writer *w = NULL;
    char *chunk = malloc(PART);
    int rc = !chunk                 ? err_set(e, ERR_NOMEM, "out of memory for %s", key)
             : fstat(fd, &st)       ? err_errno(e, "%s", path)
             : !S_ISREG(st.st_mode) ? err_set(e, ERR_INVALID, "%s: not a file", path)
                                    : s3_writer_open(b, key, &w, e);
    for (ssize_t n = 1; w && !rc && n > 0;) {
        n = read(fd, chunk, PART);
        if (n > 0)
            rc = s3_write(w, chunk, (size_t)n, e);
        else if (n < 0)
            rc = err_errno(e, "%s", path);
    }
    if (w && !rc)
        rc = s3_commit(w, e);
    else if (w)
        s3_abort(w);
    if (!rc && move)
        unlink(path);
    free(chunk);
    close(fd);
    return rc;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static int s3_stat(struct blobs *b, const char *key, struct blob_stat *out, struct err *e)
{
    struct s3_call c = {.method = "HEAD", .key = key};
    struct s3_answer a;
    int rc = s3_do(self(b), &c, &a, e);
    if (!rc) {
        out->bytes = a.length > 0 ? a.length : 0;
        out->modified_ms = a.modified_ms;
        snprintf(out->etag, sizeof(out->etag), "%s", a.etag);
    }
    s3_answer_fini(&a);
    return rc;
}

static int s3_reader_open(struct blobs *b, const char *key, int64_t offset, int64_t len, struct blob_reader **out,
                          struct err *e)
{
    struct blob_stat st = {0};
    int rc = s3_stat(b, key, &st, e);
    if (rc)
        return rc;
    if (offset > st.bytes)
        return err_set(e, ERR_LIMIT, "%s: offset %lld is beyond its %lld bytes", key, (long long)offset,
                       (long long)st.bytes);
    struct s3_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, ERR_NOMEM, "out of memory for %s", key);
    r->base.b = b;
    snprintf(r->key, sizeof(r->key), "%s", key);
    snprintf(r->etag, sizeof(r->etag), "%s", st.etag);
    r->at = offset;
    r->end = len >= 0 && len < st.bytes - offset ? offset + len : st.bytes;
    *out = &r->base;
    return 0;
}

static int fetch_part(struct s3_reader *r, struct err *e)
{
    int64_t want = r->end - r->at < (int64_t)READ_PART ? r->end - r->at : (int64_t)READ_PART;
    struct s3_call c = {
        .method = "GET", .key = r->key, .ranged = true, .range_from = r->at, .range_to = r->at + want - 1};
    struct s3_answer a;
    int rc = s3_do(self(r->base.b), &c, &a, e);
    if (!rc && strcmp(a.etag, r->etag) != 0)
        rc = err_set(e, ERR_CONFLICT, "%s was replaced while it was read", r->key);
    if (!rc && (int64_t)a.body.len != want)
        rc = err_set(e, ERR_NETWORK, "%s: S3 sent %zu bytes of %lld", r->key, a.body.len, (long long)want);
    if (!rc) {
        buf_free(&r->part);
        r->part = a.body;
        r->taken = 0;
        r->at += want;
        a.body = (struct buf)BUF_INIT;
    }
    s3_answer_fini(&a);
    return rc;
}

static int64_t s3_read(struct blob_reader *br, void *out, size_t cap, struct err *e)
{
    struct s3_reader *r = (struct s3_reader *)br;
    if (r->taken == r->part.len) {
        if (r->at == r->end || cap == 0)
            return 0;
        int rc = fetch_part(r, e);
        if (rc)
            return rc;
    }
    size_t n = r->part.len - r->taken < cap ? r->part.len - r->taken : cap;
    memcpy(out, r->part.data + r->taken, n);
    r->taken += n;
    return (int64_t)n;
}

static void s3_reader_close(struct blob_reader *br)
{
    struct s3_reader *r = (struct s3_reader *)br;
    buf_free(&r->part);
    free(r);
}

static int s3_presign(struct blobs *b, const char *key, int ttl_s, struct buf *out, struct err *e)
{
    struct s3 *s = self(b);
    char date[SIGV4_DATE_SIZE];
    sigv4_date(clock_wall_ms(), date);
    struct buf path = BUF_INIT;
    s3_path(s, key, &path);
    if (!path.failed) {
        const struct sigv4_pair host = {"host", s->host};
        struct sigv4_key k = {s->access, s->secret, s->region, "s3"};
        struct sigv4_request r = {"GET", path.data, NULL, 0, &host, 1, "UNSIGNED-PAYLOAD", date};
        buf_puts(out, s->endpoint);
        sigv4_encode(out, path.data, 1);
        buf_putc(out, '?');
        sigv4_presign(out, &k, &r, ttl_s, s->token);
    }
    bool failed = path.failed || out->failed;
    buf_free(&path);
    return failed ? err_set(e, ERR_NOMEM, "out of memory for a URL") : 1;
}

/* ---- removing, listing ------------------------------------------------------------------------------------------ */

static int s3_delete(struct blobs *b, const char *key, struct err *e)
{
    struct s3_call c = {.method = "DELETE", .key = key};
    struct s3_answer a;
    struct err own = {0};
    int rc = s3_do(self(b), &c, &a, &own);
    s3_answer_fini(&a);
    return rc == 0 || rc == ERR_NOTFOUND ? 0 : err_set(e, rc, "%s", own.msg);
}

/* "2026-11-22T17:41:47.123Z" to milliseconds, 0 when it is something else. */
static int64_t parse_time(const char *s)
{
    struct tm tm = {0};
    const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
    return rest ? (int64_t)timegm(&tm) * 1000 + (*rest == '.' ? (int64_t)(strtod(rest, NULL) * 1000) : 0) : 0;
}

struct page {
    char *next; /* continuation token */
    struct {
        char *key;
        struct blob_stat st;
    } * items;
    size_t n, cap;
};

static void page_free(struct page *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->items[i].key);
    free(p->items);
    free(p->next);
    *p = (struct page){0};
}

static int page_add(struct page *p, const char *key, const struct blob_stat *st)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 256;
        void *grown = realloc(p->items, cap * sizeof(*p->items));
        if (!grown)
            return -1;
        p->items = grown;
        p->cap = cap;
    }
    char *own = strdup(key);
    if (!own)
        return -1;
    p->items[p->n].key = own;
    p->items[p->n++].st = *st;
    return 0;
}

/* One field of a <Contents>, or the token of the next page. */
static int page_field(struct page *p, const char *name, const char *text, char **key, struct blob_stat *st)
{
    char **keep = strcmp(name, "Key") == 0 ? key : strcmp(name, "NextContinuationToken") == 0 ? &p->next : NULL;
    if (keep) {
        free(*keep);
        *keep = strdup(text);
        return *keep ? 0 : -1;
    }
    if (strcmp(name, "Size") == 0) {
        st->bytes = strtoll(text, NULL, 10);
    } else if (strcmp(name, "LastModified") == 0) {
        st->modified_ms = parse_time(text);
    } else if (strcmp(name, "ETag") == 0) {
        size_t k = 0;
        for (; *text && k < sizeof(st->etag) - 1; text++)
            if (*text != '"')
                st->etag[k++] = *text;
        st->etag[k] = '\0';
    }
    return 0;
}

static int read_page(const struct s3 *s, const struct s3_answer *a, struct page *p)
{
    struct xml x = {a->body.data, a->body.data ? a->body.data + a->body.len : NULL};
    char name[XML_NAME_MAX];
    char *key = NULL;
    struct buf text = BUF_INIT;
    struct blob_stat st = {0};
    size_t plen = strlen(s->prefix);
    int rc = 0;
    for (enum xml_event ev; !rc && (ev = xml_next(&x, name, &text)) != XML_END;) {
        if (ev != XML_CLOSE)
            continue;
        if (strcmp(name, "Contents") == 0) { /* keys that are not ours are passed over */
            if (key && strncmp(key, s->prefix, plen) == 0 && blob_key_valid(key + plen))
                rc = page_add(p, key + plen, &st);
            st = (struct blob_stat){0};
        } else {
            rc = text.failed ? -1 : page_field(p, name, text.data ? text.data : "", &key, &st);
        }
    }
    free(key);
    buf_free(&text);
    return rc;
}

static int fetch_page(struct s3 *s, const char *prefix, struct page *p, struct err *e)
{
    char full[2 * BLOB_KEY_MAX];
    snprintf(full, sizeof(full), "%s%s", s->prefix, prefix);
    char *token = p->next;
    p->next = NULL;
    page_free(p);
    struct s3_call c = {.method = "GET",
                        .query = {{"list-type", "2"}, {"prefix", full}, {"continuation-token", token}},
                        .nquery = token ? 3 : 2};
    struct s3_answer a;
    int rc = s3_do(s, &c, &a, e);
    if (!rc && read_page(s, &a, p))
        rc = err_set(e, ERR_NOMEM, "out of memory for a list of blobs");
    s3_answer_fini(&a);
    free(token);
    return rc;
}

static int s3_list(struct blobs *b, const char *prefix, blob_list_fn *fn, void *arg, struct err *e)
{
    struct page p = {0};
    int rc;
    do {
        rc = fetch_page(self(b), prefix, &p, e);
        for (size_t i = 0; i < p.n && !rc; i++)
            rc = fn(arg, p.items[i].key, &p.items[i].st);
    } while (!rc && p.next);
    page_free(&p);
    return rc;
}

const struct blob_ops blob_s3 = {
    .scheme = "s3://",
    .open = s3_open,
    .close = s3_close,
    .free_bytes = s3_free_bytes,
    .temp = s3_temp,
    .put_file = s3_put_file,
    .writer_open = s3_writer_open,
    .write = s3_write,
    .commit = s3_commit,
    .abort = s3_abort,
    .stat = s3_stat,
    .reader_open = s3_reader_open,
    .read = s3_read,
    .reader_close = s3_reader_close,
    .presign = s3_presign,
    .del = s3_delete,
    .list = s3_list,
};
