/*
 * Eval jobs: two zips that came with the request, or a stored model on a stored dataset or on a project's accepted and
 * manual labels. A model's maps and the masks they are measured with go to a working folder, one sub-folder a sequence, which is then evaluated like any other two folders:
 *   gt/SEQUENCE/STEM.png      every mask
 *   pred/SEQUENCE/STEM.png    the map of every frame that has a mask; the detector sees the others too
 *   frames/                   the pictures of the sequence under way
 * Reports are published as blobs beside each other; the job's outputs say the essence.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/net/model.h"
#include "core/store/evalset.h"
#include "core/store/project.h"
#include "core/task/detect.h"
#include "core/task/evaluate.h"
#include "core/task/labelled.h"
#include "server/redact.h"
#include "server/worker.h"

enum { CHOICES_MAX = 17 };
#define PIXELS_MAX ((int64_t)40 * 1000 * 1000)
#define ZIP_BYTES_MAX ((int64_t)16 << 30)
#define BASELINE_BYTES_MAX ((size_t)16 << 20)

struct eval_run {
    struct run *run;
    json_t *params;
    char work[FS_PATH_MAX]; /* the working folder, "" before it is made */
    int64_t done, total;    /* frames the detector has seen, and will */
    char model[200];        /* name@version: what the job's name meant when it began */
    /* The sequence under way. */
    const char *sequence;
    const struct labelled_frame *frames; /* NULL: frames are called by their numbers */
    size_t n_frames;
};

static const char *param(const struct eval_run *r, const char *name)
{
    return json_string_value(json_object_get(r->params, name));
}

/* ---- the working folder ------------------------------------------------------------------------------------------------ */

static int make_work(struct eval_run *r, struct err *e)
{
    int rc = blobs_temp(r->run->blobs, r->work, e);
    if (rc == 0 && unlink(r->work) != 0)
        rc = err_errno(e, "the working folder");
    return rc == 0 ? fs_mkdirs(r->work, e) : rc;
}

/* work/PART or work/PART/SEQUENCE; made when missing. */
static int folder(const struct eval_run *r, const char *part, const char *sequence, char out[FS_PATH_MAX],
                  struct err *e)
{
    char below[FS_PATH_MAX];
    if (snprintf(below, sizeof(below), "%s%s%s", part, *sequence ? "/" : "", sequence) >= (int)sizeof(below))
        return err_set(e, ERR_LIMIT, "the name of a sequence is too long");
    int rc = fs_join(out, r->work, below, e);
    return rc == 0 ? fs_mkdirs(out, e) : rc;
}

static int file_in(const char *dir, const char *stem, const char *extension, char out[FS_PATH_MAX], struct err *e)
{
    if (snprintf(out, FS_PATH_MAX, "%s/%s%s", dir, stem, extension) >= FS_PATH_MAX)
        return err_set(e, ERR_LIMIT, "the name of a frame is too long");
    return 0;
}

/* ---- maps of one sequence ---------------------------------------------------------------------------------------------- */

enum { STEM_BYTES = 16 };

static void number_stem(int64_t ordinal, char out[STEM_BYTES])
{
    snprintf(out, STEM_BYTES, "%05lld", (long long)(ordinal % 1000000000));
}

/* The map counts only where there is a mask. */
static int take_map(void *arg, int64_t ordinal, const char *name, const void *png, size_t len, struct err *e)
{
    struct eval_run *r = arg;
    char dir[FS_PATH_MAX], path[FS_PATH_MAX], number[STEM_BYTES];
    const char *stem = number;
    (void)name;
    if (ordinal < 0 || (size_t)ordinal >= r->n_frames)
        return 0;
    number_stem(ordinal, number);
    if (r->frames)
        stem = r->frames[ordinal].stem;
    int rc = folder(r, "gt", r->sequence, dir, e);
    if (rc == 0)
        rc = file_in(dir, stem, ".png", path, e);
    if (rc < 0 || !fs_exists(path))
        return rc;
    rc = folder(r, "pred", r->sequence, dir, e);
    if (rc == 0)
        rc = file_in(dir, stem, ".png", path, e);
    return rc == 0 ? fs_write(path, png, len, e) : rc;
}

static void tell_progress(void *arg, int64_t done, int64_t total)
{
    struct eval_run *r = arg;
    (void)total;
    run_progress(r->run, r->done + done, r->total);
}

static int detect_sequence(struct eval_run *r, const char *input, struct err *e)
{
    struct detect_result res = {0};
    struct detect_opts o = {
        .input = input,
        .limits = r->run->limits,
        .sink = {.arg = r, .map = take_map},
        .progress = tell_progress,
        .progress_arg = r,
        .canceled = run_stopped,
        .canceled_arg = r->run,
    };
    int size_px = (int)json_integer_value(json_object_get(r->params, "size"));
    int rc = run_detector(r->run, r->run->job->model, size_px, &o.detector, e);
    if (rc == 0)
        rc = detect_run(&o, &res, e);
    if (rc == 0 && r->frames && res.frames != (int64_t)r->n_frames)
        rc = err_set(e, ERR_CORRUPT, "%lld of %zu pictures can be read", (long long)res.frames, r->n_frames);
    r->done += res.frames;
    return rc;
}

/* ---- a stored dataset -------------------------------------------------------------------------------------------------- */

static int write_masks(struct eval_run *r, const struct labelled *l, const struct labelled_frame *f, size_t n,
                       struct err *e)
{
    char dir[FS_PATH_MAX], path[FS_PATH_MAX];
    int rc = folder(r, "gt", r->sequence, dir, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (f[i].mask == LABELLED_NONE)
            continue;
        rc = file_in(dir, f[i].stem, ".png", path, e); /* whatever it is: content decides when it is read */
        if (rc == 0)
            rc = labelled_extract(l, f[i].mask, path, e);
    }
    return rc;
}

/* Pictures are numbered, so that the clip has them in this order under names that are surely fine. */
static int write_pictures(struct eval_run *r, const struct labelled *l, const struct labelled_frame *f, size_t n,
                          char dir[FS_PATH_MAX], struct err *e)
{
    char path[FS_PATH_MAX], stem[32];
    int rc = fs_join(dir, r->work, "frames", e);
    if (rc == 0)
        rc = fs_remove_tree(dir, e);
    if (rc == 0)
        rc = fs_mkdirs(dir, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        snprintf(stem, sizeof(stem), "%08zu", i);
        rc = file_in(dir, stem, labelled_extension(l, f[i].picture), path, e);
        if (rc == 0)
            rc = labelled_extract(l, f[i].picture, path, e);
    }
    return rc;
}

/* Frames f[0..n) of sequence `name` as one clip. */
static int detect_part(struct eval_run *r, const struct labelled *l, const char *name, const struct labelled_frame *f,
                       size_t n, struct err *e)
{
    char dir[FS_PATH_MAX];
    r->sequence = name;
    r->frames = f;
    r->n_frames = n;
    int rc = write_masks(r, l, f, n, e);
    if (rc == 0)
        rc = write_pictures(r, l, f, n, dir, e);
    if (rc == 0)
        rc = detect_sequence(r, dir, e);
    return rc < 0 ? err_wrap(e, *name ? "sequence %s" : "picture %s", *name ? name : f->stem) : 0;
}

static int detect_set(struct eval_run *r, const struct labelled *l, struct err *e)
{
    const struct labelled_sequence *s;
    const struct labelled_frame *f;
    size_t n = labelled_sequences(l, &s);
    int rc = 0;
    r->total = (int64_t)labelled_frames(l, &f);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        bool photos = !*s[i].name; /* each seen alone */
        size_t step = photos ? 1 : s[i].n;
        for (size_t k = 0; rc == 0 && s[i].masks && k < s[i].n; k += step)
            if (!photos || f[s[i].first + k].mask != LABELLED_NONE)
                rc = detect_part(r, l, s[i].name, &f[s[i].first + k], step, e);
    }
    return rc;
}

static int prepare_dataset(struct eval_run *r, const char *name, struct err *e)
{
    char key[EVALSET_KEY_SIZE];
    struct run_input in = {0};
    struct labelled *l = NULL;
    const char *sha256 = param(r, "sha256");
    struct unzip_limits limits = {.max_bytes = ZIP_BYTES_MAX};
    if (!sha256)
        return err_set(e, ERR_INVALID, "the job does not say which content of the dataset it means");
    evalset_key(sha256, key);
    int rc = run_blob_open(r->run, key, &in, e);
    if (rc == 0)
        rc = labelled_open(in.path, name, &limits, &l, e);
    if (rc == 0)
        rc = detect_set(r, l, e);
    labelled_close(l);
    run_input_done(&in);
    return rc;
}

/* ---- a project --------------------------------------------------------------------------------------------------------- */

/* A clip's sequence in reports: its file's name when that is plain, and enough of its id to be the only one. */
static void name_clip(const struct clip_record *c, char *out, size_t size)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const char *stem = c->name ? c->name : "";
    size_t n = strcspn(stem, "."), id = strlen(c->id);
    if (n == 0 || n > 60 || strspn(stem, plain) < n)
        snprintf(out, size, "%s", c->id);
    else
        snprintf(out, size, "%.*s-%s", (int)n, stem, c->id + (id > 8 ? id - 8 : 0));
}

static int write_labels(struct eval_run *r, const struct label_list *labels, const char *clip_id, int64_t *n,
                        struct err *e)
{
    char dir[FS_PATH_MAX], path[FS_PATH_MAX], key[MASK_KEY_SIZE], stem[STEM_BYTES];
    int rc = 0;
    *n = 0;
    for (size_t i = 0; rc == 0 && i < labels->n; i++) {
        const struct label_record *l = &labels->items[i];
        if (strcmp(l->clip_id, clip_id) != 0 || !l->sha256)
            continue;
        mask_key(l->sha256, key);
        number_stem(l->frame, stem);
        rc = folder(r, "gt", r->sequence, dir, e);
        if (rc == 0)
            rc = file_in(dir, stem, ".png", path, e);
        if (rc == 0)
            rc = blob_get_file(r->run->blobs, key, path, e);
        ++*n;
    }
    return rc;
}

static int detect_clip(struct eval_run *r, const struct label_list *labels, const struct clip_record *c, struct err *e)
{
    char name[128];
    struct run_input in = {0};
    int64_t n = 0;
    name_clip(c, name, sizeof(name));
    r->sequence = name;
    r->frames = NULL;
    r->n_frames = SIZE_MAX;
    int rc = write_labels(r, labels, c->id, &n, e);
    if (rc == 0 && n > 0) {
        r->total += c->frames;
        rc = run_input_open(r->run, c->id, &in, e);
        if (rc == 0)
            rc = detect_sequence(r, in.path, e);
        redact_path(e, in.path, "the clip");
        run_input_done(&in);
    }
    r->sequence = NULL;
    return rc < 0 ? err_wrap(e, "clip %s", name) : 0;
}

static int prepare_project(struct eval_run *r, const char *id, struct err *e)
{
    static const struct label_filter wanted = {
        .sources = 1u << LABEL_MANUAL | 1u << LABEL_PSEUDO, .states = 1u << LABEL_STATE_ACCEPTED, .masks_only = true};
    struct label_list labels = {0};
    struct clip_list clips = {0};
    char *cursor = NULL;
    int rc = label_list(r->run->store, id, &wanted, &labels, e);
    if (rc == 0 && labels.n == 0)
        rc = err_set(e, ERR_INVALID, "the project has no accepted or manual labels");
    do {
        if (rc == 0)
            rc = project_clip_list(r->run->store, id, cursor, 100, &clips, e);
        for (size_t i = 0; rc == 0 && i < clips.n; i++)
            rc = detect_clip(r, &labels, &clips.items[i], e);
        free(cursor);
        cursor = clips.next_cursor ? strdup(clips.next_cursor) : NULL;
        clip_list_fini(&clips);
    } while (rc == 0 && cursor);
    free(cursor);
    label_list_fini(&labels);
    return rc;
}

/* ---- the evaluation ---------------------------------------------------------------------------------------------------- */

static int keep_going(void *arg, int64_t done, int64_t total)
{
    struct eval_run *r = arg;
    if (r->total == 0 || r->done == 0) /* two zips: there is no detector to tell the progress */
        run_progress(r->run, done, total);
    return run_stopped(r->run) ? ERR_CANCELED : 0;
}

static void read_options(const struct eval_run *r, struct evaluate_opts *o, struct evaluate_choice *choices)
{
    const json_t *given = json_object_get(r->params, "options");
    const char *value;
    o->protocol = json_string_value(json_object_get(given, "protocol"));
    o->min = json_string_value(json_object_get(given, "min"));
    o->max_drop = json_string_value(json_object_get(given, "max_drop"));
    o->per_frame = json_is_true(json_object_get(given, "per_frame"));
    o->worst = (int)json_integer_value(json_object_get(given, "worst"));
    o->resamples = (int)json_integer_value(json_object_get(given, "resamples"));
    o->seed = (uint64_t)json_integer_value(json_object_get(given, "seed"));
    o->choices = choices;
    for (size_t i = 0; i < CHOICES_MAX && evaluate_choices[i].name; i++)
        if ((value = json_string_value(json_object_get(given, evaluate_choices[i].name))))
            choices[o->n_choices++] = (struct evaluate_choice){evaluate_choices[i].name, value};
    if (param(r, "project") &&
        !json_object_get(given, "gt_threshold")) /* masks of projects hold labels: 1 is an object */
        choices[o->n_choices++] = (struct evaluate_choice){"gt_threshold", "0"};
    o->max_pixels = PIXELS_MAX;
    o->max_zip_bytes = ZIP_BYTES_MAX;
    o->progress = keep_going;
    o->progress_arg = (void *)(uintptr_t)r;
}

/* jobs/ID/input/NAME, what came with the request. */
static void input_key(const struct eval_run *r, const char *name, char out[BLOB_KEY_MAX])
{
    snprintf(out, BLOB_KEY_MAX, "jobs/%s/input/%s", r->run->job->id, name);
}

static int read_baseline(const struct eval_run *r, struct evaluate_opts *o, struct buf *text, struct err *e)
{
    char key[BLOB_KEY_MAX];
    const char *name = param(r, "baseline");
    if (!name)
        return 0;
    input_key(r, "baseline.json", key);
    int rc = blob_get(r->run->blobs, key, BASELINE_BYTES_MAX, text, e);
    o->baseline = text->data ? text->data : "";
    o->baseline_len = text->len;
    o->baseline_name = name;
    return rc;
}

static int put_reports(const struct eval_run *r, const struct evaluation *ev, struct err *e)
{
    int rc = 0;
    for (const struct evaluate_report *k = evaluate_reports; rc == 0 && k->name; k++) {
        char key[BLOB_KEY_MAX];
        struct buf b = BUF_INIT;
        snprintf(key, sizeof(key), "%s%s", r->run->prefix, k->file);
        rc = k->make(ev, &b, e);
        if (rc == 0)
            rc = blob_put(r->run->blobs, key, b.data, b.len, e);
        buf_free(&b);
    }
    return rc;
}

/* The report without what is long. */
static char *describe(const struct evaluation *ev)
{
    static const char *const essence[] = {"pass",  "model",    "data",  "frames", "protocol",
                                          "gates", "worst_by", "worst", "notes",  "overall"};
    struct buf b = BUF_INIT;
    json_t *all = evaluation_json(ev, &b, NULL) == 0 ? json_loadb(b.data, b.len, 0, NULL) : NULL, *out = json_object();
    for (size_t i = 0; all && i < sizeof(essence) / sizeof(essence[0]); i++)
        if (json_object_get(all, essence[i]))
            json_object_set(out, essence[i], json_object_get(all, essence[i]));
    char *text = all ? json_dumps(out, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(all);
    json_decref(out);
    buf_free(&b);
    return text;
}

static int evaluate(struct eval_run *r, const char *pred, const char *gt, const char *data, char **outputs,
                    struct err *e)
{
    struct evaluate_choice choices[CHOICES_MAX];
    struct evaluate_opts o = {.pred = pred,
                              .gt = gt,
                              .pred_label = "pred",
                              .gt_label = "gt",
                              .model = *r->model ? r->model : NULL,
                              .data = data};
    struct evaluation *ev = NULL;
    struct buf baseline = BUF_INIT;
    read_options(r, &o, choices);
    int rc = read_baseline(r, &o, &baseline, e);
    if (rc == 0)
        rc = evaluate_run(&o, &ev, e);
    if (rc == 0)
        rc = put_reports(r, ev, e);
    if (rc == 0 && !(*outputs = describe(ev)))
        rc = err_set(e, ERR_NOMEM, "no memory to describe the results");
    evaluation_free(ev);
    buf_free(&baseline);
    return rc;
}

static int run_zips(struct eval_run *r, char **outputs, struct err *e)
{
    struct run_input pred = {0}, gt = {0};
    char key[BLOB_KEY_MAX];
    input_key(r, "pred.zip", key);
    int rc = run_blob_open(r->run, key, &pred, e);
    input_key(r, "gt.zip", key);
    if (rc == 0)
        rc = run_blob_open(r->run, key, &gt, e);
    if (rc == 0)
        rc = evaluate(r, pred.path, gt.path, NULL, outputs, e);
    redact_path(e, pred.path, "pred");
    redact_path(e, gt.path, "gt");
    run_input_done(&pred);
    run_input_done(&gt);
    return rc;
}

static int run_model_on(struct eval_run *r, char **outputs, struct err *e)
{
    char pred[FS_PATH_MAX], gt[FS_PATH_MAX], data[200];
    const char *dataset = param(r, "dataset"), *project = param(r, "project");
    if (!dataset == !project)
        return err_set(e, ERR_INVALID, "the job names no dataset or project");
    snprintf(data, sizeof(data), dataset ? "dataset %.150s" : "project %.150s", dataset ? dataset : project);
    struct registry_version v;
    int rc = run_pin(r->run, &v, e);
    if (rc < 0)
        return rc;
    snprintf(r->model, sizeof(r->model), "%s@%s", v.model_id, v.version);
    registry_version_fini(&v);
    rc = make_work(r, e);
    if (rc == 0)
        rc = dataset ? prepare_dataset(r, dataset, e) : prepare_project(r, project, e);
    if (rc == 0)
        rc = fs_join(pred, r->work, "pred", e);
    if (rc == 0)
        rc = fs_join(gt, r->work, "gt", e);
    if (rc == 0)
        rc = evaluate(r, pred, gt, data, outputs, e);
    redact_path(e, r->work, "data");
    if (r->work[0])
        fs_remove_tree(r->work, NULL);
    return rc;
}

int run_eval(struct run *run, char **outputs, struct err *e)
{
    struct eval_run r = {.run = run, .params = json_loads(run->job->params ? run->job->params : "{}", 0, NULL)};
    int rc = run->job->model ? run_model_on(&r, outputs, e) : run_zips(&r, outputs, e);
    json_decref(r.params);
    return rc;
}
