/* What an estimator provides to flow.c. A backend is one row of flow.c's table. */
#ifndef CORE_FLOW_BACKEND_H
#define CORE_FLOW_BACKEND_H

#include "core/flow/flow.h"

#ifdef __cplusplus
extern "C" {
#endif

struct flow_backend {
    const char *name;
    const char *const *presets; /* ends with NULL; the first is the default */
    /* A lane is one working set, used by one thread at a time. preset is one of presets; halvings: see flow_open_halved. */
    int (*lane_open)(const char *preset, int halvings, void **lane, struct err *e);
    void (*lane_close)(void *lane);
    /* Sizes are checked already: equal, at least FLOW_MIN_PX. */
    int (*lane_compute)(void *lane, const struct flow_image *a, const struct flow_image *b, struct flow_field *out,
                        struct err *e);
};

extern const struct flow_backend flow_dis; /* flow_dis.cc */

#ifdef __cplusplus
}
#endif
#endif
