/* POST /v1/saliency: a clip comes in, a job goes into the queue, and, when the client waits, the result goes out. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/problem.h"
#include "api/results.h"
#include "api/route.h"
#include "api/submit.h"
#include "api/upload.h"
#include "core/net/model.h"

enum offer { OFFER_JSON, OFFER_PNG, OFFER_ZIP, OFFERS };
static const char *const offers[OFFERS] = {"application/json", "image/png", "application/zip"};

struct saliency_params {
    const char *model, *webhook_url;
    int64_t size;
    bool overlay;
};

static int check_webhook(const char *url, struct err *e)
{
    if (!url)
        return 0;
    size_t n = strlen(url);
    bool http = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    if (!http || n > 2000 || strcspn(url, " \t\r\n\"<>") != n)
        return err_set(e, ERR_INVALID, "webhook_url must be an http or https URL");
    return 0;
}

static int read_params(const struct http_request *req, struct saliency_params *p, struct http_response *resp,
                       struct err *e)
{
    static const char *const names[] = {"model", "size", "overlay", "webhook_url", "clip_id", NULL};
    *p = (struct saliency_params){.model = param_get(req, "model"), .webhook_url = param_get(req, "webhook_url")};
    if (!p->model)
        p->model = req->api->cfg.default_model;
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = param_int(req, "size", MODEL_PX_MIN, MODEL_PX_MAX, &p->size, e);
    if (rc == 0)
        rc = param_bool(req, "overlay", &p->overlay, e);
    if (rc == 0)
        rc = check_webhook(p->webhook_url, e);
    return rc == 0 ? lookup_model(req, p->model, resp, e) : rc;
}

static int queue_job(struct http_request *req, const struct saliency_params *p, const struct submitted_clip *clip,
                     struct job *job, struct http_response *resp, struct err *e)
{
    char params[80];
    snprintf(params, sizeof(params), "{\"overlay\":%s,\"size\":%lld}", p->overlay ? "true" : "false",
             (long long)p->size);
    struct job_new n = {
        .kind = JOB_saliency,
        .params = params,
        .model = p->model,
        .clip_id = clip->id,
        .new_clip = clip->made,
        .progress_total = clip->frames,
        .webhook_url = p->webhook_url,
    };
    return submit_job(req, &n, clip->sha256, job, resp, e);
}

/* The answer of a request that waited: the finished job, or the result itself when the client prefers that. */
static int answer_finished(struct http_request *req, const struct job *j, struct http_response *resp, struct err *e)
{
    int offer = negotiate_accept(http_header(req, "Accept"), offers, OFFERS);
    http_set_header(resp, "Location", "/v1/jobs/%s", j->id);
    http_set_header(resp, "Preference-Applied", "wait=%d", negotiate_wait(http_header(req, "Prefer")));
    if (offer > OFFER_JSON && strcmp(j->state, "succeeded") != 0)
        return problem_set(resp, e, 422, j->error_code ? j->error_code : j->state, "the job %s: %s", j->state,
                           j->error_message ? j->error_message : "no result");
    if (offer == OFFER_PNG)
        return results_map(req, j, 0, false, resp, e);
    if (offer == OFFER_ZIP)
        return results_zip(req, j, resp, e);
    return json_response(resp, 200, job_json(req->api->cfg.store, j), e);
}

static int respond(struct http_request *req, const char *job_id, struct http_response *resp, struct err *e)
{
    int rc = submit_wait(req, job_id, e);
    if (rc != 0)
        return rc;
    struct job j = {0};
    rc = job_get(req->api->cfg.store, job_id, &j, e);
    if (rc == 0 && req->later && job_state_final(j.state))
        rc = answer_finished(req, &j, resp, e);
    else if (rc == 0)
        rc = submit_accepted(req, &j, resp, e);
    job_fini(&j);
    return rc;
}

/* What the client accepts must be possible before work is spent on it: a PNG is the map of a single picture. */
static int check_accept(const struct http_request *req, const struct submitted_clip *clip, struct http_response *resp,
                        struct err *e)
{
    int offer = negotiate_accept(http_header(req, "Accept"), offers, OFFERS);
    if (negotiate_wait(http_header(req, "Prefer")) == 0 || offer == OFFER_JSON || offer == OFFER_ZIP)
        return 0;
    if (offer == OFFER_PNG && clip->frames == 1)
        return 0;
    return problem_set(resp, e, 406, "not_acceptable",
                       offer == OFFER_PNG ? "image/png is the result of a single image; this clip has more frames"
                                          : "results come as application/json, application/zip or image/png");
}

int route_create_saliency(struct http_request *req, struct http_response *resp, struct err *e)
{
    if (submit_waited(req))
        return respond(req, submit_waited(req), resp, e);
    struct saliency_params p;
    struct submitted_clip clip = {0};
    struct job job = {0};
    int rc = read_params(req, &p, resp, e);
    if (rc == 0)
        rc = submit_job_clip(req, &clip, resp, e);
    if (rc == 0)
        rc = check_accept(req, &clip, resp, e);
    if (rc == 0)
        rc = queue_job(req, &p, &clip, &job, resp, e);
    if (rc == 0)
        rc = respond(req, job.id, resp, e);
    job_fini(&job);
    submitted_clip_fini(&clip);
    return rc;
}
