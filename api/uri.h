/* Request targets: percent-decoding, path segments, query parameters (RFC 3986; '+' is a space in queries). */
#ifndef API_URI_H
#define API_URI_H

#include <stddef.h>

#include "api/http.h"

#define URI_SEGMENTS_MAX 16

struct uri_path { /* decoded segments; "/" has one, which is empty */
    char *segment[URI_SEGMENTS_MAX];
    size_t n;
};

/* Splits and decodes req->uri into req->path, req->query and `path`; memory goes to req->mem.
 * ERR_INVALID: not an absolute path, a bad escape, a NUL, too many segments or parameters. */
int uri_parse(struct http_request *req, struct uri_path *path, struct err *e);
/* Decodes in place; plus: '+' means space. Returns the new length or -1 (bad escape, NUL). */
long uri_decode(char *s, int plus);

#endif
