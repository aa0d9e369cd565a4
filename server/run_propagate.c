/*
 * Propagate jobs: the propagate task with a project's keyframes as its masks and the table of labels as its sink.
 *
 * An interval is written in one transaction when all its frames are done, so it is the unit of resumption: labels remember the versions
 * of the keyframes they came from, and an interval whose labels are all of the keyframes as they are now (or may not be touched, see
 * labels_replace_span) is not computed again. That holds for an attempt after a killed one as for a new job after one
 * keyframe was changed.
 *
 * A project may want fewer labels than an interval has frames (labels_per_interval): the other frames are uncovered.
 *
 * Parameters: project, clip, flow, model ("none": flow alone), frames [from, to]: only the intervals that reach into these.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/par.h"
#include "core/media/image.h"
#include "core/media/labelmap.h"
#include "core/net/model.h"
#include "core/store/project.h"
#include "core/task/propagate.h"
#include "server/redact.h"
#include "server/worker.h"

#define DEFAULT_MODEL "fgplg-lite"

struct made_label {
    struct label_new row;
    char mask[SHA256_HEX_SIZE], uncertainty[SHA256_HEX_SIZE];
};

struct propagation {
    struct run *run;
    const char *project, *clip, *flow;
    int64_t from, to;     /* frames asked for */
    int64_t per_interval; /* labels to keep of an interval; 0: all */
    struct mask_list masks;
    struct run_input *mask_files; /* of masks.items */
    struct propagate_key *keys;
    struct model *model; /* borrowed; NULL: flow alone */
    char model_name[160], flow_name[64];
    /* The interval under way. */
    struct made_label *made;
    size_t n_made, room;
    /* For the outputs. */
    int64_t intervals, computed, kept, out_of_range, written;
};

/* ---- keyframes ------------------------------------------------------------------------------------------------------- */

/* The keyframe of a frame; NULL: there is none (-1 is none). */
static const struct mask_record *keyframe(const struct propagation *p, int64_t frame)
{
    size_t lo = 0, hi = p->masks.n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (p->masks.items[mid].frame < frame)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->masks.n && p->masks.items[lo].frame == frame ? &p->masks.items[lo] : NULL;
}

static int64_t version_of(const struct propagation *p, int64_t frame)
{
    const struct mask_record *m = keyframe(p, frame);
    return m ? m->version : 0;
}

static int open_keyframes(struct propagation *p, struct err *e)
{
    int rc = mask_list(p->run->store, p->project, p->clip, &p->masks, e);
    if (rc < 0)
        return rc;
    if (p->masks.n == 0)
        return err_set(e, ERR_INVALID, "the clip has no keyframe to propagate from");
    p->mask_files = calloc(p->masks.n, sizeof(*p->mask_files));
    p->keys = calloc(p->masks.n, sizeof(*p->keys));
    if (!p->mask_files || !p->keys)
        return err_set(e, ERR_NOMEM, "keyframes");
    for (size_t i = 0; rc == 0 && i < p->masks.n; i++) {
        char key[MASK_KEY_SIZE];
        mask_key(p->masks.items[i].sha256, key);
        rc = run_blob_open(p->run, key, &p->mask_files[i], e);
        p->keys[i] = (struct propagate_key){.frame = p->masks.items[i].frame, .mask_path = p->mask_files[i].path};
    }
    return rc;
}

static void close_keyframes(struct propagation *p)
{
    for (size_t i = 0; p->mask_files && i < p->masks.n; i++)
        run_input_done(&p->mask_files[i]);
    free(p->mask_files);
    free(p->keys);
    mask_list_fini(&p->masks);
}

/* Users know keyframes by their frames, not by the files of the store. */
static void redact_keyframes(struct propagation *p, struct err *e)
{
    char name[64];
    for (size_t i = 0; p->mask_files && i < p->masks.n; i++) {
        snprintf(name, sizeof(name), "of frame %lld", (long long)p->masks.items[i].frame);
        redact_path(e, p->mask_files[i].path, name);
    }
}

/* ---- what is there already ------------------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* Of an interval with more frames than labels are wanted of it, those evenly spread over it: the middles of equal parts. */
static bool is_wanted(const struct propagation *p, const struct propagate_span *span, int64_t frame)
{
    int64_t n = span->last - span->first + 1, per = p->per_interval;
    if (per == 0 || per >= n)
        return true;
    int64_t part = (frame - span->first) * per / n;
    for (int64_t i = part > 0 ? part - 1 : 0; i <= part + 1 && i < per; i++)
        if (span->first + (2 * i + 1) * n / (2 * per) == frame)
            return true;
    return false;
}

/* Whether computing the frame again would bring nothing new, or nothing that may be written. */
static bool settled(const struct propagation *p, const struct label_record *l, const struct propagate_span *span)
{
    if (!strcmp(l->state, label_state_name(LABEL_STATE_ACCEPTED)) && l->stale < 2)
        return true;
    if (!strcmp(l->state, label_state_name(LABEL_STATE_REJECTED)) && l->stale == 0)
        return true;
    enum label_source source = is_wanted(p, span, l->frame) ? LABEL_PSEUDO : LABEL_UNCOVERED;
    return !strcmp(l->source, label_source_name(source)) && l->left_frame == span->left &&
           l->right_frame == span->right && l->left_version == version_of(p, span->left) &&
           l->right_version == version_of(p, span->right) && same(l->flow, p->flow_name) &&
           same(l->model_sha256, p->model ? model_info(p->model)->sha256 : NULL);
}

static bool have(void *arg, const struct propagate_span *span)
{
    struct propagation *p = arg;
    p->intervals++;
    if (span->last < p->from || span->first > p->to) {
        p->out_of_range++;
        return true;
    }
    for (int64_t k = span->first; k <= span->last; k++) {
        struct label_record l = {0};
        bool ok = label_get(p->run->store, p->project, p->clip, k, &l, NULL) == 0 && settled(p, &l, span);
        label_record_fini(&l);
        if (!ok)
            return false;
    }
    p->kept++;
    return true;
}

/* ---- what is made ---------------------------------------------------------------------------------------------------- */

static int store_png(struct propagation *p, struct buf *png, char sha256[SHA256_HEX_SIZE], struct err *e)
{
    int rc = mask_store(p->run->store, p->run->blobs, png->data, png->len, sha256, e);
    buf_free(png);
    return rc;
}

/* Binary masks come as 0 and 255: label 1 in a project. */
static int store_mask(struct propagation *p, const struct frame *mask, bool binary, char sha256[SHA256_HEX_SIZE],
                      struct err *e)
{
    struct buf png = BUF_INIT;
    struct frame *labels = NULL;
    int rc = 0;
    if (binary) {
        rc = frame_new(FRAME_GRAY8, mask->width_px, mask->height_px, &labels, e);
        for (int y = 0; rc == 0 && y < mask->height_px; y++)
            for (int x = 0; x < mask->width_px; x++)
                labels->data[(ptrdiff_t)y * labels->stride_bytes + x] =
                    mask->data[(ptrdiff_t)y * mask->stride_bytes + x] != 0;
    }
    if (rc == 0)
        rc = labelmap_encode(binary ? labels : mask, &png, e);
    frame_unref(labels);
    if (rc == 0)
        return store_png(p, &png, sha256, e);
    buf_free(&png);
    return rc;
}

static int store_uncertainty(struct propagation *p, const struct frame *map, char sha256[SHA256_HEX_SIZE],
                             struct err *e)
{
    struct buf png = BUF_INIT;
    int rc = image_encode_png(map, IMAGE_PNG_FAST, &png, e);
    if (rc == 0)
        return store_png(p, &png, sha256, e);
    buf_free(&png);
    return rc;
}

static struct made_label *next_label(struct propagation *p, struct err *e)
{
    if (p->n_made == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        struct made_label *more = realloc(p->made, room * sizeof(*more));
        if (!more) {
            err_set(e, ERR_NOMEM, "labels");
            return NULL;
        }
        p->made = more;
        p->room = room;
    }
    return &p->made[p->n_made];
}

static int label(void *arg, const struct propagate_label *l, const struct frame *mask, const struct frame *uncertainty,
                 struct err *e)
{
    struct propagation *p = arg;
    if (l->source == PROPAGATE_MANUAL)
        return 0;
    struct made_label *m = next_label(p, e);
    if (!m)
        return ERR_NOMEM;
    *m = (struct made_label){
        .row = {.frame = l->frame,
                .source = mask ? LABEL_PSEUDO : LABEL_UNCOVERED,
                .confidence = l->confidence,
                .left = l->left,
                .right = l->right,
                .left_version = version_of(p, l->left),
                .right_version = version_of(p, l->right),
                .model = p->model ? p->model_name : NULL,
                .model_sha256 = p->model ? model_info(p->model)->sha256 : NULL,
                .flow = p->flow_name},
    };
    int rc = mask ? store_mask(p, mask, l->binary, m->mask, e) : 0;
    if (rc == 0 && uncertainty)
        rc = store_uncertainty(p, uncertainty, m->uncertainty, e);
    p->n_made += rc == 0;
    return rc;
}

static int span_done(void *arg, const struct propagate_span *span, struct err *e)
{
    struct propagation *p = arg;
    struct run *r = p->run;
    int64_t written;
    struct label_new *rows = malloc((p->n_made + 1) * sizeof(*rows));
    if (!rows)
        return err_set(e, ERR_NOMEM, "labels");
    for (size_t i = 0; i < p->n_made; i++) {
        struct made_label *m = &p->made[i];
        rows[i] = m->row;
        if (!is_wanted(p, span, m->row.frame)) {
            rows[i].source = LABEL_UNCOVERED;
            rows[i].confidence = 0;
            continue;
        }
        rows[i].sha256 = m->mask[0] ? m->mask : NULL;
        rows[i].uncertainty_sha256 = m->uncertainty[0] ? m->uncertainty : NULL;
    }
    int rc = labels_replace_span(r->store, &r->lease, p->project, p->clip, rows, p->n_made, &written, e);
    free(rows);
    p->n_made = 0;
    p->written += rc == 0 ? written : 0;
    p->computed += rc == 0;
    return rc;
}

/* ---- the job --------------------------------------------------------------------------------------------------------- */

static int read_params(struct propagation *p, const json_t *params, struct err *e)
{
    const json_t *range = json_object_get(params, "frames");
    p->project = json_string_value(json_object_get(params, "project"));
    p->clip = json_string_value(json_object_get(params, "clip"));
    p->flow = json_string_value(json_object_get(params, "flow"));
    p->from = range ? json_integer_value(json_array_get(range, 0)) : 0;
    p->to = range ? json_integer_value(json_array_get(range, 1)) : INT64_MAX;
    if (!p->project || !p->clip)
        return err_set(e, ERR_INVALID, "the job names no project or no clip");
    return 0;
}

static int read_settings(struct propagation *p, struct err *e)
{
    struct project_record project;
    int rc = project_get(p->run->store, p->project, &project, e);
    json_t *settings = rc == 0 ? json_loads(project.settings, 0, NULL) : NULL;
    p->per_interval = json_integer_value(json_object_get(settings, "labels_per_interval"));
    json_decref(settings);
    project_record_fini(&project);
    return rc;
}

static int open_model(struct propagation *p, const json_t *params, struct err *e)
{
    const char *name = json_string_value(json_object_get(params, "model"));
    if (!name)
        name = p->run->job->model ? p->run->job->model : DEFAULT_MODEL;
    if (!strcmp(name, "none"))
        return 0;
    int rc = run_model(p->run, name, &p->model, e);
    if (rc < 0)
        return rc;
    const struct model_info *m = model_info(p->model);
    snprintf(p->model_name, sizeof(p->model_name), "%s%s%s", m->name, m->version[0] ? "/" : "", m->version);
    return 0;
}

static int propagate(struct propagation *p, const char *input, struct propagate_result *res, struct err *e)
{
    struct run *r = p->run;
    struct propagate_opts o = {
        .frames = input,
        .limits = r->limits,
        .keys = p->keys,
        .n_keys = p->masks.n,
        .flow = p->flow,
        .model = p->model,
        .clip_key = p->clip,
        .sink = {.arg = p, .have = have, .label = label, .span_done = span_done},
        .progress = run_progress,
        .progress_arg = r,
        .canceled = run_stopped,
        .canceled_arg = r,
    };
    int rc = propagate_flow_name(p->flow, p->flow_name, sizeof(p->flow_name), e);
    if (rc < 0)
        return rc;
    tensor_set_threads(1); /* frames are worked on side by side; threads inside the network would get in the way */
    rc = propagate_run(&o, res, e);
    tensor_set_threads(par_threads());
    return rc;
}

static char *describe(const struct propagation *p, const struct propagate_result *res)
{
    json_t *doc =
        json_pack("{s:I, s:{s:I, s:I, s:I, s:I}, s:{s:I, s:I, s:I}, s:s, s:s?, s:s?, s:{s:I, s:I, s:I}}", "frames",
                  (json_int_t)res->info.frames, "intervals", "total", (json_int_t)p->intervals, "computed",
                  (json_int_t)p->computed, "kept", (json_int_t)p->kept, "out_of_range", (json_int_t)p->out_of_range,
                  "labels", "made", (json_int_t)res->labelled, "written", (json_int_t)p->written, "uncovered",
                  (json_int_t)res->uncovered, "flow", p->flow_name, "model", p->model ? p->model_name : NULL,
                  "model_sha256", p->model ? model_info(p->model)->sha256 : NULL, "timings_ms", "wall",
                  (json_int_t)res->wall_ms, "flow", (json_int_t)res->flow_ms, "net", (json_int_t)res->net_ms);
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}

int run_propagate(struct run *r, char **outputs, struct err *e)
{
    struct propagation p = {.run = r};
    struct propagate_result res = {0};
    struct run_input in = {0};
    json_t *params = json_loads(r->job->params ? r->job->params : "{}", 0, NULL);
    int rc = read_params(&p, params, e);
    if (rc == 0)
        rc = read_settings(&p, e);
    if (rc == 0)
        rc = open_keyframes(&p, e);
    if (rc == 0)
        rc = run_input_open(r, p.clip, &in, e);
    if (rc == 0)
        rc = open_model(&p, params, e);
    if (rc == 0)
        rc = propagate(&p, in.path, &res, e);
    if (rc == 0 && !(*outputs = describe(&p, &res)))
        rc = err_set(e, ERR_NOMEM, "no memory to describe the results");
    redact_path(e, in.path, "the clip");
    redact_keyframes(&p, e);
    run_input_done(&in);
    close_keyframes(&p);
    free(p.made);
    json_decref(params);
    return rc;
}
