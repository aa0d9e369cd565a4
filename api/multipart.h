/*
 * Incremental multipart/form-data (RFC 7578 over RFC 2046): bytes go in as they arrive in pieces of any size, part headers and
 * data come out. Holds at most one header block and one possible boundary, never a part.
 *
 * Malformed (ERR_INVALID): no boundary parameter, a part without a form-data name, headers over MULTIPART_HEADERS_MAX, more than
 * MULTIPART_PARTS_MAX parts, an end without the closing boundary.
 */
#ifndef API_MULTIPART_H
#define API_MULTIPART_H

#include <stddef.h>

#include "core/base/err.h"

#define MULTIPART_HEADERS_MAX 8192
#define MULTIPART_PARTS_MAX 64

struct multipart_part {
    const char *name;         /* never NULL */
    const char *filename;     /* NULL when the part has none */
    const char *content_type; /* NULL when the part has none */
};

struct multipart_handler {
    void *arg;
    /* A negative return ends multipart_feed with it. Strings of `part` are valid during the call. */
    int (*begin)(void *arg, const struct multipart_part *part, struct err *e);
    int (*data)(void *arg, const char *data, size_t len, struct err *e);
    int (*end)(void *arg, struct err *e);
};

struct multipart;

/* content_type: the request's header, for its boundary parameter. */
int multipart_new(const char *content_type, const struct multipart_handler *h, struct multipart **out, struct err *e);
int multipart_feed(struct multipart *m, const char *data, size_t len, struct err *e);
int multipart_finish(struct multipart *m, struct err *e); /* ERR_INVALID when the body ended early */
void multipart_free(struct multipart *m);                 /* NULL is fine */

#endif
