/* Inside of api/: what handlers share. */
#ifndef API_CONTEXT_H
#define API_CONTEXT_H

#include "api/api.h"
#include "api/metrics.h"

struct api {
    struct api_config cfg;
    struct metrics *metrics;
};

#endif
