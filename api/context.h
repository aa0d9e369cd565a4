/* Inside of api/: what handlers share. */
#ifndef API_CONTEXT_H
#define API_CONTEXT_H

#include <stdatomic.h>

#include "api/access.h"
#include "api/api.h"
#include "api/metrics.h"
#include "api/watch.h"

struct api {
    struct api_config cfg;
    struct metrics *metrics;
    struct watch *watch;
    struct access *access;
    /* As of the last api_refresh. */
    atomic_llong queued, workers, worker_seen_ms;
    atomic_bool store_ok;
    int64_t checked_ms; /* api_refresh's own */
};

/* The service takes new jobs now; else a negative error with 429 or 503 set on resp. */
int api_admit_job(struct api *api, struct http_response *resp, struct err *e);

#endif
