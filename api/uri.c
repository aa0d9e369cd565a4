/* Request targets. Segments are split before they are decoded, so an escaped slash stays inside its segment. */
#include "api/uri.h"

#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

long uri_decode(char *s, int plus)
{
    char *out = s;
    for (const char *in = s; *in; in++) {
        if (*in == '%') {
            int hi = hex_digit(in[1]);
            int lo = hi < 0 ? -1 : hex_digit(in[2]);
            if (lo < 0 || (hi | lo) == 0)
                return -1;
            *out++ = (char)(hi * 16 + lo);
            in += 2;
        } else {
            *out++ = plus && *in == '+' ? ' ' : *in;
        }
    }
    *out = '\0';
    return (long)(out - s);
}

static int split_path(char *text, struct uri_path *path, struct err *e)
{
    path->n = 0;
    for (char *s = text + 1;;) {
        char *slash = strchr(s, '/');
        if (slash)
            *slash = '\0';
        if (path->n == URI_SEGMENTS_MAX)
            return err_set(e, ERR_INVALID, "the path has more than %d segments", URI_SEGMENTS_MAX);
        if (uri_decode(s, 0) < 0)
            return err_set(e, ERR_INVALID, "bad percent-escape in the path");
        path->segment[path->n++] = s;
        if (!slash)
            return 0;
        s = slash + 1;
    }
}

static int split_query(char *text, struct http_request *req, struct err *e)
{
    char *save = NULL;
    for (char *pair = strtok_r(text, "&", &save); pair; pair = strtok_r(NULL, "&", &save)) {
        if (req->nquery == HTTP_QUERY_MAX)
            return err_set(e, ERR_INVALID, "more than %d query parameters", HTTP_QUERY_MAX);
        char *value = strchr(pair, '=');
        if (value)
            *value++ = '\0';
        else
            value = pair + strlen(pair);
        if (uri_decode(pair, 1) < 0 || uri_decode(value, 1) < 0)
            return err_set(e, ERR_INVALID, "bad percent-escape in the query");
        if (http_query(req, pair))
            return err_set(e, ERR_INVALID, "query parameter '%.40s' is given twice", pair);
        req->query[req->nquery++] = (struct http_param){pair, value};
    }
    return 0;
}

int uri_parse(struct http_request *req, struct uri_path *path, struct err *e)
{
    size_t len = strlen(req->uri);
    if (req->uri[0] != '/')
        return err_set(e, ERR_INVALID, "the request target must start with '/'");
    /* Two copies: one is cut into segments and parameters, one keeps the decoded path whole. */
    req->mem = malloc(2 * (len + 1));
    if (!req->mem)
        return err_set(e, ERR_NOMEM, "no memory for the request target");
    char *cut = req->mem, *whole = req->mem + len + 1;
    memcpy(cut, req->uri, len + 1);
    char *query = strchr(cut, '?');
    if (query)
        *query++ = '\0';
    memcpy(whole, cut, strlen(cut) + 1);
    if (uri_decode(whole, 0) < 0)
        return err_set(e, ERR_INVALID, "bad percent-escape in the path");
    req->path = whole;
    int rc = split_path(cut, path, e);
    return rc == 0 && query ? split_query(query, req, e) : rc;
}
