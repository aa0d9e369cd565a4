/* Bodies that are kept in memory as they came: a JSON document, a mask. The route says which (bodies.def). */
#ifndef API_PAYLOAD_H
#define API_PAYLOAD_H

#include <jansson.h>

#include "api/body.h"

/* The body's bytes; empty without one. */
const struct buf *payload_bytes(const struct http_request *req);
/* The JSON object of the body; an absent body is an empty object. NULL with ERR_INVALID in `e`. json_decref it. */
json_t *payload_object(const struct http_request *req, struct err *e);
/* Every member is among `names` (ends with NULL); else ERR_INVALID. what: "settings", for the message. */
int payload_members(const json_t *object, const char *what, const char *const *names, struct err *e);

#endif
