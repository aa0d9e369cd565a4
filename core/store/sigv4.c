/*
 * sigv4: canonical request -> string to sign -> signature, as the specification's three tasks. (libcurl 7.88 has a signer, but it neither sorts nor
 * encodes queries the way S3 wants.) Failed allocations stick in the buffers.
 */
#include "core/store/sigv4.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/hash.h"

#define ALGORITHM "AWS4-HMAC-SHA256"

void sigv4_date(int64_t wall_ms, char out[SIGV4_DATE_SIZE])
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, SIGV4_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm);
}

void sigv4_encode(struct buf *out, const char *s, int keep_slash)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c) ||
            (c == '/' && keep_slash))
            buf_putc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void sigv4_query(struct buf *out, const struct sigv4_pair *query, size_t n)
{
    BUG_ON(n > SIGV4_PAIRS_MAX);
    char *parts[SIGV4_PAIRS_MAX];
    for (size_t i = 0; i < n; i++) {
        struct buf b = BUF_INIT;
        sigv4_encode(&b, query[i].name, 0);
        buf_putc(&b, '=');
        sigv4_encode(&b, query[i].value, 0);
        parts[i] = buf_steal(&b, NULL);
        if (!parts[i])
            out->failed = true;
    }
    if (!out->failed && n) {
        /* '=' sorts after no character of a name of ours, so whole pairs sort as the names do. */
        qsort(parts, n, sizeof(*parts), by_text);
        for (size_t i = 0; i < n; i++)
            buf_printf(out, "%s%s", i ? "&" : "", parts[i]);
    }
    for (size_t i = 0; i < n; i++)
        free(parts[i]);
}

/* The headers sorted by name: indices into r->headers. */
static void sorted_headers(const struct sigv4_request *r, size_t order[SIGV4_PAIRS_MAX])
{
    BUG_ON(r->nheaders > SIGV4_PAIRS_MAX);
    for (size_t i = 0; i < r->nheaders; i++) {
        size_t k = i;
        for (; k > 0 && strcmp(r->headers[order[k - 1]].name, r->headers[i].name) > 0; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
}

static void signed_names(struct buf *out, const struct sigv4_request *r)
{
    size_t order[SIGV4_PAIRS_MAX];
    sorted_headers(r, order);
    for (size_t i = 0; i < r->nheaders; i++)
        buf_printf(out, "%s%s", i ? ";" : "", r->headers[order[i]].name);
}

static void canonical_request(struct buf *out, const struct sigv4_request *r, const char *query)
{
    size_t order[SIGV4_PAIRS_MAX];
    sorted_headers(r, order);
    buf_printf(out, "%s\n", r->method);
    sigv4_encode(out, r->path, 1);
    buf_printf(out, "\n%s\n", query);
    for (size_t i = 0; i < r->nheaders; i++)
        buf_printf(out, "%s:%s\n", r->headers[order[i]].name, r->headers[order[i]].value);
    buf_putc(out, '\n');
    signed_names(out, r);
    buf_printf(out, "\n%s", r->payload_sha256);
}

static void scope(struct buf *out, const struct sigv4_key *key, const char *date)
{
    buf_printf(out, "%.8s/%s/%s/aws4_request", date, key->region, key->service);
}

static void hmac_text(const unsigned char key[32], const char *text, unsigned char out[32])
{
    hmac_sha256(key, 32, text, strlen(text), out);
}

/* The signature in hex. */
static void sign(struct buf *out, const struct sigv4_key *key, const struct sigv4_request *r, const char *query)
{
    struct buf canonical = BUF_INIT, text = BUF_INIT, secret = BUF_INIT;
    char hash[SHA256_HEX_SIZE], day[9] = "";
    unsigned char k[32];
    canonical_request(&canonical, r, query);
    buf_printf(&secret, "AWS4%s", key->secret);
    if (!canonical.failed && !secret.failed) {
        sha256_hex(canonical.data, canonical.len, hash);
        buf_printf(&text, "%s\n%s\n", ALGORITHM, r->date);
        scope(&text, key, r->date);
        buf_printf(&text, "\n%s", hash);
        memcpy(day, r->date, 8);
        hmac_sha256(secret.data, secret.len, day, 8, k);
        hmac_text(k, key->region, k);
        hmac_text(k, key->service, k);
        hmac_text(k, "aws4_request", k);
    }
    if (canonical.failed || secret.failed || text.failed) {
        out->failed = true;
    } else {
        hmac_text(k, text.data, k);
        for (size_t i = 0; i < sizeof(k); i++)
            buf_printf(out, "%02x", k[i]);
    }
    buf_free(&canonical);
    buf_free(&text);
    buf_free(&secret);
}

void sigv4_authorize(struct buf *out, const struct sigv4_key *key, const struct sigv4_request *r)
{
    struct buf query = BUF_INIT;
    sigv4_query(&query, r->query, r->nquery);
    buf_printf(out, "%s Credential=%s/", ALGORITHM, key->access);
    scope(out, key, r->date);
    buf_puts(out, ",SignedHeaders=");
    signed_names(out, r);
    buf_puts(out, ",Signature=");
    if (query.failed)
        out->failed = true;
    else
        sign(out, key, r, query.data ? query.data : "");
    buf_free(&query);
}

void sigv4_presign(struct buf *out, const struct sigv4_key *key, const struct sigv4_request *r, int ttl_s,
                   const char *token)
{
    struct buf credential = BUF_INIT, names = BUF_INIT, ttl = BUF_INIT, query = BUF_INIT;
    buf_printf(&credential, "%s/", key->access);
    scope(&credential, key, r->date);
    signed_names(&names, r);
    buf_printf(&ttl, "%d", ttl_s);
    if (credential.failed || names.failed || ttl.failed) {
        out->failed = true;
    } else {
        const struct sigv4_pair pairs[] = {
            {"X-Amz-Algorithm", ALGORITHM},
            {"X-Amz-Credential", credential.data},
            {"X-Amz-Date", r->date},
            {"X-Amz-Expires", ttl.data},
            {"X-Amz-SignedHeaders", names.data},
            {"X-Amz-Security-Token", token ? token : ""},
        };
        sigv4_query(&query, pairs, token ? 6 : 5);
        if (query.failed) {
            out->failed = true;
        } else {
            buf_printf(out, "%s&X-Amz-Signature=", query.data);
            sign(out, key, r, query.data);
        }
    }
    buf_free(&credential);
    buf_free(&names);
    buf_free(&ttl);
    buf_free(&query);
}
