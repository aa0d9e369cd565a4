/*
 * POST /eval: two zips come in, the evaluation goes out, as core/task/evaluate makes it for the command too; how many run at
 * once is bounded. With "Prefer: respond-async", and when a stored model is to be evaluated, a worker does it (eval_job.c).
 */
#include <stdatomic.h>
#include <string.h>

#include "api/baselines.h"
#include "api/context.h"
#include "api/eval.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/upload.h"
#include "core/net/model.h"

enum { RUNNING_MAX = 2, RETRY_S = 10 };
#define PIXELS_MAX ((int64_t)16 * 1000 * 1000)
#define ZIP_BYTES_MAX ((int64_t)4 << 30)

static atomic_int running;

/* The parameters: ours, and every choice of a protocol by its name. */
static int check_names(const struct http_request *req, struct err *e)
{
    static const char *const own[] = {"protocol", "min",       "max_drop", "baseline", "on_fail", "per_frame", "worst",
                                      "seed",     "resamples", "model",    "dataset",  "project", "size"};
    enum { OWN = sizeof(own) / sizeof(own[0]) };
    const char *names[OWN + EVAL_CHOICES_MAX + 1];
    memcpy(names, own, sizeof(own));
    size_t n = OWN;
    for (size_t i = 0; i < EVAL_CHOICES_MAX && evaluate_choices[i].name; i++)
        names[n++] = evaluate_choices[i].name;
    names[n] = NULL;
    return params_check(req, names, e);
}

static int read_numbers(const struct http_request *req, struct eval_request *r, struct err *e)
{
    int64_t worst = 10, resamples = 1000, seed = 1;
    int rc = param_int(req, "worst", 0, 10000, &worst, e);
    if (rc == 0)
        rc = param_int(req, "resamples", 1, 100000, &resamples, e);
    if (rc == 0)
        rc = param_int(req, "seed", 1, INT64_MAX, &seed, e);
    if (rc == 0)
        rc = param_bool(req, "per_frame", &r->o.per_frame, e);
    if (rc == 0)
        rc = param_int(req, "size", MODEL_PX_MIN, MODEL_PX_MAX, &r->size, e);
    r->o.worst = worst ? (int)worst : -1;
    r->o.resamples = (int)resamples;
    r->o.seed = (uint64_t)seed;
    return rc;
}

/* Sent along as a file, or kept on the server under a name. */
static int read_baseline(struct http_request *req, struct eval_request *r, struct http_response *resp, struct err *e)
{
    const char *name = param_get(req, "baseline");
    struct upload_file *f = upload_file(req, "baseline");
    int rc = 0;
    if (name && f)
        return err_set(e, ERR_INVALID, "give the baseline either as a name or as a file");
    if (f)
        rc = fs_read(f->path, EVAL_BASELINE_BYTES_MAX, &r->baseline, e);
    else if (name)
        rc = baseline_load(req, name, &r->baseline, e);
    if (rc == ERR_NOTFOUND)
        return problem_set(resp, e, 422, "no_such_baseline", "there is no baseline '%.80s'", name ? name : "");
    if (rc == 0 && (f || name)) {
        r->o.baseline = r->baseline.data ? r->baseline.data : "";
        r->o.baseline_len = r->baseline.len;
        r->o.baseline_name = name ? name : "the baseline";
    }
    return rc;
}

const struct evaluate_report *eval_negotiate(const struct http_request *req, struct http_response *resp, struct err *e)
{
    const char *types[8];
    size_t n = 0;
    for (; n < 8 && evaluate_reports[n].name; n++)
        types[n] = evaluate_reports[n].type;
    int offer = negotiate_accept(http_header(req, "Accept"), types, n);
    if (offer >= 0)
        return &evaluate_reports[offer];
    problem_set(resp, e, 406, "not_acceptable",
                "reports come as application/json, text/markdown, application/junit+xml or image/svg+xml");
    return NULL;
}

static int read_request(struct http_request *req, struct eval_request *r, struct http_response *resp, struct err *e)
{
    const char *on_fail = param_get(req, "on_fail");
    if (!(r->report = eval_negotiate(req, resp, e)))
        return ERR_INVALID;
    r->fail_422 = on_fail && strcmp(on_fail, "422") == 0;
    if (on_fail && !r->fail_422 && strcmp(on_fail, "200") != 0)
        return err_set(e, ERR_INVALID, "on_fail must be 200 or 422");
    r->o.protocol = param_get(req, "protocol");
    r->o.min = param_get(req, "min");
    r->o.max_drop = param_get(req, "max_drop");
    r->o.choices = r->choices;
    for (size_t i = 0; i < EVAL_CHOICES_MAX && evaluate_choices[i].name; i++) {
        const char *value = param_get(req, evaluate_choices[i].name);
        if (value)
            r->choices[r->o.n_choices++] = (struct evaluate_choice){evaluate_choices[i].name, value};
    }
    int rc = read_numbers(req, r, e);
    if (rc == 0)
        rc = read_baseline(req, r, resp, e);
    return rc == 0 ? evaluate_check(&r->o, e) : rc;
}

static int find_model(struct http_request *req, struct eval_request *r, struct http_response *resp, struct err *e)
{
    if (upload_file(req, "pred") || upload_file(req, "gt"))
        return err_set(e, ERR_INVALID, "give either pred and gt zips, or a model and a dataset or project");
    if (!r->model)
        return err_set(e, ERR_INVALID, "which model? (parameter 'model')");
    if (!r->dataset == !r->project)
        return err_set(e, ERR_INVALID, "a model is evaluated on a 'dataset' or on a 'project': name one of them");
    return lookup_model(req, r->model, resp, e);
}

static int find_inputs(struct http_request *req, struct eval_request *r, struct http_response *resp, struct err *e)
{
    struct upload_file *pred = upload_file(req, "pred"), *gt = upload_file(req, "gt");
    r->model = param_get(req, "model");
    r->dataset = param_get(req, "dataset");
    r->project = param_get(req, "project");
    if (r->model || r->dataset || r->project)
        return find_model(req, r, resp, e);
    if (!pred || !gt)
        return err_set(e, ERR_INVALID, "the request brings no %s (multipart file fields 'pred' and 'gt')",
                       pred ? "ground truth" : "predictions");
    r->o.pred = pred->path;
    r->o.gt = gt->path;
    r->o.pred_label = "pred";
    r->o.gt_label = "gt";
    r->o.max_pixels = PIXELS_MAX;
    r->o.max_zip_bytes = ZIP_BYTES_MAX;
    return 0;
}

/* The parameters were sound, so what is invalid now is what was sent: understood, but impossible. */
static int evaluate(struct eval_request *r, struct evaluation **ev, struct http_response *resp, struct err *e)
{
    if (atomic_fetch_add(&running, 1) >= RUNNING_MAX) {
        atomic_fetch_sub(&running, 1);
        resp->retry_after_s = RETRY_S;
        return problem_set(resp, e, 429, "busy", "%d evaluations run already", RUNNING_MAX);
    }
    int rc = evaluate_run(&r->o, ev, e);
    atomic_fetch_sub(&running, 1);
    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED || rc == ERR_CORRUPT) {
        resp->problem = "bad_data";
        resp->problem_status = 422;
    }
    return rc;
}

/* Here and now. */
static int answer(struct eval_request *r, struct http_response *resp, struct err *e)
{
    struct evaluation *ev = NULL;
    struct buf out = BUF_INIT;
    int rc = evaluate(r, &ev, resp, e);
    if (rc == 0)
        rc = r->report->make(ev, &out, e);
    if (rc == 0)
        rc = http_set_buf(resp, r->report->type, &out, e);
    if (rc == 0) {
        resp->status = r->fail_422 && !evaluation_pass(ev) ? 422 : 200;
        http_set_header(resp, "Vary", "Accept");
    }
    evaluation_free(ev);
    buf_free(&out);
    return rc;
}

int route_evaluate(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct eval_request r = {.baseline = BUF_INIT};
    int rc = find_inputs(req, &r, resp, e);
    if (rc == 0)
        rc = check_names(req, e);
    if (rc == 0)
        rc = read_request(req, &r, resp, e);
    if (rc == 0)
        rc = r.model || negotiate_async(http_header(req, "Prefer")) ? eval_as_job(req, &r, resp, e)
                                                                    : answer(&r, resp, e);
    buf_free(&r.baseline);
    return rc;
}
