/* Request ids and W3C trace context. */
#ifndef API_TRACE_H
#define API_TRACE_H

#include "api/http.h"

/* Fills req->id (the client's X-Request-Id when it is sane, else a new one) and req->traceparent (the client's when
 * valid, else a new root), and puts both into the response and the calling thread's log context. */
void trace_begin(struct http_request *req, struct http_response *resp);
/* Puts the ids into the log context of the thread that works on the request now; clears it with NULL. */
void trace_enter(const struct http_request *req);
/* Form of "00-<32 hex>-<16 hex>-<2 hex>", not all zero (W3C Trace Context, section 3.2.2). */
bool traceparent_valid(const char *s);

#endif
