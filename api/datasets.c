/*
 * /v1/datasets: what stored models are evaluated on. A zip of pictures and masks (core/task/labelled.h has the layouts) is
 * checked by its directory when it comes: every mask has its picture; what the pictures hold is found out by the evaluation.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/upload.h"
#include "core/store/evalset.h"
#include "core/task/labelled.h"

static const char *const no_params[] = {NULL};

static json_t *dataset_json(const struct evalset *d)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o}", "name", d->name, "sha256", d->sha256, "bytes",
                     (json_int_t)d->bytes, "sequences", (json_int_t)d->sequences, "frames", (json_int_t)d->frames,
                     "masks", (json_int_t)d->masks, "created_at", time_json(d->created_ms), "updated_at",
                     time_json(d->updated_ms));
}

/* Counts what is in the zip, or says what is wrong with it. */
static int inspect(const char *path, struct evalset *d, struct err *e)
{
    struct labelled *l;
    const struct labelled_sequence *s;
    const struct labelled_frame *f;
    int rc = labelled_open(path, "the dataset", NULL, &l, e);
    if (rc < 0)
        return rc;
    size_t n = labelled_sequences(l, &s);
    for (size_t i = 0; i < n; i++)
        d->sequences += *s[i].name != '\0'; /* photos are no sequence */
    d->frames = (int64_t)labelled_frames(l, &f);
    d->masks = (int64_t)labelled_masks(l);
    labelled_close(l);
    return 0;
}

static int store(struct http_request *req, struct upload_file *f, struct evalset *d, struct http_response *resp,
                 struct err *e)
{
    struct evalset out = {0};
    bool existed = false;
    int rc = inspect(f->path, d, e);
    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED || rc == ERR_CORRUPT) {
        resp->problem = "bad_data";
        resp->problem_status = 422;
    }
    if (rc == 0)
        rc = evalset_put(req->api->cfg.store, req->api->cfg.blobs, f->path, d, &out, &existed, e);
    if (rc == 0) {
        f->path[0] = '\0';
        http_set_header(resp, "Location", "/v1/datasets/%s", out.name);
        rc = json_response(resp, existed ? 200 : 201, dataset_json(&out), e);
    }
    evalset_fini(&out);
    return rc;
}

int route_put_dataset(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct upload_file *f = upload_file(req, "clip");
    const char *name = http_path_param(req, "name");
    struct evalset d = {.tenant = (char *)(uintptr_t)request_tenant(req), .name = (char *)(uintptr_t)name};
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = lookup_name(name, "a dataset's", e);
    if (rc == 0 && !f)
        rc = problem_set(resp, e, 415, "unsupported_media_type", "send the dataset as application/zip");
    return rc == 0 ? store(req, f, &d, resp, e) : rc;
}

int route_get_dataset(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct evalset d = {0};
    int rc = evalset_get(req->api->cfg.store, request_tenant(req), http_path_param(req, "name"), &d, e);
    if (rc == 0)
        rc = json_response(resp, 200, dataset_json(&d), e);
    evalset_fini(&d);
    return rc;
}

int route_delete_dataset(struct http_request *req, struct http_response *resp, struct err *e)
{
    int rc = evalset_delete(req->api->cfg.store, request_tenant(req), http_path_param(req, "name"), e);
    if (rc == 0)
        resp->status = 204;
    return rc;
}

int route_list_datasets(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"limit", "cursor", NULL};
    struct evalset_list list = {0};
    int64_t limit = 50;
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = param_int(req, "limit", 1, 1000, &limit, e);
    if (rc == 0)
        rc = evalset_list(req->api->cfg.store, request_tenant(req), param_get(req, "cursor"), (int)limit, &list, e);
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < list.n; i++)
            json_array_append_new(items, dataset_json(&list.items[i]));
        rc = json_response(resp, 200, json_pack("{s:o, s:s?}", "items", items, "next_cursor", list.next_cursor), e);
    }
    evalset_list_fini(&list);
    return rc;
}
