/*
 * Evaluations as jobs. What comes with the request (zips, a baseline) is stored below jobs/{id}/input/ before the job is
 * queued under that id, so a worker never finds it missing, and it goes when the job goes. A named baseline is copied there
 * too: what the job is compared with does not change while it waits.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/eval.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/submit.h"
#include "api/upload.h"
#include "core/base/hash.h"
#include "core/store/evalset.h"

#define WAIT_S 3600 /* a client that did not ask for a job is kept this long; then it gets the job after all */
#define REPORT_BYTES_MAX ((size_t)256 << 20)

/* ---- the job ------------------------------------------------------------------------------------------------------------ */

/* Everything the evaluation depends on, the uploaded bytes by their hash. */
static json_t *options_json(const struct eval_request *r)
{
    const struct evaluate_opts *o = &r->o;
    json_t *doc = json_pack("{s:s*, s:s*, s:s*, s:b, s:i, s:i, s:I}", "protocol", o->protocol, "min", o->min,
                            "max_drop", o->max_drop, "per_frame", o->per_frame, "worst", o->worst, "resamples",
                            o->resamples, "seed", (json_int_t)o->seed);
    for (size_t i = 0; doc && i < o->n_choices; i++)
        json_object_set_new(doc, o->choices[i].name, json_string(o->choices[i].value));
    return doc;
}

static int add_hash(json_t *params, const char *name, const char *path, struct err *e)
{
    char sha256[SHA256_HEX_SIZE];
    int rc = sha256_file_hex(path, sha256, e);
    if (rc == 0)
        json_object_set_new(params, name, json_string(sha256));
    return rc;
}

static int add_project(struct http_request *req, const struct eval_request *r, json_t *params,
                       struct http_response *resp, struct err *e)
{
    struct project_record p = {0};
    const char *tenant = request_tenant(req);
    int rc = id_valid(r->project) ? project_get(req->api->cfg.store, r->project, &p, e) : ERR_NOTFOUND;
    if (rc == 0 && tenant[0] && strcmp(p.tenant, tenant) != 0)
        rc = ERR_NOTFOUND;
    if (rc == ERR_NOTFOUND)
        rc = problem_set(resp, e, 422, "no_such_project", "there is no project '%.80s'", r->project);
    if (rc == 0) {
        json_object_set_new(params, "project", json_string(p.id));
        json_object_set_new(params, "size", json_integer(r->size));
    }
    project_record_fini(&p);
    return rc;
}

static int add_data(struct http_request *req, const struct eval_request *r, json_t *params, struct http_response *resp,
                    struct err *e)
{
    if (!r->model) {
        int rc = add_hash(params, "pred_sha256", r->o.pred, e);
        return rc == 0 ? add_hash(params, "gt_sha256", r->o.gt, e) : rc;
    }
    if (r->project)
        return add_project(req, r, params, resp, e);
    struct evalset d;
    int rc = evalset_get(req->api->cfg.store, request_tenant(req), r->dataset, &d, e);
    if (rc == ERR_NOTFOUND)
        return problem_set(resp, e, 422, "no_such_dataset", "there is no dataset '%.80s'", r->dataset);
    if (rc == 0) {
        json_object_set_new(params, "dataset", json_string(d.name));
        json_object_set_new(params, "sha256", json_string(d.sha256));
        json_object_set_new(params, "size", json_integer(r->size));
        evalset_fini(&d);
    }
    return rc;
}

static int make_params(struct http_request *req, const struct eval_request *r, char **out, struct http_response *resp,
                       struct err *e)
{
    json_t *params = json_object(), *options = options_json(r);
    int rc = params && options ? 0 : err_set(e, ERR_NOMEM, "no memory for the job");
    if (rc == 0)
        rc = add_data(req, r, params, resp, e);
    struct upload_file *sent = upload_file(req, "baseline");
    if (rc == 0 && r->o.baseline)
        json_object_set_new(params, "baseline", json_string(r->o.baseline_name));
    if (rc == 0 && sent)
        rc = add_hash(params, "baseline_sha256", sent->path, e);
    if (rc == 0) {
        json_object_set(params, "options", options);
        if (!(*out = json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS)))
            rc = err_set(e, ERR_NOMEM, "no memory for the job");
    }
    json_decref(options);
    json_decref(params);
    return rc;
}

static int put_input(struct http_request *req, const char *id, const char *name, const char *field, struct err *e)
{
    char key[BLOB_KEY_MAX];
    struct upload_file *f = upload_file(req, field);
    snprintf(key, sizeof(key), "jobs/%s/input/%s", id, name);
    int rc = blob_put_file(req->api->cfg.blobs, key, f->path, true, e);
    if (rc == 0)
        f->path[0] = '\0';
    return rc;
}

static int put_inputs(struct http_request *req, const struct eval_request *r, const char *id, struct err *e)
{
    char key[BLOB_KEY_MAX];
    int rc = 0;
    snprintf(key, sizeof(key), "jobs/%s/input/baseline.json", id);
    if (r->o.baseline)
        rc = blob_put(req->api->cfg.blobs, key, r->o.baseline, r->o.baseline_len, e);
    if (rc == 0 && !r->model)
        rc = put_input(req, id, "pred.zip", "pred", e);
    if (rc == 0 && !r->model)
        rc = put_input(req, id, "gt.zip", "gt", e);
    return rc;
}

static int queue_job(struct http_request *req, const struct eval_request *r, struct job *job,
                     struct http_response *resp, struct err *e)
{
    char id[ID_SIZE], prefix[BLOB_KEY_MAX], *params = NULL;
    id_new(id);
    snprintf(prefix, sizeof(prefix), "jobs/%s/", id);
    int rc = api_admit_job(req->api, resp, e);
    if (rc == 0)
        rc = make_params(req, r, &params, resp, e);
    if (rc == 0)
        rc = put_inputs(req, r, id, e);
    struct job_new n = {.kind = JOB_eval, .id = id, .params = params, .model = r->model, .project_id = r->project};
    if (rc == 0)
        rc = submit_job(req, &n, NULL, job, resp, e);
    if (rc < 0 || strcmp(job->id, id) != 0) /* refused, or the job of an earlier request with this key */
        blob_delete_prefix(req->api->cfg.blobs, prefix, NULL, NULL);
    free(params);
    return rc;
}

/* ---- its answer --------------------------------------------------------------------------------------------------------- */

/* The job's error as the status that the same evaluation would have had at once. */
static int explain_failure(const struct job *j, struct http_response *resp, struct err *e)
{
    static const int data[] = {ERR_INVALID, ERR_UNSUPPORTED, ERR_CORRUPT, ERR_LIMIT, ERR_NOTFOUND, ERR_TIMEOUT};
    const char *code = j->error_code ? j->error_code : j->state;
    int status = strcmp(j->state, "canceled") == 0 ? 409 : 500;
    for (size_t i = 0; i < sizeof(data) / sizeof(data[0]); i++)
        if (strcmp(err_name(data[i]), code) == 0)
            status = 422, code = "bad_data";
    http_set_header(resp, "Location", "/v1/jobs/%s", j->id);
    return problem_set(resp, e, status, code, "%s",
                       j->error_message ? j->error_message : "the evaluation was canceled");
}

static int send_report(struct http_request *req, const struct job *j, const struct evaluate_report *report,
                       bool fail_422, struct http_response *resp, struct err *e)
{
    char key[BLOB_KEY_MAX];
    struct buf b = BUF_INIT;
    snprintf(key, sizeof(key), "jobs/%s/%lld/%s", j->id, (long long)j->output_epoch, report->file);
    int rc = blob_get(req->api->cfg.blobs, key, REPORT_BYTES_MAX, &b, e);
    json_t *outputs = json_loads(j->outputs ? j->outputs : "{}", 0, NULL);
    if (rc == 0)
        rc = http_set_buf(resp, report->type, &b, e);
    if (rc == 0) {
        resp->status = fail_422 && json_is_false(json_object_get(outputs, "pass")) ? 422 : 200;
        http_set_header(resp, "Vary", "Accept");
        http_set_header(resp, "Content-Location", "/v1/jobs/%s/report", j->id);
    }
    json_decref(outputs);
    buf_free(&b);
    return rc;
}

static int respond(struct http_request *req, const struct eval_request *r, const char *job_id,
                   struct http_response *resp, struct err *e)
{
    const char *prefer = http_header(req, "Prefer");
    bool async = negotiate_async(prefer);
    int rc = submit_wait_for(req, job_id, async ? negotiate_wait(prefer) : WAIT_S, e);
    if (rc != 0)
        return rc;
    struct job j = {0};
    rc = job_get(req->api->cfg.store, job_id, &j, e);
    if (rc == 0 && (async || !job_state_final(j.state)))
        rc = submit_accepted(req, &j, resp, e);
    else if (rc == 0 && strcmp(j.state, "succeeded") != 0)
        rc = explain_failure(&j, resp, e);
    else if (rc == 0)
        rc = send_report(req, &j, r->report, r->fail_422, resp, e);
    job_fini(&j);
    return rc;
}

int eval_as_job(struct http_request *req, const struct eval_request *r, struct http_response *resp, struct err *e)
{
    if (submit_waited(req))
        return respond(req, r, submit_waited(req), resp, e);
    struct job job = {0};
    int rc = queue_job(req, r, &job, resp, e);
    if (rc == 0)
        rc = respond(req, r, job.id, resp, e);
    job_fini(&job);
    return rc;
}

int route_get_report(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct job j = {0};
    const struct evaluate_report *report = eval_negotiate(req, resp, e);
    int rc = report ? lookup_job(req, resp, &j, e) : ERR_INVALID;
    if (rc == 0 && strcmp(j.kind, "eval") != 0)
        rc = err_set(e, ERR_NOTFOUND, "only evaluations have a report; this is a %s job", j.kind);
    else if (rc == 0 && !job_state_final(j.state)) {
        resp->retry_after_s = 1;
        rc = problem_set(resp, e, 404, "not_ready", "the report is not written yet: the job is %s", j.state);
    } else if (rc == 0 && strcmp(j.state, "succeeded") != 0)
        rc = explain_failure(&j, resp, e);
    else if (rc == 0)
        rc = send_report(req, &j, report, false, resp, e);
    job_fini(&j);
    return rc;
}
