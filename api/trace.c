/* Request ids and W3C trace context: one name for a request in answers, logs, jobs and webhooks. */
#include "api/trace.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/base/hash.h"
#include "core/base/log.h"

static bool request_id_sane(const char *s)
{
    size_t n = strlen(s);
    return n > 0 && n < HTTP_REQUEST_ID_SIZE &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") == n;
}

static bool lower_hex(const char *s, size_t n, bool *any)
{
    *any = false;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)s[i]) && !(s[i] >= 'a' && s[i] <= 'f'))
            return false;
        *any |= s[i] != '0';
    }
    return true;
}

bool traceparent_valid(const char *s)
{
    bool trace, parent, flags;
    if (strlen(s) != HTTP_TRACEPARENT_SIZE - 1 || strncmp(s, "00-", 3) != 0 || s[35] != '-' || s[52] != '-')
        return false;
    return lower_hex(s + 3, 32, &trace) && trace && lower_hex(s + 36, 16, &parent) && parent &&
           lower_hex(s + 53, 2, &flags);
}

static void hex_random(char *out, size_t bytes)
{
    unsigned char raw[16];
    BUG_ON(bytes > sizeof(raw));
    random_bytes(raw, bytes);
    for (size_t i = 0; i < bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

/* Keeps the caller's trace and flags, with our own span as the parent of what follows; a new root without one. */
static void make_traceparent(struct http_request *req)
{
    const char *given = http_header(req, "traceparent");
    char trace[33], span[17];
    const char *flags = "01";
    if (given && traceparent_valid(given)) {
        memcpy(trace, given + 3, 32);
        trace[32] = '\0';
        flags = given + 53;
    } else {
        hex_random(trace, 16);
    }
    hex_random(span, 8);
    snprintf(req->traceparent, sizeof(req->traceparent), "00-%s-%s-%.2s", trace, span, flags);
}

void trace_enter(const struct http_request *req)
{
    log_context("request_id", req ? req->id : NULL);
    log_context("traceparent", req ? req->traceparent : NULL);
}

void trace_begin(struct http_request *req, struct http_response *resp)
{
    const char *given = http_header(req, "X-Request-Id");
    if (given && request_id_sane(given))
        snprintf(req->id, sizeof(req->id), "%s", given);
    else
        id_new(req->id);
    make_traceparent(req);
    http_set_header(resp, "X-Content-Type-Options", "nosniff");
    http_set_header(resp, "X-Request-Id", "%s", req->id);
    http_set_header(resp, "traceparent", "%s", req->traceparent);
    trace_enter(req);
}
