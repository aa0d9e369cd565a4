/*
 * One HTTP exchange as the api layer sees it. server/ owns sockets and threads and fills these structs; api/ gives them
 * meaning.
 *
 * Life of a request (calls for one request never overlap):
 *   api_begin   headers are known; may already answer (early refusal)
 *   api_data    zero or more times, as the body arrives; nothing of it is kept in memory
 *   api_run     the body is complete; makes the response, or returns HTTP_LATER after arranging a http_wake
 *   (the server sends the response, calling stream.read when the body is a stream)
 *   api_end     always, exactly once, also when the client went away at any point above
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/buf.h"
#include "core/base/err.h"

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_METHOD_COUNT,
    HTTP_METHOD_UNKNOWN = HTTP_METHOD_COUNT
};
const char *http_method_name(enum http_method m); /* "GET"; "?" when unknown */
enum http_method http_method_parse(const char *name);

#define HTTP_LATER 1 /* of a handler: not ready; run me again when http_wake is called */

struct http_request;

/* What the server does for a request. */
struct http_conn_ops {
    const char *(*header)(const struct http_request *req, const char *name); /* NULL when absent; valid until api_end */
    /* Thread-safe. Runs a handler that returned HTTP_LATER again, or lets a stream that returned HTTP_STREAM_WAIT be
     * read again. A wake that comes early is remembered, so none is lost. */
    void (*wake)(struct http_request *req);
};

#define HTTP_REQUEST_ID_SIZE 65
#define HTTP_TRACEPARENT_SIZE 56
#define HTTP_PATH_PARAMS_MAX 4
#define HTTP_QUERY_MAX 32

struct http_param { /* decoded; both strings belong to the request */
    const char *name, *value;
};

struct route;
struct body;

struct http_request {
    /* Filled by the server before api_begin. */
    const struct http_conn_ops *ops;
    enum http_method method;
    const char *uri;        /* as on the request line, undecoded */
    const char *peer;       /* numeric address of the client */
    int64_t content_length; /* declared; 0 without a body, -1 unknown (chunked) */
    bool loopback;          /* the client is this machine */

    /* Filled by api_begin. */
    char id[HTTP_REQUEST_ID_SIZE];
    char traceparent[HTTP_TRACEPARENT_SIZE]; /* "" when none */
    const struct route *route;               /* NULL: none matched */
    char *path;                              /* decoded path */
    struct http_param path_param[HTTP_PATH_PARAMS_MAX], query[HTTP_QUERY_MAX];
    size_t npath_params, nquery;
    char *mem; /* holds the decoded strings */
    struct body *body;
    struct api *api;
    int64_t body_bytes;   /* received so far */
    int64_t start_us;     /* monotonic */
    char *tenant, *actor; /* of the API key; NULL without one */

    /* For a handler that returned HTTP_LATER. */
    void *later;
    void (*later_free)(void *later);
};

const char *http_header(const struct http_request *req, const char *name);
/* Value of a path or query parameter; NULL when absent. */
const char *http_path_param(const struct http_request *req, const char *name);
const char *http_query(const struct http_request *req, const char *name);
void http_wake(struct http_request *req);

/* ---- responses */

#define HTTP_STREAM_END (-1)
#define HTTP_STREAM_WAIT (-2)   /* nothing now; read again after http_wake */
#define HTTP_STREAM_BROKEN (-3) /* cannot go on: the connection is cut so that the client notices */

struct http_stream {
    void *arg;
    int64_t len; /* -1: unknown, sent chunked */
    /* Up to cap bytes of the body from position pos (positions only grow); > 0, or one of HTTP_STREAM_*. */
    ssize_t (*read)(void *arg, int64_t pos, char *out, size_t cap);
    void (*close)(void *arg);
};

enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_MEMORY, HTTP_BODY_STATIC, HTTP_BODY_FILE, HTTP_BODY_STREAM };

#define HTTP_HEADERS_MAX 24
struct http_response {
    int status; /* 0: not made yet */
    struct {
        const char *name; /* literal */
        char *value;
    } header[HTTP_HEADERS_MAX];
    size_t nheaders;
    const char
        *problem; /* a handler that fails may set these two: problem code and status instead of the error's own */
    int problem_status;
    int retry_after_s; /* > 0: Retry-After on a problem */
    enum http_body_kind kind;
    union {
        struct {
            void *data; /* malloc'd, the response's */
            size_t len;
        } memory;
        struct {
            const void *data;
            size_t len;
        } fixed; /* lives as long as the process */
        struct {
            int fd; /* the response's */
            int64_t offset, len;
        } file;
        struct http_stream stream;
    } body;
};

#define HTTP_RESPONSE_INIT \
    {                      \
        0                  \
    }

void http_set_header(struct http_response *resp, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
const char *http_get_header(const struct http_response *resp, const char *name);
/* Takes data (free()). NULL data with len > 0 becomes status 503. */
void http_set_memory(struct http_response *resp, const char *content_type, void *data, size_t len);
void http_set_static(struct http_response *resp, const char *content_type, const void *data, size_t len);
void http_set_file(struct http_response *resp, const char *content_type, int fd, int64_t offset, int64_t len);
void http_set_stream(struct http_response *resp, const char *content_type, const struct http_stream *stream);
/* Empties the buffer into the body; out of memory becomes an error. */
int http_set_buf(struct http_response *resp, const char *content_type, struct buf *b, struct err *e);
int64_t http_response_len(const struct http_response *resp); /* -1 unknown */
/* Frees what the response holds and makes it empty. */
void http_response_reset(struct http_response *resp);
const char *http_status_text(int status);

#endif
