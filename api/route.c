/* Route table and matching: a linear scan over a few dozen patterns, segment by segment. */
#include "api/route.h"

#include <string.h>

#include "api/body.h"

const struct route routes[] = {
#define ROUTE(method_, pattern_, operation_, taker, scope_, flags_) \
    {.operation = #operation_,                                      \
     .method = HTTP_##method_,                                      \
     .pattern = (pattern_),                                         \
     .handle = route_##operation_,                                  \
     .body = &body_##taker,                                         \
     .scope = SCOPE_##scope_,                                       \
     .flags = (flags_)},
#include "api/routes.def"
#undef ROUTE
};
const size_t nroutes = sizeof(routes) / sizeof(routes[0]);

const struct route *route_by_operation(const char *operation)
{
    for (size_t i = 0; i < nroutes; i++)
        if (strcmp(routes[i].operation, operation) == 0)
            return &routes[i];
    BUG_ON(true);
}

/* One segment against "literal", "{name}" or "{name}.suffix"; a parameter keeps its value without the suffix. */
static bool match_segment(const char *pat, size_t pat_len, char *segment, struct http_param *param, bool *is_param)
{
    *is_param = false;
    if (pat[0] != '{')
        return strlen(segment) == pat_len && memcmp(segment, pat, pat_len) == 0;
    const char *close = memchr(pat, '}', pat_len);
    BUG_ON(!close);
    const char *suffix = close + 1;
    size_t suffix_len = pat_len - (size_t)(suffix - pat), len = strlen(segment);
    if (len <= suffix_len || memcmp(segment + len - suffix_len, suffix, suffix_len) != 0)
        return false;
    *is_param = true;
    *param = (struct http_param){.name = pat + 1, .value = segment};
    return true;
}

static bool match_pattern(const struct route *r, const struct uri_path *path, struct http_param *params, size_t *n)
{
    const char *pat = r->pattern + 1;
    *n = 0;
    for (size_t i = 0; i < path->n; i++) {
        size_t len = strcspn(pat, "/");
        bool is_param;
        if (!match_segment(pat, len, path->segment[i], &params[*n], &is_param))
            return false;
        *n += is_param;
        pat += len;
        if (*pat == '\0')
            return i + 1 == path->n;
        pat++;
    }
    return false;
}

/* Cuts each value before its segment's suffix. Names stay pointers into the pattern, ended by '}'. */
static void bind_params(struct http_request *req, struct http_param *params, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t suffix_len = strcspn(strchr(params[i].name, '}') + 1, "/");
        char *value = (char *)params[i].value;
        value[strlen(value) - suffix_len] = '\0';
        req->path_param[i] = params[i];
    }
    req->npath_params = n;
}

static void add_allow(struct buf *allow, const char *method)
{
    if (allow->len && strstr(allow->data, method))
        return;
    buf_printf(allow, "%s%s", allow->len ? ", " : "", method);
}

int route_match(struct http_request *req, const struct uri_path *path, struct buf *allow)
{
    enum http_method want = req->method == HTTP_HEAD ? HTTP_GET : req->method;
    const char *pattern = NULL; /* the first that matches; its other rows have its other methods */
    for (size_t i = 0; i < nroutes; i++) {
        const struct route *r = &routes[i];
        struct http_param params[HTTP_PATH_PARAMS_MAX];
        size_t n;
        if ((pattern && strcmp(r->pattern, pattern) != 0) || !match_pattern(r, path, params, &n))
            continue;
        pattern = r->pattern;
        if (r->method == want || (r->method == HTTP_HEAD && req->method == HTTP_HEAD)) {
            req->route = r;
            bind_params(req, params, n);
            return 0;
        }
        add_allow(allow, http_method_name(r->method));
        if (r->method == HTTP_GET)
            add_allow(allow, "HEAD");
    }
    if (allow->len == 0)
        return ERR_NOTFOUND;
    add_allow(allow, "OPTIONS");
    return ERR_UNSUPPORTED;
}
