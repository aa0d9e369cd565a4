/* A request from its headers to its end: match, take the body, run the handler, turn errors into problems, count and
 * log. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "api/assets.h"
#include "api/body.h"
#include "api/context.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/trace.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define CHECK_MS 2000

int api_new(const struct api_config *cfg, struct api **out, struct err *e)
{
    struct api *api = calloc(1, sizeof(*api));
    if (!api)
        return err_set(e, ERR_NOMEM, "no memory for the service");
    api->cfg = *cfg;
    atomic_store(&api->worker_seen_ms, INT64_MIN / 2);
    api->metrics = metrics_new();
    api->access = access_new(cfg->open, cfg->local);
    int rc = api->metrics && api->access ? access_refresh(api->access, cfg->store, e)
                                         : err_set(e, ERR_NOMEM, "no memory for the service");
    if (rc == 0)
        rc = watch_new(cfg->store, cfg->max_streams, &api->watch, e);
    if (rc < 0) {
        api_free(api);
        return rc;
    }
    api_refresh(api);
    *out = api;
    return 0;
}

void api_free(struct api *api)
{
    if (!api)
        return;
    watch_free(api->watch);
    metrics_free(api->metrics);
    access_free(api->access);
    free(api);
}

void api_drain(struct api *api)
{
    watch_drain(api->watch);
}

/* Whether the store takes writes, found out by writing: seldom while it does, for the disk makes submissions wait meanwhile. */
static int check_writable(struct api *api, struct err *e)
{
    int64_t now = clock_mono_ms();
    if (atomic_load(&api->store_ok) && now - api->checked_ms < CHECK_MS)
        return 0;
    api->checked_ms = now;
    int rc = store_check(api->cfg.store, e);
    return rc == 0 ? blobs_check(api->cfg.blobs, e) : rc;
}

void api_refresh(struct api *api)
{
    struct store_counts counts;
    struct err e = {0};
    int rc = store_counts(api->cfg.store, &counts, &e);
    if (rc == 0) {
        long long queued = 0;
        for (int k = 0; k < JOB_KIND_COUNT; k++)
            queued += counts.jobs[JOB_STATE_queued][k];
        atomic_store(&api->queued, queued);
        atomic_store(&api->workers, counts.workers);
    }
    if (atomic_load(&api->workers) > 0 || api->cfg.host.workers_alive(api->cfg.host.arg) > 0)
        atomic_store(&api->worker_seen_ms, clock_mono_ms());
    if (rc == 0)
        rc = access_refresh(api->access, api->cfg.store, &e);
    if (rc == 0)
        rc = check_writable(api, &e);
    if (atomic_exchange(&api->store_ok, rc == 0) != (rc == 0))
        LOG_AT(rc == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, LOG_MSG(rc == 0 ? "store is writable" : "store fails"),
               LOG_STR("detail", rc == 0 ? "ok" : e.msg));
}

/* The answer is an error from here on; a body still to come is drained and ignored. */
static void refuse(struct http_request *req, struct http_response *resp, const struct err *e)
{
    problem_response(resp, req, e);
}

static void answer_options(struct http_response *resp, const char *allow)
{
    http_set_header(resp, "Allow", "%s", allow);
    resp->status = 204;
}

static int find_route(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct uri_path path;
    struct buf allow = BUF_INIT;
    int rc = uri_parse(req, &path, e);
    if (rc != 0)
        return rc;
    rc = route_match(req, &path, &allow);
    if (rc == ERR_NOTFOUND && req->method <= HTTP_HEAD && asset_find(req->path + 1)) {
        req->route = route_by_operation("app");
        rc = 0;
    } else if (rc == ERR_NOTFOUND) {
        err_set(e, rc, "no such resource");
    } else if (rc != 0 && req->method == HTTP_OPTIONS) {
        answer_options(resp, allow.data);
        rc = 0;
    } else if (rc != 0) {
        http_set_header(resp, "Allow", "%s", allow.data ? allow.data : "");
        rc = problem_set(resp, e, 405, "method_not_allowed", "this resource answers %s", allow.data ? allow.data : "");
    }
    buf_free(&allow);
    return rc;
}

enum api_next api_begin(struct api *api, struct http_request *req, struct http_response *resp)
{
    struct err e = {0};
    req->api = api;
    req->start_us = clock_mono_us();
    trace_begin(req, resp);
    int rc = find_route(req, resp, &e);
    if (rc == 0 && resp->status == 0)
        rc = access_check(api->access, req, resp, &e);
    if (rc == 0 && resp->status == 0 && req->route->body->begin)
        rc = req->route->body->begin(req, resp, &e);
    if (rc < 0)
        refuse(req, resp, &e);
    trace_enter(NULL);
    return resp->status ? API_RESPOND : API_BODY;
}

void api_data(struct http_request *req, struct http_response *resp, const char *data, size_t len)
{
    req->body_bytes += (int64_t)len;
    if (resp->status != 0 || !req->route->body->data)
        return;
    struct err e = {0};
    if (req->route->body->data(req, resp, data, len, &e) < 0)
        refuse(req, resp, &e);
}

bool api_is_inline(const struct http_request *req, const struct http_response *resp)
{
    return resp->status != 0 || (req->route->flags & ROUTE_INLINE);
}

bool api_is_slow(const struct http_request *req)
{
    return req->route && (req->route->flags & ROUTE_SLOW);
}

int api_run(struct http_request *req, struct http_response *resp)
{
    if (resp->status != 0)
        return 0;
    struct err e = {0};
    trace_enter(req);
    int rc = 0;
    if (!req->later && req->route->body->finish)
        rc = req->route->body->finish(req, resp, &e);
    if (rc == 0)
        rc = req->route->handle(req, resp, &e);
    if (rc < 0)
        refuse(req, resp, &e);
    BUG_ON(rc == 0 && resp->status == 0);
    trace_enter(NULL);
    return rc == HTTP_LATER ? HTTP_LATER : 0;
}

static void free_request(struct http_request *req)
{
    if (req->later_free)
        req->later_free(req->later);
    if (req->body)
        req->body->ops->free(req->body);
    free(req->mem);
    free(req->tenant);
    free(req->actor);
    req->later = NULL;
    req->body = NULL;
    req->mem = req->tenant = req->actor = NULL;
}

void api_end(struct http_request *req, struct http_response *resp, int64_t sent_bytes, bool completed)
{
    int64_t us = clock_mono_us() - req->start_us;
    metrics_request(req->api->metrics, req->route, resp->status, us, req->body_bytes, sent_bytes);
    bool quiet = req->route && (req->route->flags & ROUTE_INLINE) && resp->status < 400;
    LOG_AT(quiet ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, LOG_MSG(completed ? "request" : "request cut off"),
           LOG_STR("request_id", req->id), LOG_STR("traceparent", req->traceparent),
           LOG_STR("method", http_method_name(req->method)), LOG_STR("path", req->path ? req->path : "?"),
           LOG_INT("status", resp->status), LOG_FLOAT("ms", (double)us / 1e3), LOG_INT("in", req->body_bytes),
           LOG_INT("out", sent_bytes), LOG_STR("peer", req->peer), LOG_STR("key", req->actor));
    free_request(req);
    http_response_reset(resp);
}
