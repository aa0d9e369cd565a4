/*
 * The body of a request that brings a clip: multipart/form-data with a file field `clip` (POST /eval: other names), a raw video,
 * image or zip, or a JSON object that names a stored clip. Files stream to temporary files beside the blobs; small fields and
 * members of the JSON object become parameters, readable by param_get like those of the query.
 */
#ifndef API_UPLOAD_H
#define API_UPLOAD_H

#include "api/body.h"
#include "core/base/fs.h"

#define UPLOAD_FILES_MAX 5 /* as many as there are fields that may bring one */
#define UPLOAD_FIELDS_MAX 32
#define UPLOAD_FIELD_BYTES 8192
#define UPLOAD_JSON_BYTES 65536

struct upload_file {
    const char *field;      /* literal: the field's name */
    char path[FS_PATH_MAX]; /* "" when it did not come; removed with the request unless path[0] is cleared */
    char *name;             /* as the client calls it, or NULL */
    int fd;
    int64_t bytes;
};

/* NULL when the request brought no such file. */
struct upload_file *upload_file(struct http_request *req, const char *field);
/* Query parameter or body field; NULL when absent. */
const char *param_get(const struct http_request *req, const char *name);
/* Every parameter is among `names` (ends with NULL) and given once; else ERR_INVALID. */
int params_check(const struct http_request *req, const char *const *names, struct err *e);
/* Typed values; `out` keeps its default when the parameter is absent. ERR_INVALID. */
int param_int(const struct http_request *req, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e);
int param_bool(const struct http_request *req, const char *name, bool *out, struct err *e);

#endif
