/* POST /v1/projects/{p}/retrain: the job that makes a better detector from a project's labels. One at a time for a project. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/lookup.h"
#include "api/payload.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/submit.h"
#include "api/upload.h"
#include "core/store/registry.h"
#include "core/task/retrain.h"

/* retrain_members, and what is not the task's business */
enum { MEMBERS_MAX = 24 };

static int check_members(const json_t *body, struct err *e)
{
    const char *names[MEMBERS_MAX] = {"model"};
    size_t n = 1;
    for (size_t i = 0; retrain_members[i]; i++) {
        BUG_ON(n + 1 == MEMBERS_MAX);
        names[n++] = retrain_members[i];
    }
    return payload_members(body, "a retraining", names, e);
}

/* A model, not a version: what is trained further is its champion. */
static int read_model(struct http_request *req, const json_t *body, char out[REGISTRY_NAME_MAX + 1],
                      struct http_response *resp, struct err *e)
{
    const json_t *v = json_object_get(body, "model");
    const char *given = json_string_value(v), *def = req->api->cfg.default_model;
    struct registry_model m = {0};
    if (v && (!given || !registry_name_valid(given)))
        return err_set(e, ERR_INVALID, "'model' must be the name of a model, without a version");
    snprintf(out, REGISTRY_NAME_MAX + 1, "%.*s", given ? REGISTRY_NAME_MAX : (int)strcspn(def, "@:"),
             given ? given : def);
    int rc = registry_model(req->api->cfg.store, out, &m, e);
    const struct net_arch *a = rc == 0 ? net_arch_find(m.arch) : NULL;
    if (rc == ERR_NOTFOUND)
        rc = problem_set(resp, e, 422, "no_such_model", "there is no model '%s'", out);
    else if (rc == 0 && (!a || a->in_channels != 3))
        rc = problem_set(resp, e, 422, "not_a_detector", "model '%s' (%s) is not a detector", out, m.arch);
    registry_model_fini(&m);
    return rc;
}

static int check_labels(struct http_request *req, const char *project_id, struct http_response *resp, struct err *e)
{
    struct project_counts c;
    int rc = project_count(req->api->cfg.store, project_id, NULL, &c, e);
    return rc == 0 && c.keyframes + c.accepted < 2
               ? problem_set(
                     resp, e, 409, "too_few_labels",
                     "the project has %lld keyframes and accepted labels; training needs some to learn from and "
                     "some to measure with",
                     (long long)c.keyframes + (long long)c.accepted)
               : rc;
}

static int queue_training(struct http_request *req, const struct project_record *p, const json_t *body, struct job *job,
                          struct http_response *resp, struct err *e)
{
    char model[REGISTRY_NAME_MAX + 1];
    struct buf params = BUF_INIT;
    int rc = check_members(body, e);
    if (rc == 0)
        rc = read_model(req, body, model, resp, e);
    if (rc == 0)
        rc = retrain_params(p, body, &params, e);
    if (rc == 0)
        rc = check_labels(req, p->id, resp, e);
    if (rc == 0)
        rc = api_admit_job(req->api, resp, e);
    if (rc == 0) {
        struct job_new n = {.kind = JOB_train,
                            .params = params.data,
                            .model = model,
                            .project_id = p->id,
                            .priority = RETRAIN_PRIORITY,
                            .max_attempts = RETRAIN_ATTEMPTS};
        rc = submit_job(req, &n, p->id, job, resp, e);
    }
    if (rc == ERR_EXISTS) {
        char why[sizeof(e->msg)];
        snprintf(why, sizeof(why), "%s", e->msg);
        rc = problem_set(resp, e, 409, "already_training", "%s", why);
    }
    buf_free(&params);
    return rc;
}

int route_retrain(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const no_params[] = {NULL};
    struct project_record p = {0};
    struct job job = {0};
    json_t *body = NULL;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = lookup_project(req, &p, e);
    if (rc == 0 && !(body = payload_object(req, e)))
        rc = e->code;
    if (rc == 0)
        rc = queue_training(req, &p, body, &job, resp, e);
    if (rc == 0)
        rc = submit_accepted(req, &job, resp, e);
    json_decref(body);
    job_fini(&job);
    project_record_fini(&p);
    return rc;
}
