/* Requests and responses as plain data: header lists, bodies and who frees them. No sockets here. */
#include "api/http.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char *const method_names[HTTP_METHOD_COUNT] = {
    [HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",     [HTTP_POST] = "POST",       [HTTP_PUT] = "PUT",
    [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS",
};

const char *http_method_name(enum http_method m)
{
    return m < HTTP_METHOD_COUNT ? method_names[m] : "?";
}

enum http_method http_method_parse(const char *name)
{
    for (int m = 0; m < HTTP_METHOD_COUNT; m++)
        if (strcmp(name, method_names[m]) == 0)
            return (enum http_method)m;
    return HTTP_METHOD_UNKNOWN;
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
#define STATUS(code, text) {code, text},
#include "api/status.def"
#undef STATUS
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Unknown";
}

const char *http_header(const struct http_request *req, const char *name)
{
    return req->ops->header(req, name);
}

const char *http_path_param(const struct http_request *req, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < req->npath_params; i++) /* names point into the route's pattern: "id}/maps" */
        if (strncmp(req->path_param[i].name, name, len) == 0 && req->path_param[i].name[len] == '}')
            return req->path_param[i].value;
    return NULL;
}

const char *http_query(const struct http_request *req, const char *name)
{
    for (size_t i = 0; i < req->nquery; i++)
        if (strcmp(req->query[i].name, name) == 0)
            return req->query[i].value;
    return NULL;
}

void http_wake(struct http_request *req)
{
    req->ops->wake(req);
}

/* A header value never carries a line break, whatever it was made from. */
static void strip_breaks(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = ' ';
}

void http_set_header(struct http_response *resp, const char *name, const char *fmt, ...)
{
    va_list ap;
    char *value = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&value, fmt, ap);
    va_end(ap);
    if (n < 0)
        return; /* out of memory: the response goes out without it */
    strip_breaks(value);
    for (size_t i = 0; i < resp->nheaders; i++)
        if (strcasecmp(resp->header[i].name, name) == 0) {
            free(resp->header[i].value);
            resp->header[i].value = value;
            return;
        }
    BUG_ON(resp->nheaders == HTTP_HEADERS_MAX);
    resp->header[resp->nheaders].name = name;
    resp->header[resp->nheaders++].value = value;
}

const char *http_get_header(const struct http_response *resp, const char *name)
{
    for (size_t i = 0; i < resp->nheaders; i++)
        if (strcasecmp(resp->header[i].name, name) == 0)
            return resp->header[i].value;
    return NULL;
}

static void drop_body(struct http_response *resp)
{
    if (resp->kind == HTTP_BODY_MEMORY)
        free(resp->body.memory.data);
    else if (resp->kind == HTTP_BODY_FILE)
        close(resp->body.file.fd);
    else if (resp->kind == HTTP_BODY_STREAM && resp->body.stream.close)
        resp->body.stream.close(resp->body.stream.arg);
    resp->kind = HTTP_BODY_NONE;
}

static void set_kind(struct http_response *resp, enum http_body_kind kind, const char *content_type)
{
    drop_body(resp);
    resp->kind = kind;
    http_set_header(resp, "Content-Type", "%s", content_type);
}

void http_set_memory(struct http_response *resp, const char *content_type, void *data, size_t len)
{
    set_kind(resp, HTTP_BODY_MEMORY, content_type);
    if (!data && len > 0) {
        resp->status = 503;
        len = 0;
    }
    resp->body.memory.data = data;
    resp->body.memory.len = len;
}

void http_set_static(struct http_response *resp, const char *content_type, const void *data, size_t len)
{
    set_kind(resp, HTTP_BODY_STATIC, content_type);
    resp->body.fixed.data = data;
    resp->body.fixed.len = len;
}

void http_set_file(struct http_response *resp, const char *content_type, int fd, int64_t offset, int64_t len)
{
    set_kind(resp, HTTP_BODY_FILE, content_type);
    resp->body.file.fd = fd;
    resp->body.file.offset = offset;
    resp->body.file.len = len;
}

void http_set_stream(struct http_response *resp, const char *content_type, const struct http_stream *stream)
{
    set_kind(resp, HTTP_BODY_STREAM, content_type);
    resp->body.stream = *stream;
}

int http_set_buf(struct http_response *resp, const char *content_type, struct buf *b, struct err *e)
{
    if (b->failed)
        return err_set(e, ERR_NOMEM, "no memory for the response");
    size_t len = 0;
    char *data = buf_steal(b, &len);
    http_set_memory(resp, content_type, data, len);
    return 0;
}

int64_t http_response_len(const struct http_response *resp)
{
    switch (resp->kind) {
    case HTTP_BODY_NONE:
        return 0;
    case HTTP_BODY_MEMORY:
        return (int64_t)resp->body.memory.len;
    case HTTP_BODY_STATIC:
        return (int64_t)resp->body.fixed.len;
    case HTTP_BODY_FILE:
        return resp->body.file.len;
    case HTTP_BODY_STREAM:
        return resp->body.stream.len;
    }
    return -1;
}

void http_response_reset(struct http_response *resp)
{
    drop_body(resp);
    for (size_t i = 0; i < resp->nheaders; i++)
        free(resp->header[i].value);
    *resp = (struct http_response)HTTP_RESPONSE_INIT;
}
