/* What takes a request's body as it arrives. A route names its taker; state hangs on req->body between the calls. */
#ifndef API_BODY_H
#define API_BODY_H

#include "api/http.h"

struct body { /* first member of a taker's state */
    const struct body_ops *ops;
};

struct body_ops {
    const char *name; /* for the documentation */
    /* Headers are known: refuse early (negative, refining `resp` like a handler) or set up req->body (may stay NULL).
     */
    int (*begin)(struct http_request *req, struct http_response *resp, struct err *e);
    int (*data)(struct http_request *req, struct http_response *resp, const char *data, size_t len, struct err *e);
    /* The body is complete; checks that its framing ended. */
    int (*finish)(struct http_request *req, struct http_response *resp, struct err *e);
    void (*free)(struct body *body);
};

#define BODY(name) extern const struct body_ops body_##name;
#include "api/bodies.def"
#undef BODY

/* The media type without parameters equals `type` ("application/json"); `type` may end in a slash to match a whole
 * family. */
bool content_type_is(const char *header, const char *type);

#endif
