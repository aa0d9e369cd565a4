/*
 * /v1/session: an API key for the app in a browser, which cannot put a header on pictures and event streams. The cookie
 * holds the key itself: no script can read it, and no other site's page sends it along.
 */
#include <jansson.h>
#include <string.h>

#include "api/access.h"
#include "api/context.h"
#include "api/json.h"
#include "api/problem.h"
#include "api/route.h"

#define COOKIE_RULES "Path=/; HttpOnly; SameSite=Strict"

/* Behind a proxy that ends TLS the cookie must not travel in the clear either. A client that lies here only binds itself. */
static const char *secure(const struct http_request *req)
{
    const char *proto = http_header(req, "X-Forwarded-Proto");
    return proto && strcasecmp(proto, "https") == 0 ? "; Secure" : "";
}

static json_t *session_json(struct access *a, unsigned scopes)
{
    json_t *list = json_array();
    for (int s = SCOPE_READ; s < SCOPE_COUNT; s++)
        if (scopes & 1u << s)
            json_array_append_new(list, json_string(access_scope_name((enum access_scope)s)));
    return json_pack("{s:b, s:o}", "open", access_is_open(a), "scopes", list);
}

/* What this request may do. */
int route_get_session(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct access *a = req->api->access;
    unsigned scopes = 0;
    char secret[API_KEY_SECRET_SIZE];
    if (access_is_open(a))
        scopes = ~0u;
    else if (access_presented(req, secret))
        (void)access_find(a, secret, &scopes, NULL); /* an unknown key may do nothing */
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, 200, session_json(a, scopes), e);
}

int route_create_session(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct access *a = req->api->access;
    unsigned scopes = ~0u;
    char secret[API_KEY_SECRET_SIZE];
    if (!access_is_open(a)) {
        if (!http_header(req, "Authorization") || !access_presented(req, secret) ||
            access_find(a, secret, &scopes, NULL) < 0)
            return access_refuse(req, resp, e);
        http_set_header(resp, "Set-Cookie", ACCESS_COOKIE "=%s; Max-Age=2592000; " COOKIE_RULES "%s", secret,
                        secure(req));
    }
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, 200, session_json(a, scopes), e);
}

int route_delete_session(struct http_request *req, struct http_response *resp, struct err *e)
{
    (void)req, (void)e;
    http_set_header(resp, "Set-Cookie", ACCESS_COOKIE "=; Max-Age=0; " COOKIE_RULES);
    resp->status = 204;
    return 0;
}
