/* Content negotiation, preferences, conditional and range requests. */
#include "api/negotiate.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "api/problem.h"

/* How well one media range ("image/png;q=0.5") fits: its quality in thousandths, or -1; *specific: 2 exact, 1 family, 0 anything. */
static int range_quality(const char *item, size_t len, const char *offer, int *specific)
{
    size_t type_len = 0;
    while (type_len < len && !strchr("; \t", item[type_len]))
        type_len++;
    size_t family = strcspn(offer, "/") + 1;
    if (type_len == strlen(offer) && strncasecmp(item, offer, type_len) == 0)
        *specific = 2;
    else if (type_len == family + 1 && strncasecmp(item, offer, family) == 0 && item[family] == '*')
        *specific = 1;
    else if (type_len == 3 && memcmp(item, "*/*", 3) == 0)
        *specific = 0;
    else
        return -1;
    for (size_t i = type_len; i + 2 < len; i++)
        if (item[i] == ';') {
            size_t k = i + 1;
            while (k < len && (item[k] == ' ' || item[k] == '\t'))
                k++;
            if (k + 1 < len && (item[k] | 32) == 'q' && item[k + 1] == '=')
                return (int)(strtod(item + k + 2, NULL) * 1000 + 0.5);
        }
    return 1000;
}

/* The most specific range that matches decides. */
static int offer_quality(const char *accept, const char *offer)
{
    int best = -1, quality = 0;
    for (const char *s = accept; *s;) {
        s += strspn(s, ", \t");
        size_t len = strcspn(s, ",");
        int specific = -1, q = range_quality(s, len, offer, &specific);
        if (q >= 0 && specific > best) {
            best = specific;
            quality = q;
        }
        s += len;
    }
    return quality;
}

int negotiate_accept(const char *accept, const char *const *offers, size_t n)
{
    int best = -1, quality = 0;
    for (size_t i = 0; i < n; i++) {
        int q = accept && *accept ? offer_quality(accept, offers[i]) : 1000;
        if (q > quality) {
            quality = q;
            best = (int)i;
        }
    }
    return best;
}

/* Finds the preference; *value points behind "name=" or is NULL. */
static bool find_preference(const char *prefer, const char *name, const char **value)
{
    size_t n = strlen(name);
    *value = NULL;
    for (const char *s = prefer; s && *s;) {
        s += strspn(s, ", \t");
        if (strncasecmp(s, name, n) == 0 && (s[n] == '\0' || strchr("=,; \t", s[n]))) {
            const char *eq = s + n + strspn(s + n, " \t");
            if (*eq == '=')
                *value = eq + 1 + strspn(eq + 1, " \t\"");
            return true;
        }
        s += strcspn(s, ",");
    }
    return false;
}

int negotiate_wait(const char *prefer)
{
    const char *value;
    if (!find_preference(prefer, "wait", &value) || !value || !isdigit((unsigned char)*value))
        return 0;
    long s = strtol(value, NULL, 10);
    return s > 60 ? 60 : (int)s;
}

bool negotiate_async(const char *prefer)
{
    const char *value;
    return find_preference(prefer, "respond-async", &value);
}

bool negotiate_etag_in(const char *list, const char *etag, bool weak)
{
    size_t n = strlen(etag);
    for (const char *s = list; *s;) {
        s += strspn(s, ", \t");
        if (*s == '*')
            return true;
        bool is_weak = s[0] == 'W' && s[1] == '/';
        if (is_weak)
            s += 2;
        if (*s != '"')
            return false;
        s++;
        const char *close = strchr(s, '"');
        if (!close)
            return false;
        if ((size_t)(close - s) == n && memcmp(s, etag, n) == 0 && (weak || !is_weak))
            return true;
        s = close + 1;
    }
    return false;
}

int negotiate_write(const struct http_request *req, struct http_response *resp, const char *etag, struct err *e)
{
    const char *match = http_header(req, "If-Match"), *none = http_header(req, "If-None-Match");
    bool stale = match && !(etag && negotiate_etag_in(match, etag, false));
    bool taken = none && etag && negotiate_etag_in(none, etag, true);
    if (etag)
        http_set_header(resp, "ETag", "\"%s\"", etag);
    if (!stale && !taken)
        return 0;
    return problem_set(resp, e, 412, "precondition_failed",
                       !etag   ? "there is nothing to match: it was removed, or never made"
                       : taken ? "it is there already, with the ETag of this answer"
                               : "it was changed since; the ETag of this answer is its current one");
}

static void http_date(int64_t ms, char *out, size_t size)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

static int64_t parse_date_s(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    return end && *end == '\0' ? (int64_t)timegm(&tm) : -1;
}

static bool parse_number(const char **s, int64_t *out)
{
    if (!isdigit((unsigned char)**s))
        return false;
    int64_t v = 0;
    for (; isdigit((unsigned char)**s); (*s)++)
        v = v > INT64_MAX / 10 - 1 ? INT64_MAX / 10 - 1 : v * 10 + (**s - '0');
    *out = v;
    return true;
}

/* 1: one satisfiable range; 0: ignore the header (other unit, malformed, several); -1: not satisfiable. */
static int parse_range(const char *s, int64_t total, int64_t *offset, int64_t *len)
{
    int64_t first = 0, last = total - 1;
    if (strncasecmp(s, "bytes=", 6) != 0)
        return 0;
    s += 6;
    s += strspn(s, " \t");
    if (*s == '-') {
        int64_t suffix;
        s++;
        if (!parse_number(&s, &suffix) || *s)
            return 0;
        if (suffix == 0 || total == 0)
            return -1;
        first = suffix < total ? total - suffix : 0;
    } else {
        if (!parse_number(&s, &first) || *s++ != '-')
            return 0;
        if (*s && (!parse_number(&s, &last) || *s || last < first))
            return 0;
        if (first >= total)
            return -1;
        last = last < total ? last : total - 1;
    }
    *offset = first;
    *len = last - first + 1;
    return 1;
}

/* If-Range holds when it names the current representation: a strong tag, or exactly our date. */
static bool if_range_holds(const struct http_request *req, const char *etag, int64_t modified_ms)
{
    const char *value = http_header(req, "If-Range");
    if (!value)
        return true;
    if (*value == '"' || *value == 'W')
        return negotiate_etag_in(value, etag, false) && *value != '*';
    return parse_date_s(value) == modified_ms / 1000;
}

static bool not_modified(const struct http_request *req, const char *etag, int64_t modified_ms)
{
    const char *none = http_header(req, "If-None-Match");
    if (none)
        return negotiate_etag_in(none, etag, true);
    const char *since = http_header(req, "If-Modified-Since");
    return since && modified_ms / 1000 <= parse_date_s(since);
}

int negotiate_range(const struct http_request *req, struct http_response *resp, const char *etag, int64_t modified_ms,
                    int64_t total, int64_t *offset, int64_t *len, struct err *e)
{
    char date[40];
    http_date(modified_ms, date, sizeof(date));
    http_set_header(resp, "ETag", "\"%s\"", etag);
    http_set_header(resp, "Last-Modified", "%s", date);
    http_set_header(resp, "Accept-Ranges", "bytes");
    *offset = 0;
    *len = total;
    const char *match = http_header(req, "If-Match"), *range = http_header(req, "Range");
    if (match && !negotiate_etag_in(match, etag, false))
        return problem_set(resp, e, 412, "precondition_failed", "the resource is not the one that If-Match names");
    resp->status = not_modified(req, etag, modified_ms) ? 304 : 200;
    if (resp->status == 304 || !range || req->method == HTTP_HEAD || !if_range_holds(req, etag, modified_ms))
        return 0;
    int rc = parse_range(range, total, offset, len);
    if (rc < 0) {
        resp->status = 0;
        http_set_header(resp, "Content-Range", "bytes */%lld", (long long)total);
        return problem_set(resp, e, 416, "range_not_satisfiable", "the resource has %lld bytes", (long long)total);
    }
    if (rc > 0) {
        resp->status = 206;
        http_set_header(resp, "Content-Range", "bytes %lld-%lld/%lld", (long long)*offset,
                        (long long)(*offset + *len - 1), (long long)total);
    }
    return 0;
}
