/* Saliency jobs: the detect task with blobs as its sink. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/zipstream.h"
#include "core/base/buf.h"
#include "core/task/detect.h"
#include "server/redact.h"
#include "server/worker.h"

struct saliency {
    struct run *run;
    struct blob_writer *index; /* of MAP_INDEX */
};

static int put_map(void *arg, int64_t ordinal, const char *name, const void *png, size_t len, struct err *e)
{
    struct saliency *s = arg;
    char key[BLOB_KEY_MAX];
    struct buf line = BUF_INIT;
    snprintf(key, sizeof(key), "%s" MAP_NAME_FORMAT, s->run->prefix, (long long)ordinal);
    int rc = blob_put(s->run->blobs, key, png, len, e);
    if (rc < 0)
        return rc;
    buf_printf(&line, "%" PRId64 "\t%zu\t%s\n", ordinal, len, name ? name : "");
    rc = line.failed ? err_set(e, ERR_NOMEM, "no memory for the index of maps")
                     : blob_write(s->index, line.data, line.len, e);
    buf_free(&line);
    return rc;
}

static int open_index(struct saliency *s, struct err *e)
{
    char key[BLOB_KEY_MAX];
    snprintf(key, sizeof(key), "%s" MAP_INDEX, s->run->prefix);
    return blob_writer_open(s->run->blobs, key, &s->index, e);
}

static int put_overlay(struct run *r, const char *path, struct err *e)
{
    char key[BLOB_KEY_MAX];
    snprintf(key, sizeof(key), "%soverlay.mp4", r->prefix);
    return blob_put_file(r->blobs, key, path, true, e);
}

static char *describe(const struct detect_result *res, bool overlay)
{
    json_t *doc =
        json_pack("{s:I, s:i, s:i, s:f, s:s, s:b, s:{s:I, s:I, s:I, s:I}}", "frames", (json_int_t)res->frames, "width",
                  res->info.width_px, "height", res->info.height_px, "fps", res->info.fps, "codec", res->info.codec,
                  "overlay", overlay, "timings_ms", "wall", (json_int_t)res->wall_ms, "decode",
                  (json_int_t)res->decode_ms, "infer", (json_int_t)res->infer_ms, "encode", (json_int_t)res->encode_ms);
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}

static int detect(struct saliency *s, const char *input, const json_t *params, const char *overlay_path,
                  struct detect_result *res, struct err *e)
{
    struct run *r = s->run;
    struct detect_opts o = {
        .input = input,
        .limits = r->limits,
        .sink = {.arg = s, .map = put_map},
        .overlay_path = overlay_path,
        .progress = run_progress,
        .progress_arg = r,
        .canceled = run_stopped,
        .canceled_arg = r,
    };
    int size_px = (int)json_integer_value(json_object_get(params, "size"));
    int rc = run_detector(r, r->job->model, size_px, &o.detector, e);
    return rc == 0 ? detect_run(&o, res, e) : rc;
}

static int make_results(struct saliency *s, const json_t *params, const struct run_input *in, char **outputs,
                        struct err *e)
{
    struct run *r = s->run;
    bool overlay = json_is_true(json_object_get(params, "overlay"));
    char overlay_path[FS_PATH_MAX] = "";
    struct detect_result res = {0};
    int rc = open_index(s, e);
    if (rc == 0 && overlay)
        rc = blobs_temp(r->blobs, overlay_path, e);
    if (rc == 0)
        rc = detect(s, in->path, params, overlay ? overlay_path : NULL, &res, e);
    if (rc == 0)
        rc = clip_set_frames(r->store, r->job->clip_id, res.info.frames, e);
    if (rc == 0 && overlay)
        rc = put_overlay(r, overlay_path, e);
    if (rc == 0) {
        rc = blob_writer_commit(s->index, e);
        s->index = NULL;
    }
    if (rc != 0 && overlay_path[0])
        unlink(overlay_path);
    if (rc == 0 && !(*outputs = describe(&res, overlay)))
        rc = err_set(e, ERR_NOMEM, "no memory to describe the results");
    return rc;
}

int run_saliency(struct run *r, char **outputs, struct err *e)
{
    struct saliency s = {.run = r};
    struct run_input in = {0};
    json_t *params = json_loads(r->job->params ? r->job->params : "{}", 0, NULL);
    int rc = run_input_open(r, r->job->clip_id, &in, e);
    if (rc == 0)
        rc = make_results(&s, params, &in, outputs, e);
    redact_path(e, in.path, "the clip");
    blob_writer_abort(s.index);
    run_input_done(&in);
    json_decref(params);
    return rc;
}
