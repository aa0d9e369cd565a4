/* Errors for clients: application/problem+json (RFC 9457) with `code` and `request_id`. */
#ifndef API_PROBLEM_H
#define API_PROBLEM_H

#include "api/http.h"

/* Status that an ERR_* means when the handler does not say otherwise. */
int problem_status(int err_code);
/* Replaces whatever `resp` holds by the problem. Refinements in resp->problem, problem_status, retry_after_s win over
 * the error's own code; headers already set (Allow, WWW-Authenticate) are kept. Logs failures of ours (5xx). */
void problem_response(struct http_response *resp, const struct http_request *req, const struct err *e);
/* Sets the refinement and the error in one go; returns the error code, for `return problem_set(...)` in handlers. */
int problem_set(struct http_response *resp, struct err *e, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

#endif
