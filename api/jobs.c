/* /v1/jobs: documents, cancel, delete, the list, and the event stream. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/upload.h"

int route_get_job(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j;
    int rc = lookup_job(req, resp, &j, e);
    if (rc == 0) {
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, job_json(req->api->cfg.store, &j), e);
    }
    job_fini(&j);
    return rc;
}

static int read_filter(const struct http_request *req, struct job_filter *f, int64_t *limit, struct err *e)
{
    static const char *const names[] = {"limit", "cursor", "state", "kind", NULL};
    const char *state = param_get(req, "state"), *kind = param_get(req, "kind"), *tenant = request_tenant(req);
    int s = state ? job_state_parse(state) : 0, k = kind ? job_kind_parse(kind) : 0;
    *f = (struct job_filter){.states = state && s >= 0 ? 1u << s : 0,
                             .kinds = kind && k >= 0 ? 1u << k : 0,
                             .tenant = tenant[0] ? tenant : NULL};
    if (s < 0)
        return err_set(e, ERR_INVALID, "'%.40s' is not a job state", state);
    if (k < 0)
        return err_set(e, ERR_INVALID, "'%.40s' is not a kind of job", kind);
    int rc = params_check(req, names, e);
    return rc == 0 ? param_int(req, "limit", 1, 1000, limit, e) : rc;
}

int route_list_jobs(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job_filter f;
    struct job_list list = {0};
    int64_t limit = 50;
    struct store *store = req->api->cfg.store;
    int rc = read_filter(req, &f, &limit, e);
    if (rc == 0)
        rc = job_list(store, &f, param_get(req, "cursor"), (int)limit, &list, e);
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < list.n; i++)
            json_array_append_new(items, job_json(store, &list.items[i]));
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, json_pack("{s:o, s:s?}", "items", items, "next_cursor", list.next_cursor), e);
    }
    job_list_fini(&list);
    return rc;
}

int route_cancel_job(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j, after = {0};
    int rc = lookup_job(req, resp, &j, e);
    if (rc == 0)
        rc = job_cancel(req->api->cfg.store, j.id, &after, e);
    if (rc == 0)
        rc = json_response(resp, 200, job_json(req->api->cfg.store, &after), e);
    job_fini(&after);
    job_fini(&j);
    return rc;
}

int route_delete_job(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j;
    int rc = lookup_job(req, resp, &j, e);
    if (rc == 0)
        rc = job_delete(req->api->cfg.store, j.id, e);
    if (rc == 0)
        resp->status = 204;
    job_fini(&j);
    return rc;
}

/* Where a client that lost its connection goes on; a foreign value starts from the beginning. */
static int64_t last_event(const struct http_request *req)
{
    const char *text = http_header(req, "Last-Event-ID");
    if (!text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 15)
        return 0;
    return strtoll(text, NULL, 10);
}

static int open_stream(struct http_request *req, const struct job *j, struct http_response *resp, struct err *e)
{
    const struct api_host *host = &req->api->cfg.host;
    struct watcher *watcher;
    if (host->draining(host->arg))
        return problem_set(resp, e, 503, "draining", "the service is shutting down");
    int rc = watch_stream(req->api->watch, req, j->id, last_event(req), &watcher, e);
    if (rc < 0)
        return rc;
    struct http_stream s = {.arg = watcher, .len = -1, .read = watch_read, .close = watch_drop};
    http_set_stream(resp, "text/event-stream", &s);
    http_set_header(resp, "Cache-Control", "no-store");
    http_set_header(resp, "X-Accel-Buffering", "no");
    resp->status = 200;
    return 0;
}

int route_job_events(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j;
    int rc = lookup_job(req, resp, &j, e);
    if (rc == 0 && job_state_final(j.state) && last_event(req) >= j.event_seq)
        resp->status = 204; /* tells an EventSource that has seen the end not to come back */
    else if (rc == 0)
        rc = open_stream(req, &j, resp, e);
    job_fini(&j);
    return rc;
}
