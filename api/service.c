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
    if (host->workers_alive(host->arg) == 0)
        return problem_set(resp, e, 503, "no_worker", "no worker is running");
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, 200, json_pack("{s:s}", "status", "ready"), e);
}

int route_version(struct http_request *req, struct http_response *resp, struct err *e)
{
    (void)req;
    return json_response(resp, 200, json_pack("{s:s, s:s}", "name", "salient", "version", SALIENT_VERSION), e);
}

int route_metrics(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct api *api = req->api;
    struct buf out = BUF_INIT;
    metrics_write(api->metrics, &out);
    metrics_gauge(&out, "salient_workers", "Worker processes of this service that run.",
                  api->cfg.host.workers_alive(api->cfg.host.arg));
    metrics_gauge(&out, "salient_http_connections", "Open client connections.",
                  api->cfg.host.connections(api->cfg.host.arg));
    resp->status = 200;
    return http_set_buf(resp, "text/plain; version=0.0.4; charset=utf-8", &out, e);
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
