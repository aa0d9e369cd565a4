/* Named baselines of evaluations: every version is kept, the newest counts. */
#ifndef API_BASELINES_H
#define API_BASELINES_H

#include "api/http.h"

/* The newest document of a baseline, appended. ERR_NOTFOUND; ERR_INVALID: not a possible name. */
int baseline_load(struct http_request *req, const char *name, struct buf *out, struct err *e);

#endif
