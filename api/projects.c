/* /v1/projects: annotation projects, their settings, clips and audit. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/annotation.h"
#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/payload.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/submit.h"
#include "api/upload.h"

enum { NAME_BYTES_MAX = 200, INTERVAL_MAX = 1000, NEW_LABELS_MAX = 1000000 };
#define HOLDOUT_MAX 0.5

static const char *const no_params[] = {NULL};
static const char *const page_params[] = {"limit", "cursor", NULL};

/* ---- settings -------------------------------------------------------------------------------------------------------- */

static json_t *default_settings(void)
{
    return json_pack("{s:i, s:{s:s, s:i, s:f}}", "labels_per_interval", 0, "retrain", "mode", "manual",
                     "min_new_labels", 50, "holdout", 0.2);
}

static int check_name(const json_t *v, struct err *e)
{
    const char *s = json_string_value(v);
    size_t n = s ? strlen(s) : 0;
    bool blank = s && strspn(s, " \t") == n;
    for (size_t i = 0; i < n; i++)
        blank |= (unsigned char)s[i] < 0x20 || s[i] == 0x7f;
    if (!s || blank || n > NAME_BYTES_MAX || json_string_length(v) != n)
        return err_set(e, ERR_INVALID, "'name' must be 1 to %d bytes of printable text", NAME_BYTES_MAX);
    return 0;
}

static int check_int(const json_t *v, const char *name, json_int_t min, json_int_t max, struct err *e)
{
    if (json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max)
        return 0;
    return err_set(e, ERR_INVALID, "'%s' must be a whole number from %lld to %lld", name, (long long)min,
                   (long long)max);
}

static int check_retrain(const json_t *retrain, struct err *e)
{
    static const char *const names[] = {"mode", "min_new_labels", "holdout", NULL};
    if (!json_is_object(retrain))
        return err_set(e, ERR_INVALID, "'retrain' must be an object");
    const json_t *mode = json_object_get(retrain, "mode"), *min = json_object_get(retrain, "min_new_labels"),
                 *holdout = json_object_get(retrain, "holdout");
    const char *word = json_string_value(mode);
    int rc = payload_members(retrain, "'retrain'", names, e);
    if (rc == 0 && mode && !(word && (strcmp(word, "manual") == 0 || strcmp(word, "auto") == 0)))
        rc = err_set(e, ERR_INVALID, "'retrain.mode' must be \"manual\" or \"auto\"");
    if (rc == 0 && min)
        rc = check_int(min, "retrain.min_new_labels", 1, NEW_LABELS_MAX, e);
    double x = json_number_value(holdout);
    if (rc == 0 && holdout && !(json_is_number(holdout) && x >= 0 && x <= HOLDOUT_MAX))
        rc = err_set(e, ERR_INVALID, "'retrain.holdout' must be a number from 0 to %g", HOLDOUT_MAX);
    return rc;
}

/* Checks the members that a client sent and puts them over `settings`; *name is set when there is one (borrowed). */
static int apply_settings(const json_t *body, json_t *settings, const char **name, struct err *e)
{
    static const char *const names[] = {"name", "labels_per_interval", "retrain", NULL};
    json_t *title = json_object_get(body, "name"), *per = json_object_get(body, "labels_per_interval"),
           *retrain = json_object_get(body, "retrain");
    int rc = payload_members(body, "a project", names, e);
    if (rc == 0 && title)
        rc = check_name(title, e);
    if (rc == 0 && per)
        rc = check_int(per, "labels_per_interval", 0, INTERVAL_MAX, e);
    if (rc == 0 && retrain)
        rc = check_retrain(retrain, e);
    if (rc)
        return rc;
    if (title)
        *name = json_string_value(title);
    if (per)
        json_object_set(settings, "labels_per_interval", per);
    if (retrain)
        json_object_update(json_object_get(settings, "retrain"), retrain);
    return 0;
}

static int answer_project(struct http_request *req, int status, const struct project_record *p,
                          struct http_response *resp, struct err *e)
{
    char etag[ANNOTATION_ETAG_SIZE];
    http_set_header(resp, "ETag", "\"%s\"", version_etag(p->version, etag));
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, status, project_json(req->api->cfg.store, p), e);
}

/* ---- projects -------------------------------------------------------------------------------------------------------- */

int route_create_project(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_record p = {0};
    struct actor a = request_actor(req);
    const char *name = NULL;
    json_t *body = payload_object(req, e), *settings = default_settings();
    char *text = NULL;
    int rc = body && settings ? params_check(req, no_params, e) : body ? ERR_NOMEM : ERR_INVALID;
    if (rc == 0)
        rc = apply_settings(body, settings, &name, e);
    if (rc == 0 && !name)
        rc = err_set(e, ERR_INVALID, "a project needs a 'name'");
    if (rc == 0 && !(text = json_dumps(settings, JSON_COMPACT)))
        rc = err_set(e, ERR_NOMEM, "no memory for the settings");
    if (rc == 0)
        rc = project_create(req->api->cfg.store, request_tenant(req), name, text, &a, &p, e);
    if (rc == 0) {
        http_set_header(resp, "Location", "/v1/projects/%s", p.id);
        rc = answer_project(req, 201, &p, resp, e);
    }
    project_record_fini(&p);
    free(text);
    json_decref(settings);
    json_decref(body);
    return rc;
}

int route_list_projects(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_list l = {0};
    int64_t limit = 50;
    struct store *s = req->api->cfg.store;
    const char *tenant = request_tenant(req);
    int rc = params_check(req, page_params, e);
    if (rc == 0)
        rc = param_int(req, "limit", 1, 1000, &limit, e);
    if (rc == 0)
        rc = project_list(s, tenant[0] ? tenant : NULL, param_get(req, "cursor"), (int)limit, &l, e);
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < l.n; i++)
            json_array_append_new(items, project_json(s, &l.items[i]));
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, json_pack("{s:o, s:s?}", "items", items, "next_cursor", l.next_cursor), e);
    }
    project_list_fini(&l);
    return rc;
}

int route_get_project(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_record p;
    int rc = lookup_project(req, &p, e);
    if (rc == 0)
        rc = answer_project(req, 200, &p, resp, e);
    project_record_fini(&p);
    return rc;
}

/* `p` is replaced by what the project is afterwards, or by what somebody else has made of it. */
static int update(struct http_request *req, const json_t *body, struct project_record *p, struct err *e)
{
    const char *name = p->name;
    struct project_record after = {0};
    struct actor a = request_actor(req);
    json_t *settings = json_loads(p->settings, 0, NULL);
    char *text = NULL;
    int rc = settings ? apply_settings(body, settings, &name, e) : err_set(e, ERR_CORRUPT, "the settings are damaged");
    if (rc == 0 && !(text = json_dumps(settings, JSON_COMPACT)))
        rc = err_set(e, ERR_NOMEM, "no memory for the settings");
    if (rc == 0)
        rc = project_update(req->api->cfg.store, p->id, p->version, name, text, &a, &after, e);
    if (after.id) {
        project_record_fini(p);
        *p = after;
    }
    free(text);
    json_decref(settings);
    return rc;
}

int route_update_project(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_record p = {0};
    char etag[ANNOTATION_ETAG_SIZE];
    json_t *body = payload_object(req, e);
    int rc = body ? params_check(req, no_params, e) : ERR_INVALID;
    if (rc == 0)
        rc = lookup_project(req, &p, e);
    /* Somebody else may change it between our reading and writing: then the condition is asked again. */
    while (rc == 0) {
        rc = negotiate_write(req, resp, version_etag(p.version, etag), e);
        if (rc == 0 && (rc = update(req, body, &p, e)) != ERR_CONFLICT)
            break;
        rc = rc == ERR_CONFLICT ? 0 : rc;
    }
    if (rc == 0)
        rc = answer_project(req, 200, &p, resp, e);
    project_record_fini(&p);
    json_decref(body);
    return rc;
}

int route_delete_project(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_record p;
    struct actor a = request_actor(req);
    char etag[ANNOTATION_ETAG_SIZE];
    int rc = lookup_project(req, &p, e);
    if (rc == 0)
        rc = negotiate_write(req, resp, version_etag(p.version, etag), e);
    if (rc == 0)
        rc = project_delete(req->api->cfg.store, p.id, &a, e);
    if (rc == 0)
        resp->status = 204;
    project_record_fini(&p);
    return rc;
}

static json_t *audit_json(const struct audit_record *a)
{
    json_t *before = a->before_json ? json_loads(a->before_json, 0, NULL) : NULL,
           *after = a->after_json ? json_loads(a->after_json, 0, NULL) : NULL;
    return json_pack("{s:s, s:o, s:s, s:s, s:o?, s:o?, s:s?}", "id", a->id, "at", time_json(a->at_ms), "actor",
                     a->actor ? a->actor : "", "action", a->action, "before", before, "after", after, "request_id",
                     a->request_id);
}

int route_get_project_audit(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_record p = {0};
    struct audit_list l = {0};
    int64_t limit = 50;
    char subject[80];
    int rc = params_check(req, page_params, e);
    if (rc == 0)
        rc = param_int(req, "limit", 1, 1000, &limit, e);
    if (rc == 0)
        rc = lookup_project(req, &p, e);
    if (rc == 0) {
        snprintf(subject, sizeof(subject), "projects/%s", p.id);
        rc = audit_list(req->api->cfg.store, subject, param_get(req, "cursor"), (int)limit, &l, e);
    }
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < l.n; i++)
            json_array_append_new(items, audit_json(&l.items[i]));
        rc = json_response(resp, 200, json_pack("{s:o, s:s?}", "items", items, "next_cursor", l.next_cursor), e);
    }
    audit_list_fini(&l);
    project_record_fini(&p);
    return rc;
}

/* ---- clips of a project ---------------------------------------------------------------------------------------------- */

/* A clip that came with a job was not counted: its number of frames is what its container claims. Masks need the true one. */
static int count_frames(struct http_request *req, struct clip_record *clip, struct http_response *resp, struct err *e)
{
    const struct api_host *host = &req->api->cfg.host;
    char path[FS_PATH_MAX] = "";
    bool copy = false;
    struct clip_info info = {0};
    if (clip->expires_ms == 0)
        return 0;
    int rc = clip_file(req->api, clip, path, &copy, e);
    if (rc == 0)
        rc = host->probe(host->arg, path, true, &info, e);
    if (copy)
        unlink(path);
    if (rc == ERR_TIMEOUT)
        return problem_set(resp, e, 422, "decode_timeout", "the clip takes too long to decode");
    if (rc || info.frames == clip->frames)
        return rc;
    clip->frames = info.frames;
    return clip_set_frames(req->api->cfg.store, clip->id, info.frames, e);
}

int route_add_project_clip(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"clip_id", NULL};
    struct project_record p = {0};
    struct clip_record clip = {0};
    struct actor a = request_actor(req);
    struct store *s = req->api->cfg.store;
    bool existed = false;
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = lookup_project(req, &p, e);
    if (rc == 0)
        rc = submit_clip(req, true, 0, &clip, NULL, resp, e);
    if (rc == 0)
        rc = count_frames(req, &clip, resp, e);
    if (rc == 0)
        rc = project_clip_add(s, p.id, clip.id, &a, &existed, e);
    if (rc == 0) {
        http_set_header(resp, "Location", "/v1/projects/%s/clips/%s", p.id, clip.id);
        rc = json_response(resp, existed ? 200 : 201, project_clip_json(s, p.id, &clip), e);
    }
    clip_record_fini(&clip);
    project_record_fini(&p);
    return rc;
}

int route_list_project_clips(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_record p = {0};
    struct clip_list l = {0};
    int64_t limit = 50;
    struct store *s = req->api->cfg.store;
    int rc = params_check(req, page_params, e);
    if (rc == 0)
        rc = param_int(req, "limit", 1, 1000, &limit, e);
    if (rc == 0)
        rc = lookup_project(req, &p, e);
    if (rc == 0)
        rc = project_clip_list(s, p.id, param_get(req, "cursor"), (int)limit, &l, e);
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < l.n; i++)
            json_array_append_new(items, project_clip_json(s, p.id, &l.items[i]));
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, json_pack("{s:o, s:s?}", "items", items, "next_cursor", l.next_cursor), e);
    }
    clip_list_fini(&l);
    project_record_fini(&p);
    return rc;
}

int route_get_project_clip(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip;
    int rc = lookup_project_clip(req, &clip, e);
    if (rc == 0) {
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, project_clip_json(req->api->cfg.store, http_path_param(req, "p"), &clip), e);
    }
    clip_record_fini(&clip);
    return rc;
}

int route_remove_project_clip(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip;
    struct actor a = request_actor(req);
    int rc = lookup_project_clip(req, &clip, e);
    if (rc == 0)
        rc = project_clip_remove(req->api->cfg.store, http_path_param(req, "p"), clip.id, &a, e);
    if (rc == 0)
        resp->status = 204;
    clip_record_fini(&clip);
    return rc;
}
