/* POST .../propagate: the job that makes labels for the frames between a clip's keyframes. One at a time for a clip. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/lookup.h"
#include "api/payload.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/submit.h"
#include "api/upload.h"
#include "core/flow/flow.h"

static const char *const no_params[] = {NULL};

static int check_flow(const char *spec, struct http_response *resp, struct err *e)
{
    struct flow *f = NULL;
    struct err why = {0};
    int rc = flow_open(spec, &f, &why);
    flow_close(f);
    return rc == 0 ? 0 : problem_set(resp, e, 422, "no_such_flow", "%.300s", why.msg);
}

static int check_range(const json_t *range, int64_t frames, struct err *e)
{
    if (!range)
        return 0;
    json_int_t from = json_integer_value(json_array_get(range, 0)), to = json_integer_value(json_array_get(range, 1));
    bool whole = json_array_size(range) == 2 && json_is_integer(json_array_get(range, 0)) &&
                 json_is_integer(json_array_get(range, 1));
    if (whole && from >= 0 && from <= to && to < frames)
        return 0;
    return err_set(e, ERR_INVALID, "'frames' must be [from, to] with 0 <= from <= to <= %lld", (long long)frames - 1);
}

/* The job's parameters: what the client sent, checked, with the project and the clip. */
static int propagate_params(struct http_request *req, const struct clip_record *clip, char **out,
                            struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"flow", "model", "frames", NULL};
    json_t *body = payload_object(req, e);
    if (!body)
        return ERR_INVALID;
    const json_t *flow = json_object_get(body, "flow"), *model = json_object_get(body, "model");
    int rc = payload_members(body, "a propagation", names, e);
    if (rc == 0 && ((flow && !json_is_string(flow)) || (model && !json_is_string(model))))
        rc = err_set(e, ERR_INVALID, "'flow' and 'model' must be strings");
    if (rc == 0 && flow)
        rc = check_flow(json_string_value(flow), resp, e);
    if (rc == 0 && model && strcmp(json_string_value(model), "none") != 0)
        rc = lookup_model(req, json_string_value(model), resp, e);
    if (rc == 0)
        rc = check_range(json_object_get(body, "frames"), clip->frames, e);
    if (rc == 0) {
        json_object_set_new(body, "project", json_string(http_path_param(req, "p")));
        json_object_set_new(body, "clip", json_string(clip->id));
        *out = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
        rc = *out ? 0 : err_set(e, ERR_NOMEM, "no memory for the job");
    }
    json_decref(body);
    return rc;
}

/* A clip is propagated by one job at a time: 1 and the job that waits already, 0 none, 409 when one runs. */
static int find_propagation(struct http_request *req, const struct clip_record *clip, struct job *out,
                            struct http_response *resp, struct err *e)
{
    int rc = project_propagation(req->api->cfg.store, http_path_param(req, "p"), clip->id, out, e);
    if (rc != 1 || strcmp(out->state, "queued") == 0)
        return rc;
    http_set_header(resp, "Location", "/v1/jobs/%s", out->id);
    return problem_set(resp, e, 409, "already_running", "job %s is propagating this clip", out->id);
}

static int check_keyframes(struct http_request *req, const struct clip_record *clip, struct http_response *resp,
                           struct err *e)
{
    struct mask_list l;
    int rc = mask_list(req->api->cfg.store, http_path_param(req, "p"), clip->id, &l, e);
    bool none = l.n == 0;
    mask_list_fini(&l);
    return rc == 0 && none ? problem_set(resp, e, 409, "no_keyframes", "the clip has no keyframe to propagate from")
                           : rc;
}

/* Of two requests at once that both found no job, the later job gives way. */
static int settle(struct http_request *req, const struct clip_record *clip, struct job *job, struct err *e)
{
    struct job first;
    struct store *s = req->api->cfg.store;
    int rc = project_propagation(s, http_path_param(req, "p"), clip->id, &first, e);
    if (rc == 1 && strcmp(first.id, job->id) < 0 && job_cancel(s, job->id, NULL, NULL) == 0) {
        job_fini(job);
        *job = first;
        return 0;
    }
    job_fini(&first);
    return rc < 0 ? rc : 0;
}

static int queue_propagation(struct http_request *req, const struct clip_record *clip, struct job *job,
                             struct http_response *resp, struct err *e)
{
    char *params = NULL;
    int rc = propagate_params(req, clip, &params, resp, e);
    if (rc == 0)
        rc = check_keyframes(req, clip, resp, e);
    if (rc == 0)
        rc = find_propagation(req, clip, job, resp, e);
    if (rc == 0)
        rc = api_admit_job(req->api, resp, e);
    else if (rc == 1)
        goto out;
    if (rc == 0) {
        struct job_new n = {.kind = JOB_propagate,
                            .params = params,
                            .clip_id = clip->id,
                            .project_id = http_path_param(req, "p"),
                            .progress_total = clip->frames};
        rc = submit_job(req, &n, clip->sha256, job, resp, e);
    }
    if (rc == 0)
        rc = settle(req, clip, job, e);
out:
    free(params);
    return rc < 0 ? rc : 0;
}

int route_propagate(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    struct job job = {0};
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = lookup_project_clip(req, &clip, e);
    if (rc == 0)
        rc = queue_propagation(req, &clip, &job, resp, e);
    if (rc == 0)
        rc = submit_accepted(req, &job, resp, e);
    job_fini(&job);
    clip_record_fini(&clip);
    return rc;
}
