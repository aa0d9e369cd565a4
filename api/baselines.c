/*
 * /v1/baselines: results of POST /eval kept under a name. A version is one blob, baselines/OWNER/NAME/ID.json, whose id
 * sorts by time; putting a new one changes none that is there, so history needs no table and works on every backend.
 */
#include "api/baselines.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/payload.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/upload.h"
#include "core/base/hash.h"
#include "core/metric/metric.h"
#include "core/task/evaluate.h"

enum { HISTORY_MAX = 200, TREND_METRICS_MAX = 6, OWNER_SIZE = 17 };
#define DOCUMENT_BYTES_MAX ((size_t)16 << 20)

static const char *const no_params[] = {NULL};

/* ---- keys ---------------------------------------------------------------------------------------------------------------- */

/* baselines/OWNER/NAME/; name NULL: baselines/OWNER/. */
static int make_prefix(const struct http_request *req, const char *name, char out[BLOB_KEY_MAX], struct err *e)
{
    const char *tenant = request_tenant(req);
    char owner[SHA256_HEX_SIZE] = "all";
    if (tenant[0]) {
        sha256_hex(tenant, strlen(tenant), owner);
        owner[OWNER_SIZE - 1] = '\0';
    }
    if (name && lookup_name(name, "a baseline's", e) < 0)
        return ERR_INVALID;
    snprintf(out, BLOB_KEY_MAX, name ? "baselines/%s/%s/" : "baselines/%s/", owner, name);
    return 0;
}

/* Versions seen in a walk, oldest first. */
struct versions {
    struct version {
        char *key;
        int64_t modified_ms;
    } * v;
    size_t n, cap;
};

static void versions_free(struct versions *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].key);
    free(l->v);
}

static int add_version(void *arg, const char *key, const struct blob_stat *st)
{
    struct versions *l = arg;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct version *v = realloc(l->v, cap * sizeof(*v));
        if (!v)
            return ERR_NOMEM;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n] = (struct version){strdup(key), st->modified_ms};
    return l->v[l->n].key ? (l->n++, 0) : ERR_NOMEM;
}

/* All versions below a prefix, in the order of their keys. */
static int list_versions(struct http_request *req, const char *name, struct versions *l, struct err *e)
{
    char prefix[BLOB_KEY_MAX];
    *l = (struct versions){0};
    int rc = make_prefix(req, name, prefix, e);
    if (rc == 0)
        rc = blob_list(req->api->cfg.blobs, prefix, add_version, l, e);
    if (rc == ERR_NOMEM)
        err_set(e, rc, "no memory to list baselines");
    if (rc == 0 && name && l->n == 0)
        rc = err_set(e, ERR_NOTFOUND, "there is no baseline '%s'", name);
    return rc;
}

int baseline_load(struct http_request *req, const char *name, struct buf *out, struct err *e)
{
    struct versions l;
    int rc = list_versions(req, name, &l, e);
    if (rc == 0)
        rc = blob_get(req->api->cfg.blobs, l.v[l.n - 1].key, DOCUMENT_BYTES_MAX, out, e);
    versions_free(&l);
    return rc;
}

/* ---- documents ------------------------------------------------------------------------------------------------------------ */

/* "ID" of .../ID.json */
static const char *version_id(const char *key, char out[ID_SIZE])
{
    const char *file = strrchr(key, '/') + 1;
    snprintf(out, ID_SIZE, "%.*s", (int)strcspn(file, "."), file);
    return out;
}

/* What a list or a trend plot needs of one version. */
static json_t *summary(const char *name, const char *id, int64_t created_ms, const json_t *doc)
{
    json_t *protocol = json_object_get(doc, "protocol"), *overall = json_object_get(doc, "overall");
    return json_pack("{s:s, s:s, s:o, s:O?, s:O?}", "name", name, "version", id, "created_at", time_json(created_ms),
                     "protocol", protocol, "overall", overall);
}

int route_put_baseline(struct http_request *req, struct http_response *resp, struct err *e)
{
    const struct buf *text = payload_bytes(req);
    const char *name = http_path_param(req, "name");
    char prefix[BLOB_KEY_MAX], key[BLOB_KEY_MAX + ID_SIZE + 8], id[ID_SIZE];
    struct blob_stat st;
    struct versions before = {0};
    json_error_t je;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = make_prefix(req, name, prefix, e);
    if (rc)
        return rc;
    json_t *doc = json_loadb(text->data ? text->data : "", text->len, JSON_REJECT_DUPLICATES, &je);
    if (!doc || !json_is_object(json_object_get(doc, "overall"))) {
        json_decref(doc);
        return err_set(e, ERR_INVALID, "a baseline is the JSON that POST /eval answers, with an \"overall\" object");
    }
    rc = blob_list(req->api->cfg.blobs, prefix, add_version, &before, e);
    id_new(id);
    snprintf(key, sizeof(key), "%s%s.json", prefix, id);
    if (rc == 0)
        rc = blob_put(req->api->cfg.blobs, key, text->data, text->len, e);
    if (rc == 0)
        rc = blob_stat(req->api->cfg.blobs, key, &st, e);
    if (rc == 0) {
        http_set_header(resp, "Location", "/v1/baselines/%s", name);
        rc = json_response(resp, before.n ? 200 : 201, summary(name, id, st.modified_ms, doc), e);
    }
    versions_free(&before);
    json_decref(doc);
    return rc;
}

int route_get_baseline(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct buf b = BUF_INIT;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = baseline_load(req, http_path_param(req, "name"), &b, e);
    if (rc == 0)
        rc = http_set_buf(resp, "application/json", &b, e);
    if (rc == 0)
        resp->status = 200;
    buf_free(&b);
    return rc;
}

int route_delete_baseline(struct http_request *req, struct http_response *resp, struct err *e)
{
    char prefix[BLOB_KEY_MAX];
    int64_t n = 0;
    const char *name = http_path_param(req, "name");
    int rc = make_prefix(req, name, prefix, e);
    if (rc == 0)
        rc = blob_delete_prefix(req->api->cfg.blobs, prefix, &n, e);
    if (rc == 0 && n == 0)
        rc = err_set(e, ERR_NOTFOUND, "there is no baseline '%s'", name);
    if (rc == 0)
        resp->status = 204;
    return rc;
}

static int add_history(struct http_request *req, const char *name, const struct version *v, json_t *items,
                       struct err *e)
{
    struct buf b = BUF_INIT;
    char id[ID_SIZE];
    int rc = blob_get(req->api->cfg.blobs, v->key, DOCUMENT_BYTES_MAX, &b, e);
    json_t *doc = rc == 0 ? json_loadb(b.data, b.len, 0, NULL) : NULL;
    if (rc == 0)
        json_array_append_new(items, summary(name, version_id(v->key, id), v->modified_ms, doc));
    json_decref(doc);
    buf_free(&b);
    return rc;
}

/* Oldest first, as a plot is drawn; the newest HISTORY_MAX. */
static int load_history(struct http_request *req, const char *name, json_t *items, struct err *e)
{
    struct versions l = {0};
    int rc = list_versions(req, name, &l, e);
    for (size_t i = l.n > HISTORY_MAX ? l.n - HISTORY_MAX : 0; rc == 0 && i < l.n; i++)
        rc = add_history(req, name, &l.v[i], items, e);
    versions_free(&l);
    return rc;
}

int route_get_baseline_history(struct http_request *req, struct http_response *resp, struct err *e)
{
    json_t *items = json_array();
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = load_history(req, http_path_param(req, "name"), items, e);
    if (rc == 0)
        rc = json_response(resp, 200, json_pack("{s:O, s:n}", "items", items, "next_cursor"), e);
    json_decref(items);
    return rc;
}

/* Length of the key up to and including its baseline's folder. */
static size_t folder_bytes(const char *key)
{
    return (size_t)(strrchr(key, '/') - key) + 1;
}

int route_list_baselines(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct versions l = {0};
    json_t *items = json_array();
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = list_versions(req, NULL, &l, e);
    for (size_t i = 0, first = 0; rc == 0 && i < l.n; i++) {
        size_t n = folder_bytes(l.v[i].key);
        if (i + 1 < l.n && strncmp(l.v[i].key, l.v[i + 1].key, n) == 0)
            continue;
        l.v[i].key[n - 1] = '\0';
        json_array_append_new(items,
                              json_pack("{s:s, s:I, s:o}", "name", strrchr(l.v[i].key, '/') + 1, "versions",
                                        (json_int_t)(i + 1 - first), "updated_at", time_json(l.v[i].modified_ms)));
        first = i + 1;
    }
    if (rc == 0)
        rc = json_response(resp, 200, json_pack("{s:O, s:n}", "items", items, "next_cursor"), e);
    json_decref(items);
    versions_free(&l);
    return rc;
}

/* ---- plots ---------------------------------------------------------------------------------------------------------------- */

int route_get_baseline_curves(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct buf b = BUF_INIT, svg = BUF_INIT;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = baseline_load(req, http_path_param(req, "name"), &b, e);
    if (rc == 0 && (rc = evaluate_plot_report(b.data, b.len, &svg, e)) == ERR_INVALID)
        rc = problem_set(resp, e, 404, "no_curves", "this baseline was stored without its curves");
    if (rc == 0)
        rc = http_set_buf(resp, "image/svg+xml", &svg, e);
    if (rc == 0)
        resp->status = 200;
    buf_free(&b);
    buf_free(&svg);
    return rc;
}

struct trend {
    char metrics[TREND_METRICS_MAX][32];
    size_t n;
    double value[TREND_METRICS_MAX][HISTORY_MAX];
};

static int trend_metrics(const char *list, struct trend *t, struct err *e)
{
    for (const char *p = list;; p++) {
        size_t n = strcspn(p, ",");
        if (metric_find(p, n) < 0)
            return err_set(e, ERR_INVALID, "'%.*s' is not a metric", (int)(n < 60 ? n : 60), p);
        if (t->n == TREND_METRICS_MAX)
            return err_set(e, ERR_INVALID, "at most %d metrics fit a plot", TREND_METRICS_MAX);
        snprintf(t->metrics[t->n++], sizeof(t->metrics[0]), "%.*s", (int)n, p);
        p += n;
        if (!*p)
            return 0;
    }
}

static int plot_trend(const struct trend *t, const json_t *items, struct buf *svg, struct err *e)
{
    struct evaluate_trend lines[TREND_METRICS_MAX];
    size_t n = json_array_size(items);
    for (size_t k = 0; k < t->n; k++)
        lines[k] = (struct evaluate_trend){t->metrics[k], t->value[k], n};
    const char *from = json_string_value(json_object_get(json_array_get(items, 0), "created_at"));
    const char *to = n > 1 ? json_string_value(json_object_get(json_array_get(items, n - 1), "created_at")) : "";
    return evaluate_plot_trend(lines, t->n, from ? from : "", to ? to : "", svg, e);
}

int route_get_baseline_trend(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"metrics", NULL};
    const char *list = param_get(req, "metrics");
    json_t *items = json_array();
    struct buf svg = BUF_INIT;
    struct trend *t = calloc(1, sizeof(*t));
    int rc = items && t ? params_check(req, names, e) : err_set(e, ERR_NOMEM, "no memory for the plot");
    if (rc == 0)
        rc = trend_metrics(list ? list : "s_measure,max_f,weighted_f,mae", t, e);
    if (rc == 0)
        rc = load_history(req, http_path_param(req, "name"), items, e);
    for (size_t i = 0; rc == 0 && i < json_array_size(items); i++)
        for (size_t k = 0; k < t->n; k++) {
            const json_t *v = json_object_get(json_object_get(json_array_get(items, i), "overall"), t->metrics[k]);
            t->value[k][i] = json_is_number(v) ? json_number_value(v) : NAN;
        }
    if (rc == 0)
        rc = plot_trend(t, items, &svg, e);
    if (rc == 0)
        rc = http_set_buf(resp, "image/svg+xml", &svg, e);
    if (rc == 0)
        resp->status = 200;
    json_decref(items);
    free(t);
    buf_free(&svg);
    return rc;
}
