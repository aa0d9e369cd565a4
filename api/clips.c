/* /v1/clips: clips stored once, their facts and single pictures. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/submit.h"
#include "api/upload.h"

static const char *const no_params[] = {NULL};

int route_create_clip(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    bool existed = false;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = submit_clip(req, true, 0, &clip, &existed, resp, e);
    if (rc == 0) {
        http_set_header(resp, "Location", "/v1/clips/%s", clip.id);
        rc = json_response(resp, existed ? 200 : 201, clip_json(&clip), e);
    }
    clip_record_fini(&clip);
    return rc;
}

int route_list_clips(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"limit", "cursor", NULL};
    struct clip_list list = {0};
    int64_t limit = 50;
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = param_int(req, "limit", 1, 1000, &limit, e);
    const char *tenant = request_tenant(req);
    if (rc == 0)
        rc = clip_list(req->api->cfg.store, tenant[0] ? tenant : NULL, param_get(req, "cursor"), (int)limit, &list, e);
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < list.n; i++)
            json_array_append_new(items, clip_json(&list.items[i]));
        rc = json_response(resp, 200, json_pack("{s:o, s:s?}", "items", items, "next_cursor", list.next_cursor), e);
    }
    clip_list_fini(&list);
    return rc;
}

int route_get_clip(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip;
    int rc = lookup_clip(req, http_path_param(req, "id"), &clip, e);
    if (rc == 0)
        rc = json_response(resp, 200, clip_json(&clip), e);
    clip_record_fini(&clip);
    return rc;
}

int route_delete_clip(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip;
    int rc = lookup_clip(req, http_path_param(req, "id"), &clip, e);
    if (rc == 0)
        rc = clip_delete(req->api->cfg.store, clip.id, e);
    if (rc == 0)
        resp->status = 204;
    clip_record_fini(&clip);
    return rc;
}

int clip_file(struct api *api, const struct clip_record *clip, char path[FS_PATH_MAX], bool *copy, struct err *e)
{
    char key[CLIP_KEY_SIZE];
    clip_key(clip, key);
    int rc = blob_local_path(api->cfg.blobs, key, path, e);
    *copy = false;
    if (rc != 0)
        return rc < 0 ? rc : 0;
    rc = blobs_temp(api->cfg.blobs, path, e);
    *copy = rc == 0;
    return rc == 0 ? blob_get_file(api->cfg.blobs, key, path, e) : rc;
}

static int send_still(struct http_request *req, const struct clip_record *clip, int64_t n, struct http_response *resp,
                      struct err *e)
{
    const struct api_host *host = &req->api->cfg.host;
    char path[FS_PATH_MAX] = "";
    bool copy = false;
    struct buf jpeg = BUF_INIT;
    int rc = clip_file(req->api, clip, path, &copy, e);
    if (rc == 0)
        rc = host->still(host->arg, path, n, &jpeg, e);
    if (rc == 0)
        rc = http_set_buf(resp, "image/jpeg", &jpeg, e);
    if (copy)
        unlink(path);
    buf_free(&jpeg);
    return rc;
}

int route_get_clip_frame(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    int64_t n = 0;
    char etag[BLOB_ETAG_SIZE];
    int rc = lookup_frame(req, &n, e);
    if (rc == 0)
        rc = lookup_clip(req, http_path_param(req, "id"), &clip, e);
    if (rc == 0) {
        snprintf(etag, sizeof(etag), "%.32s-%lld", clip.sha256, (long long)n);
        http_set_header(resp, "ETag", "\"%s\"", etag);
        http_set_header(resp, "Cache-Control", "private, max-age=31536000, immutable");
        const char *known = http_header(req, "If-None-Match");
        resp->status = known && negotiate_etag_in(known, etag, true) ? 304 : 200;
        if (resp->status == 200)
            rc = send_still(req, &clip, n, resp, e);
    }
    clip_record_fini(&clip);
    return rc;
}
