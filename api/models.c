/*
 * /v1/models: the registry. Weights that come in are read by a process of their own (api_host.weights) before anything is
 * stored; aliases move by compare-and-swap, with the alias' generation as entity tag.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/payload.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/upload.h"
#include "core/base/log.h"
#include "core/net/model.h"
#include "core/store/registry.h"

enum { HISTORY_MAX = 100, REASON_MAX_BYTES = 500 };

static const char *const no_params[] = {NULL};

/* ---- documents ------------------------------------------------------------------------------------------------------ */

static json_t *parsed(const char *text)
{
    json_t *v = text ? json_loads(text, 0, NULL) : NULL;
    return v ? v : json_null();
}

static json_t *version_json(const struct registry_version *v)
{
    json_t *info = parsed(v->info), *metrics = v->metrics ? parsed(v->metrics) : NULL;
    if (!metrics) /* a version that was not trained here brings its own */
        metrics = json_incref(json_object_get(info, "metrics"));
    json_t *doc =
        json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:o, s:O?, s:O?, s:O?}", "model", v->model_id, "version",
                  v->version, "origin", v->origin, "sha256", v->sha256, "parent_version", v->parent_version, "job_id",
                  v->job_id, "snapshot_id", v->snapshot_id, "created_at", time_json(v->created_ms), "metrics", metrics,
                  "training", json_object_get(info, "training"), "input_px", json_object_get(info, "input_px"));
    json_decref(metrics);
    json_decref(info);
    return doc;
}

static json_t *alias_json(const struct registry_alias *a)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:o}", "model", a->model_id, "alias", a->alias, "version", a->version,
                     "generation", (json_int_t)a->generation, "updated_at", time_json(a->updated_ms));
}

static json_t *event_json(const struct registry_event *h)
{
    return json_pack("{s:s, s:s, s:s?, s:s, s:b, s:s?, s:s, s:I, s:o}", "alias", h->alias, "action", h->action, "from",
                     h->from_version, "to", h->to_version, "moved", (int)(h->moved != 0), "reason", h->reason, "actor",
                     h->actor, "generation", (json_int_t)h->generation, "at", time_json(h->at_ms));
}

static int aliases_json(struct store *s, const char *model, json_t **out, struct err *e)
{
    struct registry_aliases l;
    int rc = registry_aliases(s, model, &l, e);
    *out = rc ? NULL : json_object();
    for (size_t i = 0; *out && i < l.n; i++)
        json_object_set_new(*out, l.items[i].alias, alias_json(&l.items[i]));
    registry_aliases_fini(&l);
    return rc;
}

/* What the list and the model itself begin with. */
static int model_json(struct store *s, const struct registry_model *m, json_t **out, struct err *e)
{
    json_t *aliases;
    int rc = aliases_json(s, m->id, &aliases, e);
    *out = rc ? NULL
              : json_pack("{s:s, s:s, s:o, s:o}", "name", m->id, "arch", m->arch, "created_at",
                          time_json(m->created_ms), "aliases", aliases);
    return rc;
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

int route_list_models(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct store *s = req->api->cfg.store;
    struct registry_models l = {0};
    json_t *items = json_array();
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = registry_models(s, &l, e);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        json_t *doc;
        rc = model_json(s, &l.items[i], &doc, e);
        if (rc == 0 && doc)
            json_object_set_new(doc, "versions", json_integer(l.items[i].versions));
        json_array_append_new(items, doc);
    }
    if (rc == 0)
        rc = json_response(resp, 200, json_pack("{s:O, s:n}", "items", items, "next_cursor"), e);
    json_decref(items);
    registry_models_fini(&l);
    return rc;
}

static int add_lists(struct store *s, const char *model, json_t *doc, struct err *e)
{
    struct registry_versions versions = {0};
    struct registry_events history = {0};
    json_t *vs = json_array(), *hs = json_array();
    int rc = registry_versions(s, model, &versions, e);
    if (rc == 0)
        rc = registry_history(s, model, HISTORY_MAX, &history, e);
    for (size_t i = 0; i < versions.n; i++)
        json_array_append_new(vs, version_json(&versions.items[i]));
    for (size_t i = 0; i < history.n; i++)
        json_array_append_new(hs, event_json(&history.items[i]));
    json_object_set_new(doc, "versions", vs);
    json_object_set_new(doc, "history", hs);
    registry_events_fini(&history);
    registry_versions_fini(&versions);
    return rc;
}

int route_get_model(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct store *s = req->api->cfg.store;
    struct registry_model m = {0};
    json_t *doc = NULL;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = registry_model(s, http_path_param(req, "m"), &m, e);
    if (rc == 0)
        rc = model_json(s, &m, &doc, e);
    if (rc == 0 && doc)
        rc = add_lists(s, m.id, doc, e);
    if (rc == 0) {
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, json_incref(doc), e);
    }
    json_decref(doc);
    registry_model_fini(&m);
    return rc;
}

int route_get_version(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct registry_version v = {0};
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = registry_version(req->api->cfg.store, http_path_param(req, "m"), http_path_param(req, "v"), &v, e);
    if (rc == 0)
        rc = json_response(resp, 200, version_json(&v), e);
    registry_version_fini(&v);
    return rc;
}

int route_delete_version(struct http_request *req, struct http_response *resp, struct err *e)
{
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = registry_delete(req->api->cfg.store, http_path_param(req, "m"), http_path_param(req, "v"), e);
    if (rc == 0)
        resp->status = 204;
    return rc;
}

static json_t *curve_json(const struct curve_points *l, size_t *at)
{
    const char *name = l->items[*at].name;
    json_t *points = json_array();
    for (; *at < l->n && strcmp(l->items[*at].name, name) == 0; ++*at)
        json_array_append_new(points, json_pack("[I, f]", (json_int_t)l->items[*at].step, l->items[*at].value));
    return points;
}

/* {"curves": {NAME: [[step, value], ...]}} */
int route_get_curves(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j = {0};
    struct curve_points l = {0};
    json_t *curves = json_object();
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = lookup_job(req, resp, &j, e);
    if (rc == 0)
        rc = curve_list(req->api->cfg.store, j.id, &l, e);
    for (size_t i = 0; rc == 0 && i < l.n;) {
        const char *name = l.items[i].name;
        json_object_set_new(curves, name, curve_json(&l, &i));
    }
    if (rc == 0) {
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, json_pack("{s:O}", "curves", curves), e);
    }
    json_decref(curves);
    curve_points_fini(&l);
    job_fini(&j);
    return rc;
}

/* ---- importing ------------------------------------------------------------------------------------------------------ */

struct import {
    const char *model, *version, *arch;
    int64_t input_px;
};

static int read_import(const struct http_request *req, struct import *in, struct err *e)
{
    static const char *const names[] = {"arch", "version", "input_px", NULL};
    *in = (struct import){http_path_param(req, "m"), param_get(req, "version"), param_get(req, "arch"), 0};
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = param_int(req, "input_px", MODEL_PX_MIN, MODEL_PX_MAX, &in->input_px, e);
    if (rc == 0 && !registry_name_valid(in->model))
        rc = err_set(e, ERR_INVALID, "a model's name has 1 to %d letters, digits, '.', '_' or '-', no '.' in front",
                     REGISTRY_NAME_MAX);
    if (rc == 0 && in->version && !registry_name_valid(in->version))
        rc = err_set(e, ERR_INVALID, "a version has 1 to %d letters, digits, '.', '_' or '-', no '.' in front",
                     REGISTRY_NAME_MAX);
    if (rc == 0 && in->arch && !net_arch_find(in->arch))
        rc = err_set(e, ERR_INVALID, "there is no architecture '%.60s'", in->arch);
    return rc;
}

/* Reads the upload into the project's form at `out`; *arch is what it turned out to be. */
static int convert(struct http_request *req, const struct import *in, const char *out, const struct net_arch **arch,
                   struct http_response *resp, struct err *e)
{
    const struct api_host *host = &req->api->cfg.host;
    struct registry_model m = {0};
    struct model *opened = NULL;
    const char *path = upload_file(req, "weights")->path;
    int rc = registry_model(req->api->cfg.store, in->model, &m, e);
    if (rc == 0 && in->arch && strcmp(m.arch, in->arch) != 0)
        rc = problem_set(resp, e, 422, "wrong_architecture", "model '%s' is of architecture %s, not %s", m.id, m.arch,
                         in->arch);
    else if (rc == ERR_NOTFOUND || rc == 0)
        rc = host->weights(host->arg, path, m.arch ? m.arch : in->arch, out, e);
    registry_model_fini(&m);
    if (rc == ERR_CORRUPT) {
        char why[sizeof(e->msg)];
        snprintf(why, sizeof(why), "%s", e->msg);
        return problem_set(resp, e, 422, "bad_weights", "%s", why);
    }
    if (rc == 0) /* our own format, written a moment ago */
        rc = model_open(out, (struct tensor_device){.type = TENSOR_CPU}, &opened, e);
    *arch = rc == 0 ? model_info(opened)->arch : NULL;
    model_close(opened);
    return rc;
}

static int store_import(struct http_request *req, const struct import *in, const char *path,
                        const struct net_arch *arch, struct registry_version *v, bool *existed, struct err *e)
{
    const struct api_config *cfg = &req->api->cfg;
    char sha256[SHA256_HEX_SIZE];
    struct model_meta meta = {
        .name = in->model, .version = in->version ? in->version : "", .arch = arch, .input_px = (int)in->input_px};
    int rc = sha256_file_hex(path, sha256, e);
    char *info = rc ? NULL : model_describe(&meta, sha256, e);
    if (!info)
        return e->code;
    struct registry_new n = {
        .model = in->model, .arch = arch->name, .version = in->version, .origin = "import", .info = info};
    rc = registry_add(cfg->store, cfg->blobs, path, true, &n, v, existed, e);
    free(info);
    return rc;
}

int route_import_version(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct import in;
    struct registry_version v = {0};
    const struct net_arch *arch = NULL;
    char out[FS_PATH_MAX] = "";
    bool existed = false;
    int rc = read_import(req, &in, e);
    if (rc == 0 && !upload_file(req, "weights"))
        rc = err_set(e, ERR_INVALID, "the request brings no weights (field 'weights')");
    if (rc == 0)
        rc = blobs_temp(req->api->cfg.blobs, out, e);
    if (rc == 0)
        rc = convert(req, &in, out, &arch, resp, e);
    if (rc == 0)
        rc = store_import(req, &in, out, arch, &v, &existed, e);
    if (rc == 0) {
        log_info(LOG_MSG("model imported"), LOG_STR("model", v.model_id), LOG_STR("version", v.version),
                 LOG_STR("sha256", v.sha256));
        http_set_header(resp, "Location", "/v1/models/%s/versions/%s", v.model_id, v.version);
        rc = json_response(resp, existed ? 200 : 201, version_json(&v), e);
    }
    if (out[0])
        unlink(out);
    registry_version_fini(&v);
    return rc;
}

/* ---- aliases -------------------------------------------------------------------------------------------------------- */

/* If-Match: "GENERATION" and If-None-Match: * as the generation that must be there. */
static int wanted_generation(const struct http_request *req, int64_t *out, struct err *e)
{
    const char *match = http_header(req, "If-Match"), *none = http_header(req, "If-None-Match");
    char *end = NULL;
    *out = 0;
    if (none)
        *out = strcmp(none, "*") == 0 ? -1 : 0;
    if (none && *out == 0)
        return err_set(e, ERR_INVALID, "If-None-Match takes *");
    if (!match || strcmp(match, "*") == 0)
        return 0;
    if (match[0] == '"')
        *out = strtoll(match + 1, &end, 10);
    return end && strcmp(end, "\"") == 0 && *out > 0
               ? 0
               : err_set(e, ERR_INVALID, "If-Match takes one generation in quotes");
}

static int text_member(const json_t *doc, const char *name, size_t max, const char **out, struct err *e)
{
    const json_t *v = json_object_get(doc, name);
    *out = json_string_value(v);
    if (v && !json_is_null(v) && (!*out || strlen(*out) == 0 || strlen(*out) > max))
        return err_set(e, ERR_INVALID, "'%s' must be a text of 1 to %zu bytes", name, max);
    return 0;
}

static int answer_alias(const struct http_request *req, int rc, const struct registry_alias *a, int64_t generation,
                        struct http_response *resp, struct err *e)
{
    if (rc == ERR_CONFLICT && generation) {
        char why[sizeof(e->msg)];
        snprintf(why, sizeof(why), "%s", e->msg);
        return problem_set(resp, e, 412, "precondition_failed", "%s", why);
    }
    if (rc)
        return rc;
    log_info(LOG_MSG("alias set"), LOG_STR("model", a->model_id), LOG_STR("alias", a->alias),
             LOG_STR("version", a->version), LOG_STR("peer", req->peer ? req->peer : ""));
    http_set_header(resp, "ETag", "\"%lld\"", (long long)a->generation);
    return json_response(resp, 200, alias_json(a), e);
}

int route_set_alias(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const members[] = {"version", "reason", NULL};
    struct registry_move m = {
        .model = http_path_param(req, "m"), .alias = http_path_param(req, "a"), .actor = request_tenant(req)};
    struct registry_alias a = {0};
    json_t *doc = payload_object(req, e);
    int rc = doc ? params_check(req, no_params, e) : e->code;
    if (rc == 0)
        rc = payload_members(doc, "an alias", members, e);
    if (rc == 0)
        rc = text_member(doc, "version", REGISTRY_NAME_MAX, &m.version, e);
    if (rc == 0)
        rc = text_member(doc, "reason", REASON_MAX_BYTES, &m.reason, e);
    if (rc == 0 && !m.version)
        rc = err_set(e, ERR_INVALID, "say which version: {\"version\": \"3\"}");
    if (rc == 0)
        rc = wanted_generation(req, &m.generation, e);
    if (rc == 0) {
        rc = registry_set(req->api->cfg.store, &m, &a, e);
        rc = answer_alias(req, rc, &a, m.generation, resp, e);
    }
    registry_alias_fini(&a);
    json_decref(doc);
    return rc;
}

int route_rollback_alias(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const members[] = {"alias", "reason", NULL};
    struct registry_move m = {.model = http_path_param(req, "m"), .actor = request_tenant(req)};
    struct registry_model model = {0};
    struct registry_alias a = {0};
    json_t *doc = payload_object(req, e);
    int rc = doc ? params_check(req, no_params, e) : e->code;
    if (rc == 0)
        rc = payload_members(doc, "a rollback", members, e);
    if (rc == 0)
        rc = text_member(doc, "alias", REGISTRY_NAME_MAX, &m.alias, e);
    if (rc == 0)
        rc = text_member(doc, "reason", REASON_MAX_BYTES, &m.reason, e);
    if (rc == 0)
        rc = wanted_generation(req, &m.generation, e);
    if (rc == 0)
        rc = registry_model(req->api->cfg.store, m.model, &model, e);
    if (rc == 0) {
        m.alias = m.alias ? m.alias : REGISTRY_CHAMPION;
        rc = registry_rollback(req->api->cfg.store, &m, &a, e);
        rc = answer_alias(req, rc, &a, m.generation, resp, e);
    }
    registry_alias_fini(&a);
    registry_model_fini(&model);
    json_decref(doc);
    return rc;
}
