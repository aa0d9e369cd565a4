/* Bodies with files. Bytes go from the socket's buffer to a temporary file by one write(2); nothing is collected in memory. */
#include "api/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include "api/context.h"
#include "api/multipart.h"
#include "api/problem.h"

struct field {
    char *name, *value;
};

struct upload {
    struct body base;
    enum { UPLOAD_RAW, UPLOAD_MULTIPART, UPLOAD_JSON } kind;
    struct multipart *multipart;
    struct http_request *req;
    struct http_response *resp; /* during a call */
    struct upload_file file[UPLOAD_FILES_MAX];
    size_t nfiles;
    struct upload_file *open; /* receives data now */
    struct field field[UPLOAD_FIELDS_MAX];
    size_t nfields;
    struct buf text; /* the field or the JSON that arrives now */
};

static void upload_free(struct body *body);

/* NULL: there is no body, or another kind of taker has it (api/bodies.def). */
static struct upload *upload_of(const struct http_request *req)
{
    return req->body && req->body->ops->free == upload_free ? (struct upload *)(void *)req->body : NULL;
}

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

static const char *find_field(const struct http_request *req, const char *name)
{
    const struct upload *u = upload_of(req);
    for (size_t i = 0; u && i < u->nfields; i++)
        if (strcmp(u->field[i].name, name) == 0)
            return u->field[i].value;
    return NULL;
}

const char *param_get(const struct http_request *req, const char *name)
{
    const char *value = http_query(req, name);
    return value ? value : find_field(req, name);
}

static bool name_in(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

int params_check(const struct http_request *req, const char *const *names, struct err *e)
{
    const struct upload *u = upload_of(req);
    for (size_t i = 0; i < req->nquery; i++) {
        if (!name_in(req->query[i].name, names))
            return err_set(e, ERR_INVALID, "unknown parameter '%.60s'", req->query[i].name);
        if (find_field(req, req->query[i].name))
            return err_set(e, ERR_INVALID, "parameter '%.60s' is given twice", req->query[i].name);
    }
    for (size_t i = 0; u && i < u->nfields; i++)
        if (!name_in(u->field[i].name, names))
            return err_set(e, ERR_INVALID, "unknown field '%.60s'", u->field[i].name);
    return 0;
}

int param_int(const struct http_request *req, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e)
{
    const char *text = param_get(req, name);
    if (!text)
        return 0;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < min || v > max)
        return err_set(e, ERR_INVALID, "parameter '%s' must be a whole number from %lld to %lld", name, (long long)min,
                       (long long)max);
    *out = v;
    return 0;
}

int param_bool(const struct http_request *req, const char *name, bool *out, struct err *e)
{
    const char *text = param_get(req, name);
    if (!text)
        return 0;
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "0") != 0)
        return err_set(e, ERR_INVALID, "parameter '%s' must be true or false", name);
    *out = yes;
    return 0;
}

/* ---- files --------------------------------------------------------------------------------------------------------- */

struct upload_file *upload_file(struct http_request *req, const char *field)
{
    struct upload *u = upload_of(req);
    for (size_t i = 0; u && i < u->nfiles; i++)
        if (strcmp(u->file[i].field, field) == 0)
            return &u->file[i];
    return NULL;
}

static int open_file(struct upload *u, const char *field, const char *name, struct err *e)
{
    if (upload_file(u->req, field))
        return err_set(e, ERR_INVALID, "field '%s' is given twice", field);
    BUG_ON(u->nfiles == UPLOAD_FILES_MAX);
    struct upload_file *f = &u->file[u->nfiles];
    f->field = field;
    f->name = name && *name ? strdup(name) : NULL;
    int rc = blobs_temp(u->req->api->cfg.blobs, f->path, e);
    if (rc < 0) {
        free(f->name);
        return rc;
    }
    u->nfiles++;
    f->fd = open(f->path, O_WRONLY | O_CLOEXEC | O_TRUNC);
    if (f->fd < 0)
        return err_errno(e, "cannot store the upload");
    u->open = f;
    return 0;
}

static int write_file(struct upload *u, const char *data, size_t len, struct err *e)
{
    struct upload_file *f = u->open;
    if (f->bytes + (int64_t)len > u->req->api->cfg.max_upload_bytes)
        return err_set(e, ERR_LIMIT, "the upload is larger than %lld bytes",
                       (long long)u->req->api->cfg.max_upload_bytes);
    while (len > 0) {
        ssize_t n = write(f->fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "cannot store the upload");
        data += n;
        len -= (size_t)n;
        f->bytes += n;
    }
    return 0;
}

static int close_file(struct upload *u, struct err *e)
{
    int fd = u->open->fd;
    u->open->fd = -1;
    u->open = NULL;
    return close(fd) == 0 ? 0 : err_errno(e, "cannot store the upload");
}

/* ---- fields and JSON ----------------------------------------------------------------------------------------------- */

static int add_field(struct upload *u, const char *name, const char *value, struct err *e)
{
    if (u->nfields == UPLOAD_FIELDS_MAX)
        return err_set(e, ERR_INVALID, "more than %d fields", UPLOAD_FIELDS_MAX);
    if (find_field(u->req, name))
        return err_set(e, ERR_INVALID, "field '%.60s' is given twice", name);
    struct field f = {strdup(name), strdup(value)};
    if (!f.name || !f.value) {
        free(f.name);
        free(f.value);
        return err_set(e, ERR_NOMEM, "no memory for a field");
    }
    u->field[u->nfields++] = f;
    return 0;
}

/* Members become parameters; numbers and booleans as they would stand in a query. */
static int add_member(struct upload *u, const char *name, const json_t *value, struct err *e)
{
    char text[32];
    if (json_is_string(value))
        return add_field(u, name, json_string_value(value), e);
    if (json_is_boolean(value))
        return add_field(u, name, json_is_true(value) ? "true" : "false", e);
    if (json_is_null(value))
        return 0;
    if (!json_is_integer(value))
        return err_set(e, ERR_INVALID, "member '%.60s' must be a string, a whole number or a boolean", name);
    snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(value));
    return add_field(u, name, text, e);
}

static int parse_json(struct upload *u, struct err *e)
{
    json_error_t je;
    json_t *doc = json_loadb(u->text.data ? u->text.data : "", u->text.len, JSON_REJECT_DUPLICATES, &je);
    if (!doc)
        return err_set(e, ERR_INVALID, "the body is not JSON: %s (line %d)", je.text, je.line);
    int rc = json_is_object(doc) ? 0 : err_set(e, ERR_INVALID, "the body must be a JSON object");
    const char *name;
    json_t *value;
    json_object_foreach(doc, name, value)
    {
        if (rc == 0)
            rc = add_member(u, name, value, e);
    }
    json_decref(doc);
    return rc;
}

static int take_text(struct upload *u, const char *data, size_t len, size_t max, struct err *e)
{
    if (u->text.len + len > max)
        return err_set(e, ERR_LIMIT, "a field is larger than %zu bytes", max);
    buf_append(&u->text, data, len);
    return u->text.failed ? err_set(e, ERR_NOMEM, "no memory for a field") : 0;
}

/* ---- multipart ----------------------------------------------------------------------------------------------------- */

static int part_begin(void *arg, const struct multipart_part *part, struct err *e)
{
    static const char *const files[] = {"clip", "pred", "gt", "weights", NULL};
    struct upload *u = arg;
    for (const char *const *f = files; *f; f++)
        if (strcmp(part->name, *f) == 0)
            return open_file(u, *f, part->filename, e);
    if (part->filename && strcmp(part->name, "baseline") == 0) /* without a file name it is the name of a stored one */
        return open_file(u, "baseline", part->filename, e);
    buf_reset(&u->text);
    buf_append(&u->text, part->name, strlen(part->name) + 1);
    return u->text.failed ? err_set(e, ERR_NOMEM, "no memory for a field") : 0;
}

static int part_data(void *arg, const char *data, size_t len, struct err *e)
{
    struct upload *u = arg;
    return u->open ? write_file(u, data, len, e) : take_text(u, data, len, UPLOAD_FIELD_BYTES, e);
}

static int part_end(void *arg, struct err *e)
{
    struct upload *u = arg;
    if (u->open)
        return close_file(u, e);
    const char *value = u->text.data + strlen(u->text.data) + 1;
    if (strlen(value) != u->text.len - (size_t)(value - u->text.data))
        return err_set(e, ERR_INVALID, "field '%.60s' holds a NUL", u->text.data);
    return add_field(u, u->text.data, value, e);
}

/* ---- the taker ----------------------------------------------------------------------------------------------------- */

static int check_room(struct http_request *req, struct err *e)
{
    const struct api_config *cfg = &req->api->cfg;
    int64_t slack = UPLOAD_JSON_BYTES, room = blobs_free_bytes(cfg->blobs);
    if (req->content_length > cfg->max_upload_bytes + slack)
        return err_set(e, ERR_LIMIT, "the upload is larger than %lld bytes", (long long)cfg->max_upload_bytes);
    if (room >= 0 && (room == 0 || req->content_length > room))
        return err_set(e, ERR_FULL, "the upload does not fit the storage that is left");
    return 0;
}

static int start_kind(struct upload *u, const char *type, struct http_response *resp, struct err *e)
{
    static const struct multipart_handler parts = {NULL, part_begin, part_data, part_end};
    if (content_type_is(type, "multipart/form-data")) {
        struct multipart_handler h = parts;
        h.arg = u;
        u->kind = UPLOAD_MULTIPART;
        return multipart_new(type, &h, &u->multipart, e);
    }
    if (content_type_is(type, "application/json")) {
        u->kind = UPLOAD_JSON;
        return 0;
    }
    if (content_type_is(type, "video/") || content_type_is(type, "image/") ||
        content_type_is(type, "application/zip")) {
        u->kind = UPLOAD_RAW;
        return open_file(u, "clip", NULL, e);
    }
    return problem_set(resp, e, 415, "unsupported_media_type",
                       "send multipart/form-data with a field 'clip', video/*, image/*, application/zip or "
                       "application/json, not '%.80s'",
                       type ? type : "");
}

/* NULL with the error set. */
static struct upload *new_upload(struct http_request *req, struct err *e)
{
    struct upload *u = check_room(req, e) < 0 ? NULL : calloc(1, sizeof(*u));
    if (!u) {
        if (!e->code)
            err_set(e, ERR_NOMEM, "no memory for the upload");
        return NULL;
    }
    u->base.ops = req->route->body;
    u->req = req;
    req->body = &u->base;
    return u;
}

static int upload_begin(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct upload *u = new_upload(req, e);
    return u ? start_kind(u, http_header(req, "Content-Type"), resp, e) : e->code;
}

static int weights_begin(struct http_request *req, struct http_response *resp, struct err *e)
{
    const char *type = http_header(req, "Content-Type");
    struct upload *u = new_upload(req, e);
    if (!u)
        return e->code;
    if (content_type_is(type, "multipart/form-data"))
        return start_kind(u, type, resp, e);
    if (!content_type_is(type, "application/octet-stream"))
        return problem_set(resp, e, 415, "unsupported_media_type",
                           "send multipart/form-data with a field 'weights', or application/octet-stream");
    u->kind = UPLOAD_RAW;
    return open_file(u, "weights", NULL, e);
}

static int upload_data(struct http_request *req, struct http_response *resp, const char *data, size_t len,
                       struct err *e)
{
    (void)resp;
    struct upload *u = upload_of(req);
    if (u->kind == UPLOAD_MULTIPART)
        return multipart_feed(u->multipart, data, len, e);
    if (u->kind == UPLOAD_JSON)
        return take_text(u, data, len, UPLOAD_JSON_BYTES, e);
    return write_file(u, data, len, e);
}

static int upload_finish(struct http_request *req, struct http_response *resp, struct err *e)
{
    (void)resp;
    struct upload *u = upload_of(req);
    if (u->kind == UPLOAD_MULTIPART)
        return multipart_finish(u->multipart, e);
    if (u->kind == UPLOAD_JSON)
        return parse_json(u, e);
    return close_file(u, e);
}

static void upload_free(struct body *body)
{
    struct upload *u = (struct upload *)(void *)body;
    if (u->open)
        close_file(u, NULL);
    for (size_t i = 0; i < u->nfiles; i++) {
        if (u->file[i].path[0])
            unlink(u->file[i].path);
        free(u->file[i].name);
    }
    for (size_t i = 0; i < u->nfields; i++) {
        free(u->field[i].name);
        free(u->field[i].value);
    }
    multipart_free(u->multipart);
    buf_free(&u->text);
    free(u);
}

static int job_begin(struct http_request *req, struct http_response *resp, struct err *e)
{
    int rc = api_admit_job(req->api, resp, e);
    return rc < 0 ? rc : upload_begin(req, resp, e);
}

const struct body_ops body_clip = {
    .name = "clip", .begin = upload_begin, .data = upload_data, .finish = upload_finish, .free = upload_free};
/* As body_clip, refused before its first byte when no job would be taken. */
const struct body_ops body_job = {
    .name = "job", .begin = job_begin, .data = upload_data, .finish = upload_finish, .free = upload_free};
/* A weights file. */
const struct body_ops body_weights = {
    .name = "weights", .begin = weights_begin, .data = upload_data, .finish = upload_finish, .free = upload_free};
