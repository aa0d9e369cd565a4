/* The running service: store, workers, HTTP, and the order in which they start and stop. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include <stdint.h>

#include "core/base/err.h"

struct service_opts {
    const char *listen, *data;
    int64_t workers, max_connections, handlers, idle_timeout_s, grace_s;
};

#define SERVICE_OPTS_DEFAULT                                                                                      \
    {                                                                                                             \
        .listen = "127.0.0.1:8080", .data = "salient-data", .workers = 1, .max_connections = 4096, .handlers = 8, \
        .idle_timeout_s = 60, .grace_s = 20                                                                       \
    }

/* Runs until SIGTERM or SIGINT, drains, returns 0; or a negative error when it cannot start. */
int service_run(const struct service_opts *opts, struct err *e);

#endif
