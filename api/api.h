/*
 * The service's meaning of HTTP: one `struct api` per process, shared by all requests.
 * To add a resource: a row in routes.def, its handler in a file of this folder, its operation in openapi.json.
 */
#ifndef API_API_H
#define API_API_H

#include "api/http.h"
#include "core/base/err.h"
#include "core/media/clip.h"
#include "core/store/store.h"

/* What the surrounding process provides. Every function is thread-safe; probe and still may take long. */
struct api_host {
    void *arg;
    int (*workers_alive)(void *arg); /* local worker processes that run */
    bool (*draining)(void *arg);
    int (*connections)(void *arg); /* open client connections */
    /* Untrusted media is opened in a process of its own. count: decode every picture, so that info->frames is exact. Errors as
     * clip_open's, and ERR_CORRUPT when the decoder died on the file. */
    int (*probe)(void *arg, const char *path, bool count, struct clip_info *info, struct err *e);
    /* The n-th picture as JPEG, appended. ERR_NOTFOUND past the end. */
    int (*still)(void *arg, const char *path, int64_t n, struct buf *jpeg, struct err *e);
    /* model_import in a process of its own. ERR_CORRUPT with the reason when the file is no good. */
    int (*weights)(void *arg, const char *path, const char *arch, const char *out, struct err *e);
    /* Process-wide gauges for /metrics, appended as text. */
    void (*metrics)(void *arg, struct buf *out);
};

struct api_config {
    struct api_host host;
    struct store *store; /* borrowed, like blobs */
    struct blobs *blobs;
    const char *models_dir;    /* NULL: see model_find */
    const char *default_model; /* of saliency jobs */
    int64_t max_upload_bytes;
    int64_t queue_limit;  /* queued jobs; 0: none */
    int64_t retention_ms; /* of finished jobs and of clips that came with a job */
    int max_streams;      /* event streams and waiting requests at once */
    bool open;            /* no API key is needed while none was ever made */
    bool local;           /* the service listens on loopback only */
};

struct api;

int api_new(const struct api_config *cfg, struct api **out, struct err *e);
void api_free(struct api *api); /* no request may be alive */
/* Reads what admission needs (queue length, workers) from the store; call about once a second. */
void api_refresh(struct api *api);
/* Ends event streams and answers waiting requests; later ones are refused. */
void api_drain(struct api *api);

enum api_next { API_BODY, API_RESPOND };

/* See api/http.h for the order of calls. `resp` is the request's one response, empty at first. */
enum api_next api_begin(struct api *api, struct http_request *req, struct http_response *resp);
void api_data(struct http_request *req, struct http_response *resp, const char *data, size_t len);
/* 0: resp is made; HTTP_LATER: call again after the wake. */
int api_run(struct http_request *req, struct http_response *resp);
/* True when api_run neither blocks nor takes long, so the caller need not move it off its event loop. */
bool api_is_inline(const struct http_request *req, const struct http_response *resp);
/* True when api_run may take seconds: such requests must not take every thread that answers others. */
bool api_is_slow(const struct http_request *req);
/* The exchange is over; completed: the client got the whole answer. */
void api_end(struct http_request *req, struct http_response *resp, int64_t sent_bytes, bool completed);

#endif
