/* The service about itself: health, readiness, version, metrics, contract, and the app's files. */
#include <jansson.h>
#include <string.h>

#include "api/assets.h"
#include "api/context.h"
#include "api/json.h"
#include "api/problem.h"
#include "api/route.h"
#include "core/base/version.h"

int route_healthz(struct http_request *req, struct http_response *resp, struct err *e)
{
    (void)req;
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, 200, json_pack("{s:s}", "status", "ok"), e);
}

int route_readyz(struct http_request *req, struct http_response *resp, struct err *e)
{
    const struct api_host *host = &req->api->cfg.host;
    if (host->draining(host->arg))
        return problem_set(resp, e, 503, "draining", "the service is shutting down");
    if (host->workers_alive(host->arg) == 0 && atomic_load(&req->api->workers) == 0)
        return problem_set(resp, e, 503, "no_worker", "no worker is running");
    if (!atomic_load(&req->api->store_ok))
        return problem_set(resp, e, 503, "store_unavailable", "the database or the blobs cannot be written");
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, 200, json_pack("{s:s}", "status", "ready"), e);
}

int route_version(struct http_request *req, struct http_response *resp, struct err *e)
{
    (void)req;
    return json_response(resp, 200, json_pack("{s:s, s:s}", "name", "salient", "version", SALIENT_VERSION), e);
}

static void write_jobs(const struct store_counts *c, struct buf *out)
{
    buf_puts(out, "# HELP salient_jobs Jobs in the store, by kind and state.\n# TYPE salient_jobs gauge\n");
    for (int s = 0; s < JOB_STATE_COUNT; s++)
        for (int k = 0; k < JOB_KIND_COUNT; k++)
            buf_printf(out, "salient_jobs{kind=\"%s\",state=\"%s\"} %lld\n", job_kind_name((enum job_kind)k),
                       job_state_name((enum job_state)s), (long long)c->jobs[s][k]);
    metrics_gauge(out, "salient_queue_oldest_seconds", "Age of the oldest queued job.",
                  (double)c->oldest_queued_ms / 1e3);
    metrics_gauge(out, "salient_workers_seen", "Workers that beat lately, on any machine.", (double)c->workers);
    metrics_gauge(out, "salient_clips", "Stored clips.", (double)c->clips);
    metrics_gauge(out, "salient_clip_bytes", "Bytes of stored clips.", (double)c->clip_bytes);
    metrics_counter(out, "salient_jobs_requeued_total", "Attempts that ended and went back to the queue.",
                    (double)c->requeued);
    metrics_counter(out, "salient_lease_losses_total", "Leases that workers lost.", (double)c->lease_losses);
}

int route_metrics(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct api *api = req->api;
    const struct api_host *host = &api->cfg.host;
    struct buf out = BUF_INIT;
    struct store_counts counts;
    metrics_write(api->metrics, &out);
    metrics_gauge(&out, "salient_workers", "Local worker processes that run.", host->workers_alive(host->arg));
    metrics_gauge(&out, "salient_http_connections", "Open client connections.", host->connections(host->arg));
    metrics_gauge(&out, "salient_store_writable", "1 when the database and the blobs take writes.",
                  atomic_load(&api->store_ok));
    if (store_counts(api->cfg.store, &counts, NULL) == 0)
        write_jobs(&counts, &out);
    int64_t room = blobs_free_bytes(api->cfg.blobs);
    if (room >= 0)
        metrics_gauge(&out, "salient_storage_free_bytes", "Bytes that blobs may still take.", (double)room);
    host->metrics(host->arg, &out);
    int rc = http_set_buf(resp, "text/plain; version=0.0.4; charset=utf-8", &out, e);
    buf_free(&out);
    resp->status = rc == 0 ? 200 : 0;
    return rc;
}

/* Everything the app loads comes from this origin; nothing is inline. */
static const char csp[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
                          "media-src 'self' blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; "
                          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static int send_asset(const struct asset *a, const struct http_request *req, struct http_response *resp)
{
    const char *known = http_header(req, "If-None-Match");
    http_set_header(resp, "ETag", "%s", asset_etag(a));
    http_set_header(resp, "Cache-Control", "no-cache");
    http_set_header(resp, "Referrer-Policy", "no-referrer");
    http_set_header(resp, "Content-Security-Policy", "%s", csp);
    if (known && strstr(known, asset_etag(a))) {
        resp->status = 304;
        return 0;
    }
    resp->status = 200;
    http_set_static(resp, asset_type(a->path), a->data, (size_t)(a->end - a->data));
    return 0;
}

int route_openapi(struct http_request *req, struct http_response *resp, struct err *e)
{
    (void)e;
    return send_asset(asset_find("openapi.json"), req, resp);
}

/* "/" is index.html; any other path is looked up as it is. */
int route_app(struct http_request *req, struct http_response *resp, struct err *e)
{
    const struct asset *a = asset_find(strcmp(req->path, "/") == 0 ? "index.html" : req->path + 1);
    if (!a)
        return err_set(e, ERR_NOTFOUND, "no such resource");
    return send_asset(a, req, resp);
}
