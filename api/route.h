/* The route table (routes.def) and matching. Unmatched paths, methods and the Allow header all come from that one
 * table. */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "api/http.h"
#include "api/uri.h"
#include "core/store/access.h"

/* Answers a request whose body is complete. 0: resp is made. HTTP_LATER. Or a negative ERR_* with `e` filled, which
 * becomes a problem+json answer (resp->problem and resp->problem_status may refine it). */
typedef int route_fn(struct http_request *req, struct http_response *resp, struct err *e);

struct body_ops; /* api/body.h */

enum route_flags {
    ROUTE_INLINE = 1, /* never touches disk, database or other processes: runs on the connection's own thread */
    ROUTE_HIDDEN = 2, /* not part of the documented contract (the app's files) */
    ROUTE_SLOW = 4,   /* decodes or evaluates what a client brought: however long that takes, others are not held up */
};

struct route {
    const char *operation; /* operationId */
    enum http_method method;
    const char *pattern; /* segments: literal, {name}, or {name}.suffix */
    route_fn *handle;
    const struct body_ops *body; /* what takes the request's body */
    enum access_scope scope;
    unsigned flags;
};

extern const struct route routes[];
extern const size_t nroutes;

/* Finds the route for method and path and fills req->route and req->path_param. Returns 0; ERR_NOTFOUND (no such path);
 * or ERR_UNSUPPORTED (the path is there with other methods, listed in `allow`). */
int route_match(struct http_request *req, const struct uri_path *path, struct buf *allow);

const struct route *route_by_operation(const char *operation); /* aborts when there is none */

#define ROUTE(method, pattern, operation, body, scope, flags) route_fn route_##operation;
#include "api/routes.def"
#undef ROUTE

#endif
