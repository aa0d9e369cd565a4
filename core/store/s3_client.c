/*
 * s3_client: one signed request with libcurl. Bodies and answers are in memory (blob_s3.c works in parts), so every request can be sent again.
 *
 * Tried again: no connection, a broken or stalled one, 429, 5xx. Not tried again: everything that would say the same a second time.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/store/s3.h"

#define TRIES 5
#define FIRST_PAUSE_MS 100
#define ANSWER_MAX (64u << 20) /* larger than any part or list we ask for */
#define STALL_S 20

struct s3_handle {
    CURL *curl;
    struct s3_handle *next;
};

void s3_answer_fini(struct s3_answer *a)
{
    buf_free(&a->body);
}

/* ---- handles ---------------------------------------------------------------------------------------------------- */

static void curl_once(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

int s3_client_init(struct s3 *s, struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, curl_once);
    int rc = pthread_mutex_init(&s->lock, NULL);
    return rc ? err_set(e, ERR_NOMEM, "out of memory for a lock") : 0;
}

void s3_client_fini(struct s3 *s)
{
    while (s->idle) {
        struct s3_handle *h = s->idle;
        s->idle = h->next;
        curl_easy_cleanup(h->curl);
        free(h);
    }
    pthread_mutex_destroy(&s->lock);
}

static struct s3_handle *handle_take(struct s3 *s)
{
    pthread_mutex_lock(&s->lock);
    struct s3_handle *h = s->idle;
    if (h)
        s->idle = h->next;
    pthread_mutex_unlock(&s->lock);
    if (h)
        return h;
    h = calloc(1, sizeof(*h));
    if (h && !(h->curl = curl_easy_init())) {
        free(h);
        h = NULL;
    }
    return h;
}

static void handle_give(struct s3 *s, struct s3_handle *h)
{
    curl_easy_reset(h->curl); /* keeps the connection */
    pthread_mutex_lock(&s->lock);
    h->next = s->idle;
    s->idle = h;
    pthread_mutex_unlock(&s->lock);
}

/* ---- one try ---------------------------------------------------------------------------------------------------- */

struct transfer {
    const struct s3_call *call;
    size_t sent;
    struct s3_answer *answer;
    CURL *curl;
};

static size_t on_send(char *out, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t left = t->call->body_len - t->sent, take = size * n < left ? size * n : left;
    if (take)
        memcpy(out, (const char *)t->call->body + t->sent, take);
    t->sent += take;
    return take;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > t->call->body_len)
        return CURL_SEEKFUNC_FAIL;
    t->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    struct buf *b = &t->answer->body;
    if (b->len + size * n > ANSWER_MAX)
        return 0;
    buf_append(b, data, size * n);
    return b->failed ? 0 : size * n;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    static const char etag[] = "etag:";
    struct transfer *t = arg;
    size_t len = size * n;
    if (len > sizeof(etag) && strncasecmp(line, etag, sizeof(etag) - 1) == 0) {
        const char *p = line + sizeof(etag) - 1, *end = line + len;
        size_t k = 0;
        for (; p < end && k < BLOB_ETAG_SIZE - 1; p++) /* quotes, blanks and "\r\n" drop out */
            if (*p > ' ' && *p != '"')
                t->answer->etag[k++] = *p;
        t->answer->etag[k] = '\0';
    }
    return len;
}

void s3_path(const struct s3 *s, const char *key, struct buf *out)
{
    buf_puts(out, s->root);
    if (key)
        buf_printf(out, "%s%s", s->prefix, key);
    else if (out->len > 1) /* "/bucket" */
        out->data[--out->len] = '\0';
}

static int add_header(struct curl_slist **list, const char *name, const char *value)
{
    struct buf b = BUF_INIT;
    buf_printf(&b, "%s: %s", name, value);
    struct curl_slist *longer = b.failed ? NULL : curl_slist_append(*list, b.data);
    buf_free(&b);
    if (longer)
        *list = longer;
    return longer ? 0 : -1;
}

/* The request's signed headers, and its URL. */
static int sign_call(struct s3 *s, const struct s3_call *c, struct curl_slist **headers, struct buf *url)
{
    char date[SIGV4_DATE_SIZE], sha[SHA256_HEX_SIZE] = SIGV4_EMPTY_SHA256;
    sigv4_date(clock_wall_ms(), date);
    if (c->body_len)
        sha256_hex(c->body, c->body_len, sha);
    const struct sigv4_pair signs[] = {
        {"host", s->host}, {"x-amz-content-sha256", sha}, {"x-amz-date", date}, {"x-amz-security-token", s->token}};
    size_t nsigns = s->token ? 4 : 3;
    struct buf path = BUF_INIT, query = BUF_INIT, authorization = BUF_INIT;
    s3_path(s, c->key, &path);
    sigv4_query(&query, c->query, c->nquery);
    int rc = path.failed || query.failed ? -1 : 0;
    if (!rc) {
        struct sigv4_key key = {s->access, s->secret, s->region, "s3"};
        struct sigv4_request r = {c->method, path.data, c->query, c->nquery, signs, nsigns, sha, date};
        sigv4_authorize(&authorization, &key, &r);
        buf_puts(url, s->endpoint);
        sigv4_encode(url, path.data, 1);
        if (query.len)
            buf_printf(url, "?%s", query.data);
        rc = authorization.failed || url->failed ? -1 : add_header(headers, "Authorization", authorization.data);
    }
    for (size_t i = 0; i < nsigns && !rc; i++)
        rc = add_header(headers, signs[i].name, signs[i].value);
    if (!rc) /* no round trip before a body, and no type that was not signed */
        rc = add_header(headers, "Expect", "") || add_header(headers, "Content-Type", "application/octet-stream");
    buf_free(&path);
    buf_free(&query);
    buf_free(&authorization);
    return rc;
}

static void set_method(CURL *h, const struct s3_call *c, struct transfer *t)
{
    if (strcmp(c->method, "HEAD") == 0) {
        curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    } else if (strcmp(c->method, "PUT") == 0 || strcmp(c->method, "POST") == 0) {
        curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body_len);
        curl_easy_setopt(h, CURLOPT_READFUNCTION, on_send);
        curl_easy_setopt(h, CURLOPT_READDATA, t);
        curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(h, CURLOPT_SEEKDATA, t);
    }
    if (strcmp(c->method, "GET") != 0 && strcmp(c->method, "HEAD") != 0)
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, c->method);
}

static void set_options(CURL *h, const struct s3 *s, struct transfer *t)
{
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 5L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1000L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(h, CURLOPT_FILETIME, 1L);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, t);
    if (s->ca_file)
        curl_easy_setopt(h, CURLOPT_CAINFO, s->ca_file);
}

static void read_answer(CURL *h, struct s3_answer *a)
{
    long status = 0;
    curl_off_t length = -1, modified = -1;
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(h, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(h, CURLINFO_FILETIME_T, &modified);
    a->status = (int)status;
    a->length = length;
    a->modified_ms = modified > 0 ? modified * INT64_C(1000) : 0;
}

/* CURLE_OK with *a filled in, whatever the status. */
static CURLcode try_once(struct s3 *s, const struct s3_call *c, struct s3_answer *a)
{
    struct s3_handle *h = handle_take(s);
    if (!h)
        return CURLE_OUT_OF_MEMORY;
    struct transfer t = {.call = c, .answer = a, .curl = h->curl};
    struct curl_slist *headers = NULL;
    struct buf url = BUF_INIT;
    CURLcode rc = CURLE_OUT_OF_MEMORY;
    buf_reset(&a->body);
    a->status = 0;
    if (sign_call(s, c, &headers, &url) == 0) {
        char range[64];
        set_options(h->curl, s, &t);
        set_method(h->curl, c, &t);
        curl_easy_setopt(h->curl, CURLOPT_URL, url.data);
        curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, headers);
        if (c->ranged) {
            snprintf(range, sizeof(range), "%lld-%lld", (long long)c->range_from, (long long)c->range_to);
            curl_easy_setopt(h->curl, CURLOPT_RANGE, range);
        }
        rc = curl_easy_perform(h->curl);
        if (rc == CURLE_OK)
            read_answer(h->curl, a);
    }
    curl_slist_free_all(headers);
    buf_free(&url);
    handle_give(s, h);
    return a->body.failed ? CURLE_OUT_OF_MEMORY : rc;
}

/* ---- errors and retries ----------------------------------------------------------------------------------------- */

/* S3's own code and message out of an error document. */
static void error_document(const struct s3_answer *a, struct buf *code, struct buf *message)
{
    struct xml x = {a->body.data, a->body.data ? a->body.data + a->body.len : NULL};
    char name[XML_NAME_MAX];
    struct buf text = BUF_INIT;
    for (enum xml_event ev; (ev = xml_next(&x, name, &text)) != XML_END;)
        if (ev == XML_CLOSE && text.data) {
            if (strcmp(name, "Code") == 0 && !code->len)
                buf_puts(code, text.data);
            else if (strcmp(name, "Message") == 0 && !message->len)
                buf_puts(message, text.data);
        }
    buf_free(&text);
}

static int status_code(int status, const char *code)
{
    if (status == 507 || strstr(code, "StorageFull") || strstr(code, "QuotaExceeded") ||
        strstr(code, "InsufficientStorage"))
        return ERR_FULL;
    switch (status) {
    case 404:
        return ERR_NOTFOUND;
    case 412:
        return ERR_CONFLICT;
    case 413:
    case 416:
        return ERR_LIMIT;
    case 429:
        return ERR_BUSY;
    default:
        return status >= 500 ? ERR_NETWORK : ERR_IO;
    }
}

static int status_err(const struct s3_call *c, const struct s3_answer *a, struct err *e)
{
    struct buf code = BUF_INIT, message = BUF_INIT;
    error_document(a, &code, &message);
    const char *name = code.data ? code.data : "";
    int rc = err_set(e, status_code(a->status, name), "%s %s: S3 answered %d %s %.300s", c->method,
                     c->key ? c->key : "the bucket", a->status, name, message.data ? message.data : "");
    buf_free(&code);
    buf_free(&message);
    return rc;
}

static bool may_pass(CURLcode rc, int status)
{
    switch (rc) {
    case CURLE_OK:
        return status == 429 || (status >= 500 && status != 501 && status != 507);
    case CURLE_OUT_OF_MEMORY:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WRITE_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
        return false;
    default:
        return true;
    }
}

int s3_do(struct s3 *s, const struct s3_call *c, struct s3_answer *a, struct err *e)
{
    *a = (struct s3_answer){0};
    CURLcode rc = CURLE_OK;
    for (int i = 0; i < TRIES; i++) {
        if (i)
            clock_sleep_ms(FIRST_PAUSE_MS << (i - 1));
        rc = try_once(s, c, a);
        if (rc == CURLE_OK && a->status >= 200 && a->status < 300)
            return 0;
        if (!may_pass(rc, a->status))
            break;
    }
    if (rc == CURLE_OK)
        return status_err(c, a, e);
    int code = rc == CURLE_OUT_OF_MEMORY ? ERR_NOMEM : rc == CURLE_WRITE_ERROR ? ERR_LIMIT : ERR_NETWORK;
    return err_set(e, code, "%s %s: S3 at %s: %s", c->method, c->key ? c->key : "the bucket", s->endpoint,
                   curl_easy_strerror(rc));
}
