/* The running service: store, processes, HTTP, and the order in which they start and stop. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "server/media_options.h"

struct service_opts {
    const char *listen, *data, *db, *blobs, *device, *models, *model, *log_level;
    bool open;
    int64_t workers, threads, max_upload_bytes, queue_limit, retention_s, lease_s, min_free_bytes, max_connections,
        max_streams, handlers, idle_timeout_s, grace_s;
    struct media_opts media;
};

#define SERVICE_OPTS_DEFAULT                                                                                   \
    {                                                                                                          \
        .listen = "127.0.0.1:8080", .data = "salient-data", .device = "auto", .model = "rcrnet-lite",          \
        .log_level = "info", .workers = 1, .max_upload_bytes = (int64_t)4 << 30, .queue_limit = 1000,          \
        .retention_s = 7 * 86400, .lease_s = 15, .min_free_bytes = (int64_t)64 << 20, .max_connections = 4096, \
        .max_streams = 2048, .handlers = 8, .idle_timeout_s = 60, .grace_s = 20, .media = MEDIA_OPTS_DEFAULT,  \
    }

/* Runs until SIGTERM or SIGINT, drains, returns 0; or a negative error when it cannot start. */
int service_run(const struct service_opts *opts, struct err *e);

#endif
