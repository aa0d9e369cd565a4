/* Results of a job as responses, also for requests that waited for it. */
#ifndef API_RESULTS_H
#define API_RESULTS_H

#include "api/http.h"
#include "core/store/store.h"

/* One map of the job as PNG, or converted to JPEG. ERR_NOTFOUND while it is not written. */
int results_map(struct http_request *req, const struct job *j, int64_t n, bool jpeg, struct http_response *resp,
                struct err *e);
/* All maps of a succeeded job as a zip, streamed. */
int results_zip(struct http_request *req, const struct job *j, struct http_response *resp, struct err *e);

#endif
