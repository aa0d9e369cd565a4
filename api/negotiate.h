/* What a request asks of its answer: Accept, Prefer, conditions and ranges (RFC 9110, RFC 7240). */
#ifndef API_NEGOTIATE_H
#define API_NEGOTIATE_H

#include "api/http.h"

/* Index of the offer that Accept likes best (ties: the first), -1 when it accepts none. No header accepts everything. */
int negotiate_accept(const char *accept, const char *const *offers, size_t n);
/* Seconds of "Prefer: wait=N", clamped to 0..60; 0 without one. */
int negotiate_wait(const char *prefer);
bool negotiate_async(const char *prefer); /* "respond-async" */

/*
 * Evaluates If-Match, If-None-Match, If-Modified-Since, Range and If-Range against a representation of `total` bytes with a
 * strong entity tag (without quotes), and sets ETag, Last-Modified, Accept-Ranges and Content-Range. On 0 resp->status is
 *   200 or 206: send [*offset, *offset + *len)     304 or 412 or 416: there is no body to send (412 and 416 are errors instead:
 * negative with the problem set). Several ranges at once are answered by the whole (RFC 9110, section 14.2).
 */
int negotiate_range(const struct http_request *req, struct http_response *resp, const char *etag, int64_t modified_ms,
                    int64_t total, int64_t *offset, int64_t *len, struct err *e);
/* If-Match and If-None-Match of a write to what has this entity tag now (without quotes; NULL: it is not there). 412 with the
 * tag when one of them fails. */
int negotiate_write(const struct http_request *req, struct http_response *resp, const char *etag, struct err *e);
/* True when a list of entity tags (If-Match, If-None-Match) has this one, or is "*". weak: W/ prefixes may be ignored. */
bool negotiate_etag_in(const char *list, const char *etag, bool weak);

#endif
