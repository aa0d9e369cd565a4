/* Records that a path names. */
#include "api/lookup.h"

#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/problem.h"
#include "core/base/clock.h"
#include "core/task/models.h"

const char *request_tenant(const struct http_request *req)
{
    return req->tenant ? req->tenant : "";
}

/* Milliseconds in the first ten characters of an id (48 bits in Crockford base 32). */
static int64_t id_time_ms(const char *id)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    int64_t t = 0;
    for (int i = 0; i < 10; i++)
        t = t * 32 + (strchr(digits, id[i]) - digits);
    return t;
}

static bool visible(const struct http_request *req, const char *tenant)
{
    const char *mine = request_tenant(req);
    return mine[0] == '\0' || (tenant && strcmp(tenant, mine) == 0);
}

int lookup_job(struct http_request *req, struct http_response *resp, struct job *out, struct err *e)
{
    const char *id = http_path_param(req, "id");
    *out = (struct job){0};
    if (!id_valid(id))
        return err_set(e, ERR_NOTFOUND, "no such job");
    int rc = job_get(req->api->cfg.store, id, out, e);
    if (rc == 0 && !visible(req, out->tenant)) {
        job_fini(out);
        *out = (struct job){0};
        return err_set(e, ERR_NOTFOUND, "no such job");
    }
    if (rc != ERR_NOTFOUND)
        return rc;
    int64_t age = clock_wall_ms() - id_time_ms(id);
    if (age > req->api->cfg.retention_ms)
        return problem_set(resp, e, 410, "expired", "the job and its results have expired");
    return err_set(e, ERR_NOTFOUND, "no such job");
}

int lookup_clip(struct http_request *req, const char *id, struct clip_record *out, struct err *e)
{
    *out = (struct clip_record){0};
    int rc = id_valid(id) ? clip_get(req->api->cfg.store, id, out, e) : ERR_NOTFOUND;
    if (rc == 0 && !visible(req, out->tenant)) {
        clip_record_fini(out);
        *out = (struct clip_record){0};
        rc = ERR_NOTFOUND;
    }
    return rc == ERR_NOTFOUND ? err_set(e, rc, "no such clip") : rc;
}

#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

int lookup_model(const struct http_request *req, const char *name, struct http_response *resp, struct err *e)
{
    struct registry_version v;
    int rc = models_resolve(req->api->cfg.store, req->api->cfg.models_dir, name, &v, e);
    registry_version_fini(&v);
    return rc == ERR_NOTFOUND ? problem_set(resp, e, 422, "no_such_model", "there is no model '%.80s'", name) : rc;
}

int lookup_name(const char *name, const char *what, struct err *e)
{
    enum { NAME_MAX_BYTES = 64 };
    size_t n = strlen(name);
    if (n == 0 || n > NAME_MAX_BYTES || name[0] == '.' || strspn(name, NAME_LETTERS) != n)
        return err_set(e, ERR_INVALID, "%s name has 1 to %d letters, digits, '.', '_' or '-'", what, NAME_MAX_BYTES);
    return 0;
}

int lookup_project(struct http_request *req, struct project_record *out, struct err *e)
{
    const char *id = http_path_param(req, "p");
    *out = (struct project_record){0};
    int rc = id_valid(id) ? project_get(req->api->cfg.store, id, out, e) : ERR_NOTFOUND;
    if (rc == 0 && !visible(req, out->tenant)) {
        project_record_fini(out);
        rc = ERR_NOTFOUND;
    }
    return rc == ERR_NOTFOUND ? err_set(e, rc, "no such project") : rc;
}

int lookup_project_clip(struct http_request *req, struct clip_record *out, struct err *e)
{
    struct project_record p;
    const char *id = http_path_param(req, "c");
    *out = (struct clip_record){0};
    int rc = lookup_project(req, &p, e);
    if (rc)
        return rc;
    rc = id_valid(id) ? project_clip_get(req->api->cfg.store, p.id, id, out, e) : ERR_NOTFOUND;
    project_record_fini(&p);
    return rc == ERR_NOTFOUND ? err_set(e, rc, "the project has no such clip") : rc;
}

struct actor request_actor(const struct http_request *req)
{
    return (struct actor){.who = req->actor ? req->actor : "", .request_id = req->id};
}

int lookup_frame(const struct http_request *req, int64_t *out, struct err *e)
{
    const char *text = http_path_param(req, "n");
    size_t len = strlen(text);
    if (len == 0 || len > 9 || strspn(text, "0123456789") != len)
        return err_set(e, ERR_NOTFOUND, "'%.20s' is not a frame number", text);
    *out = strtoll(text, NULL, 10);
    return 0;
}
