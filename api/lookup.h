/* Records that a path names, with the errors a client should see. */
#ifndef API_LOOKUP_H
#define API_LOOKUP_H

#include "api/http.h"
#include "core/store/project.h"

/* The job of path parameter {id}, visible to this request. 404; 410 when it must have expired. Free with job_fini. */
int lookup_job(struct http_request *req, struct http_response *resp, struct job *out, struct err *e);
/* The clip `id`, visible to this request. ERR_NOTFOUND. */
int lookup_clip(struct http_request *req, const char *id, struct clip_record *out, struct err *e);
/* A frame number: digits only, no sign, below 2^31. ERR_NOTFOUND otherwise (it is part of a path). */
int lookup_frame(const struct http_request *req, int64_t *out, struct err *e);
/* A reference to a registered model, "name", "name@version" or "name:alias", never a path. 422 when there is none. */
int lookup_model(const struct http_request *req, const char *name, struct http_response *resp, struct err *e);
/* A name that a client chose for something stored: 1 to 64 letters, digits, '.', '_' or '-', not beginning with '.'. what: "a
 * baseline's". ERR_INVALID. */
int lookup_name(const char *name, const char *what, struct err *e);
/* The project of path parameter {p}, visible to this request. ERR_NOTFOUND. Free with project_record_fini. */
int lookup_project(struct http_request *req, struct project_record *out, struct err *e);
/* The clip of path parameters {p} and {c}. ERR_NOTFOUND. */
int lookup_project_clip(struct http_request *req, struct clip_record *out, struct err *e);
/* Who makes a change, for the audit: the id of the API key, "" when the service is open. */
struct actor request_actor(const struct http_request *req);
const char *request_tenant(const struct http_request *req); /* whose resources it sees and makes; "": everybody's */

#endif
