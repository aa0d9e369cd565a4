/*
 * .../keyframes: the masks that people paint. A write says which version it replaces (If-Match) or that there is none
 * (If-None-Match: *); a write without a condition is taken only where there is no keyframe yet. What is refused changes
 * nothing, and the answer carries the current entity tag.
 */
#include <jansson.h>
#include <string.h>

#include "api/annotation.h"
#include "api/context.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/payload.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/upload.h"
#include "core/media/labelmap.h"

static const char *const no_params[] = {NULL};

/* The clip and the frame that the path names. */
static int find_frame(struct http_request *req, struct clip_record *clip, int64_t *frame, struct err *e)
{
    int rc = lookup_frame(req, frame, e);
    if (rc == 0)
        rc = lookup_project_clip(req, clip, e);
    if (rc == 0 && *frame >= clip->frames)
        rc = err_set(e, ERR_NOTFOUND, "the clip has frames 0 to %lld", (long long)clip->frames - 1);
    return rc;
}

static int answer_list(const struct mask_list *l, struct http_response *resp, struct err *e)
{
    json_t *items = json_array();
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(items, mask_json(&l->items[i]));
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, 200, items, e);
}

int route_list_keyframes(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    struct mask_list l = {0};
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = lookup_project_clip(req, &clip, e);
    if (rc == 0)
        rc = mask_list(req->api->cfg.store, http_path_param(req, "p"), clip.id, &l, e);
    if (rc == 0)
        rc = answer_list(&l, resp, e);
    mask_list_fini(&l);
    clip_record_fini(&clip);
    return rc;
}

int route_list_keyframe_versions(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    struct mask_list l = {0};
    int64_t frame;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = find_frame(req, &clip, &frame, e);
    if (rc == 0)
        rc = mask_versions(req->api->cfg.store, http_path_param(req, "p"), clip.id, frame, &l, e);
    if (rc == 0 && l.n == 0)
        rc = err_set(e, ERR_NOTFOUND, "frame %lld never was a keyframe", (long long)frame);
    if (rc == 0)
        rc = answer_list(&l, resp, e);
    mask_list_fini(&l);
    clip_record_fini(&clip);
    return rc;
}

int route_get_keyframe(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"version", NULL};
    struct clip_record clip = {0};
    struct mask_record m = {0};
    char etag[ANNOTATION_ETAG_SIZE];
    int64_t frame, version = 0;
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = param_int(req, "version", 1, INT32_MAX, &version, e);
    if (rc == 0)
        rc = find_frame(req, &clip, &frame, e);
    if (rc == 0)
        rc = mask_get(req->api->cfg.store, http_path_param(req, "p"), clip.id, frame, version, &m, e);
    if (rc == 0)
        rc = send_mask(req, m.sha256, mask_etag(&m, etag), m.created_ms, resp, e);
    mask_record_fini(&m);
    clip_record_fini(&clip);
    return rc;
}

/* ---- writing --------------------------------------------------------------------------------------------------------- */

static int check_mask(const struct buf *png, const struct clip_record *clip, int64_t *objects,
                      struct http_response *resp, struct err *e)
{
    struct labelmap m;
    int rc = labelmap_decode(png->data, png->len, (int)clip->width, (int)clip->height, &m, e);
    *objects = m.objects;
    labelmap_fini(&m);
    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED) {
        resp->problem_status = 422;
        resp->problem = rc == ERR_INVALID ? "mask_size" : "mask_format";
    }
    return rc;
}

/* The version that a write may replace, by the request's conditions; 0: there must be none. */
static int expected_version(struct http_request *req, const struct mask_record *now, int64_t *expected,
                            struct http_response *resp, struct err *e)
{
    char etag[ANNOTATION_ETAG_SIZE];
    const char *tag = now->sha256 ? mask_etag(now, etag) : NULL;
    int rc = negotiate_write(req, resp, tag, e);
    *expected = now->version;
    if (rc == 0 && tag && !http_header(req, "If-Match"))
        rc = problem_set(resp, e, 428, "precondition_required",
                         "the frame has a keyframe: say with If-Match which version this one replaces (now \"%s\")",
                         tag);
    return rc;
}

/* What the frame has now; zeroed when it is no keyframe. */
static int current_mask(struct http_request *req, const struct clip_record *clip, int64_t frame,
                        struct mask_record *out, struct err *e)
{
    int rc = mask_get(req->api->cfg.store, http_path_param(req, "p"), clip->id, frame, 0, out, e);
    return rc == ERR_NOTFOUND ? 0 : rc;
}

static int answer_put(struct http_request *req, const struct mask_record *m, bool created, struct http_response *resp,
                      struct err *e)
{
    char etag[ANNOTATION_ETAG_SIZE];
    http_set_header(resp, "ETag", "\"%s\"", mask_etag(m, etag));
    if (created)
        http_set_header(resp, "Location", "/v1/projects/%s/clips/%s/keyframes/%lld", http_path_param(req, "p"),
                        m->clip_id, (long long)m->frame);
    return json_response(resp, created ? 201 : 200, mask_json(m), e);
}

/* The condition holds, or what it guards against has not happened: the very bytes are there (RFC 9110, section 13.1.1). */
static int put(struct http_request *req, const struct clip_record *clip, int64_t frame, struct http_response *resp,
               struct err *e)
{
    const struct buf *png = payload_bytes(req);
    struct mask_record now = {0}, after = {0};
    struct actor a = request_actor(req);
    struct mask_new n = {.project_id = http_path_param(req, "p"),
                         .clip_id = clip->id,
                         .frame = frame,
                         .png = png->data,
                         .len = png->len};
    char sha256[SHA256_HEX_SIZE];
    sha256_hex(png->data, png->len, sha256);
    int rc = check_mask(png, clip, &n.objects, resp, e);
    if (rc == 0)
        rc = current_mask(req, clip, frame, &now, e);
    bool there = now.sha256 && strcmp(now.sha256, sha256) == 0;
    if (rc == 0 && !there)
        rc = expected_version(req, &now, &n.expected, resp, e);
    if (rc == 0)
        rc = mask_put(req->api->cfg.store, req->api->cfg.blobs, &n, &a, &after, e);
    if (rc == 0)
        rc = answer_put(req, &after, !now.sha256, resp, e);
    mask_record_fini(&now);
    mask_record_fini(&after);
    return rc;
}

int route_put_keyframe(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    int64_t frame;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = find_frame(req, &clip, &frame, e);
    if (rc == 0 && payload_bytes(req)->len == 0)
        rc = err_set(e, ERR_INVALID, "the body must be the mask, an image/png");
    /* Another writer between our reading and writing: the condition is asked again, of what is there then. */
    if (rc == 0)
        do
            rc = put(req, &clip, frame, resp, e);
        while (rc == ERR_CONFLICT);
    clip_record_fini(&clip);
    return rc;
}

int route_delete_keyframe(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    struct actor a = request_actor(req);
    struct store *s = req->api->cfg.store;
    int64_t frame;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = find_frame(req, &clip, &frame, e);
    while (rc == 0) {
        struct mask_record now = {0};
        char etag[ANNOTATION_ETAG_SIZE];
        rc = mask_get(s, http_path_param(req, "p"), clip.id, frame, 0, &now, e);
        if (rc == 0)
            rc = negotiate_write(req, resp, mask_etag(&now, etag), e);
        if (rc == 0)
            rc = mask_delete(s, http_path_param(req, "p"), clip.id, frame, now.version, &a, e);
        mask_record_fini(&now);
        if (rc == 0)
            break;
        rc = rc == ERR_CONFLICT ? 0 : rc;
    }
    if (rc == 0)
        resp->status = 204;
    clip_record_fini(&clip);
    return rc;
}
