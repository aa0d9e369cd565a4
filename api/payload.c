/* Bodies in memory. Each taker has a media type and a limit; a body over it is refused as soon as that is known. */
#include "api/payload.h"

#include <stdlib.h>
#include <string.h>

#include "api/problem.h"
#include "api/route.h"

struct payload {
    struct body base;
    struct buf bytes;
};

static const struct kind {
    const struct body_ops *ops;
    const char *type;
    size_t max_bytes;
} kinds[] = {
    {&body_document, "application/json", (size_t)16 << 20},
    {&body_json, "application/json", (size_t)64 << 10},
    {&body_mask, "image/png", (size_t)32 << 20},
};

static const struct kind *kind_of(const struct http_request *req)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].ops == req->route->body)
            return &kinds[i];
    BUG_ON(true);
}

static int too_large(const struct kind *k, struct err *e)
{
    return err_set(e, ERR_LIMIT, "the body is larger than %zu bytes", k->max_bytes);
}

static int payload_begin(struct http_request *req, struct http_response *resp, struct err *e)
{
    const struct kind *k = kind_of(req);
    const char *type = http_header(req, "Content-Type");
    if (req->content_length == 0 && !type)
        return 0;
    if (!content_type_is(type, k->type))
        return problem_set(resp, e, 415, "unsupported_media_type", "send %s, not '%.80s'", k->type, type ? type : "");
    if (req->content_length > (int64_t)k->max_bytes)
        return too_large(k, e);
    struct payload *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(e, ERR_NOMEM, "no memory for the body");
    p->base.ops = req->route->body;
    req->body = &p->base;
    return 0;
}

static struct payload *payload_of(const struct http_request *req)
{
    return req->body ? (struct payload *)(void *)req->body : NULL;
}

static int payload_data(struct http_request *req, struct http_response *resp, const char *data, size_t len,
                        struct err *e)
{
    (void)resp;
    const struct kind *k = kind_of(req);
    struct payload *p = payload_of(req);
    if (!p || p->bytes.len + len > k->max_bytes)
        return too_large(k, e);
    buf_append(&p->bytes, data, len);
    return p->bytes.failed ? err_set(e, ERR_NOMEM, "no memory for the body") : 0;
}

static void payload_free(struct body *body)
{
    struct payload *p = (struct payload *)(void *)body;
    buf_free(&p->bytes);
    free(p);
}

#define TAKER(kind)                       \
    const struct body_ops body_##kind = { \
        .name = #kind, .begin = payload_begin, .data = payload_data, .free = payload_free}
TAKER(document);
TAKER(json);
TAKER(mask);

const struct buf *payload_bytes(const struct http_request *req)
{
    static const struct buf none;
    const struct payload *p = payload_of(req);
    return p ? &p->bytes : &none;
}

json_t *payload_object(const struct http_request *req, struct err *e)
{
    const struct buf *b = payload_bytes(req);
    json_error_t je;
    if (b->len == 0)
        return json_object();
    json_t *doc = json_loadb(b->data, b->len, JSON_REJECT_DUPLICATES, &je);
    if (!doc)
        err_set(e, ERR_INVALID, "the body is not JSON: %s (line %d)", je.text, je.line);
    else if (!json_is_object(doc))
        err_set(e, ERR_INVALID, "the body must be a JSON object");
    if (json_is_object(doc))
        return doc;
    json_decref(doc);
    return NULL;
}

int payload_members(const json_t *object, const char *what, const char *const *names, struct err *e)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const char *const *at = names;
        while (*at && strcmp(*at, name) != 0)
            at++;
        if (!*at)
            return err_set(e, ERR_INVALID, "%s has no member '%.60s'", what, name);
    }
    return 0;
}
