/*
 * The service's meaning of HTTP: one `struct api` per process, shared by all requests.
 * To add a resource: a row in routes.def, its handler in a file of this folder, its operation in openapi.json.
 */
#ifndef API_API_H
#define API_API_H

#include "api/http.h"
#include "core/base/err.h"

/* What the surrounding process provides. Every function is thread-safe. */
struct api_host {
    void *arg;
    int (*workers_alive)(void *arg); /* local worker processes that run */
    bool (*draining)(void *arg);
    int (*connections)(void *arg); /* open client connections */
};

struct api_config {
    struct api_host host;
    const char *data_dir; /* absolute */
};

struct api;

int api_new(const struct api_config *cfg, struct api **out, struct err *e);
void api_free(struct api *api); /* no request may be alive */

enum api_next { API_BODY, API_RESPOND };

/* See api/http.h for the order of calls. `resp` is the request's one response, empty at first. */
enum api_next api_begin(struct api *api, struct http_request *req, struct http_response *resp);
void api_data(struct http_request *req, struct http_response *resp, const char *data, size_t len);
/* 0: resp is made; HTTP_LATER: call again after the wake. */
int api_run(struct http_request *req, struct http_response *resp);
/* True when api_run neither blocks nor takes long, so the caller need not move it off its event loop. */
bool api_is_inline(const struct http_request *req, const struct http_response *resp);
/* The exchange is over. sent_status 0: no answer reached the client. */
void api_end(struct http_request *req, struct http_response *resp, int64_t sent_bytes, bool completed);

#endif
