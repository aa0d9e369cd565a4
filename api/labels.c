/* .../labels: what is known about each frame, and the review of what was propagated. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
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

static const char *const no_params[] = {NULL};

static int parse_filter(const struct http_request *req, const char *name, int (*parse)(const char *), unsigned *bits,
                        struct err *e)
{
    const char *word = param_get(req, name);
    int v = word ? parse(word) : 0;
    if (v < 0)
        return err_set(e, ERR_INVALID, "'%.40s' is not a %s of labels", word, name);
    *bits = word ? 1u << v : 0;
    return 0;
}

int route_list_labels(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"source", "state", NULL};
    struct clip_record clip = {0};
    struct label_list l = {0};
    struct label_filter f = {0};
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = parse_filter(req, "source", label_source_parse, &f.sources, e);
    if (rc == 0)
        rc = parse_filter(req, "state", label_state_parse, &f.states, e);
    if (rc == 0)
        rc = lookup_project_clip(req, &clip, e);
    f.clip_id = clip.id;
    if (rc == 0)
        rc = label_list(req->api->cfg.store, http_path_param(req, "p"), &f, &l, e);
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < l.n; i++)
            json_array_append_new(items, label_json(&l.items[i]));
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, items, e);
    }
    label_list_fini(&l);
    clip_record_fini(&clip);
    return rc;
}

/* The label of the path; free with label_record_fini. */
static int find_label(struct http_request *req, struct label_record *out, struct err *e)
{
    struct clip_record clip = {0};
    int64_t frame;
    *out = (struct label_record){0};
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = lookup_frame(req, &frame, e);
    if (rc == 0)
        rc = lookup_project_clip(req, &clip, e);
    if (rc == 0)
        rc = label_get(req->api->cfg.store, http_path_param(req, "p"), clip.id, frame, out, e);
    clip_record_fini(&clip);
    return rc;
}

static int answer_label(const struct label_record *l, struct http_response *resp, struct err *e)
{
    char etag[ANNOTATION_ETAG_SIZE];
    http_set_header(resp, "ETag", "\"%s\"", version_etag(l->version, etag));
    http_set_header(resp, "Cache-Control", "no-store");
    return json_response(resp, 200, label_json(l), e);
}

int route_get_label(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct label_record l;
    int rc = find_label(req, &l, e);
    if (rc == 0)
        rc = answer_label(&l, resp, e);
    label_record_fini(&l);
    return rc;
}

static int get_png(struct http_request *req, bool uncertainty, struct http_response *resp, struct err *e)
{
    struct label_record l;
    char etag[ANNOTATION_ETAG_SIZE];
    int rc = find_label(req, &l, e);
    const char *sha256 = uncertainty ? l.uncertainty_sha256 : l.sha256;
    if (rc == 0 && !sha256)
        rc = err_set(e, ERR_NOTFOUND, "frame %lld is %s: it has no %s", (long long)l.frame, l.source,
                     uncertainty ? "map of its uncertainty" : "mask");
    if (rc == 0) {
        snprintf(etag, sizeof(etag), "%.32s", sha256);
        rc = send_mask(req, sha256, etag, l.updated_ms, resp, e);
    }
    label_record_fini(&l);
    return rc;
}

int route_get_label_png(struct http_request *req, struct http_response *resp, struct err *e)
{
    return get_png(req, false, resp, e);
}

int route_get_label_uncertainty(struct http_request *req, struct http_response *resp, struct err *e)
{
    return get_png(req, true, resp, e);
}

/* ---- review ---------------------------------------------------------------------------------------------------------- */

static int read_state(const struct http_request *req, enum label_state *state, struct err *e)
{
    static const char *const names[] = {"state", NULL};
    json_t *body = payload_object(req, e);
    if (!body)
        return ERR_INVALID;
    const char *word = json_string_value(json_object_get(body, "state"));
    int v = word ? label_state_parse(word) : ERR_INVALID;
    int rc = payload_members(body, "a review", names, e);
    if (rc == 0 && v < 0)
        rc = err_set(e, ERR_INVALID, "'state' must be \"accepted\", \"rejected\" or \"proposed\"");
    json_decref(body);
    *state = v < 0 ? LABEL_STATE_PROPOSED : (enum label_state)v;
    return rc;
}

int route_review_label(struct http_request *req, struct http_response *resp, struct err *e)
{
    enum label_state state;
    struct label_record l = {0}, after = {0};
    struct actor a = request_actor(req);
    char etag[ANNOTATION_ETAG_SIZE];
    int rc = read_state(req, &state, e);
    while (rc == 0) {
        label_record_fini(&l);
        rc = find_label(req, &l, e);
        if (rc == 0)
            rc = negotiate_write(req, resp, version_etag(l.version, etag), e);
        if (rc == 0)
            rc =
                label_set_state(req->api->cfg.store, l.project_id, l.clip_id, l.frame, l.version, state, &a, &after, e);
        if (rc != ERR_BUSY)
            break;
        label_record_fini(&after); /* it was changed in between: the condition is asked again */
        rc = 0;
    }
    if (rc == ERR_CONFLICT)
        resp->problem = "nothing_to_review";
    if (rc == 0)
        rc = answer_label(&after, resp, e);
    label_record_fini(&l);
    label_record_fini(&after);
    return rc;
}

static int read_accept(const struct http_request *req, const struct clip_record *clip, double *min, int64_t range[2],
                       struct err *e)
{
    static const char *const names[] = {"min_confidence", "frames", NULL};
    json_t *body = payload_object(req, e);
    if (!body)
        return ERR_INVALID;
    const json_t *least = json_object_get(body, "min_confidence"), *frames = json_object_get(body, "frames");
    *min = json_number_value(least);
    range[0] = 0;
    range[1] = clip->frames - 1;
    int rc = payload_members(body, "an acceptance", names, e);
    if (rc == 0 && !(json_is_number(least) && *min >= 0 && *min <= 1))
        rc = err_set(e, ERR_INVALID, "'min_confidence' must be a number from 0 to 1");
    if (rc == 0 && frames) {
        const json_t *from = json_array_get(frames, 0), *to = json_array_get(frames, 1);
        range[0] = json_integer_value(from);
        range[1] = json_integer_value(to);
        if (json_array_size(frames) != 2 || !json_is_integer(from) || !json_is_integer(to))
            rc = err_set(e, ERR_INVALID, "'frames' must be [from, to]");
    }
    json_decref(body);
    return rc;
}

int route_accept_labels(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct clip_record clip = {0};
    struct actor a = request_actor(req);
    double min = 0;
    int64_t range[2], n = 0;
    int rc = params_check(req, no_params, e);
    if (rc == 0)
        rc = lookup_project_clip(req, &clip, e);
    if (rc == 0)
        rc = read_accept(req, &clip, &min, range, e);
    if (rc == 0)
        rc = labels_accept(req->api->cfg.store, http_path_param(req, "p"), clip.id, min, range[0], range[1], &a, &n, e);
    if (rc == 0)
        rc = json_response(resp, 200, json_pack("{s:I}", "accepted", (json_int_t)n), e);
    clip_record_fini(&clip);
    return rc;
}
