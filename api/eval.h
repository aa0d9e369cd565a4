/* POST /eval, shared by its two ways: evaluated while the client waits, and as a job. */
#ifndef API_EVAL_H
#define API_EVAL_H

#include "api/http.h"
#include "core/task/evaluate.h"

enum { EVAL_CHOICES_MAX = 16 };
#define EVAL_BASELINE_BYTES_MAX ((size_t)16 << 20)

struct eval_request {
    struct evaluate_opts o;
    struct evaluate_choice choices[EVAL_CHOICES_MAX];
    struct buf baseline;
    bool fail_422;
    const struct evaluate_report *report; /* what the client accepts */
    /* A stored model on stored data; NULL for two zips. */
    const char *model, *dataset, *project;
    int64_t size; /* of the model's input; 0: its own */
};

/* The report that Accept likes best; NULL with 406 set. */
const struct evaluate_report *eval_negotiate(const struct http_request *req, struct http_response *resp, struct err *e);
/* The whole as a job: creates it, and answers 202, or waits and answers the report. Run again by HTTP_LATER. */
int eval_as_job(struct http_request *req, const struct eval_request *r, struct http_response *resp, struct err *e);

#endif
