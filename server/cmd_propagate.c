/*
 * salient propagate: masks of a few frames become masks of all frames of a clip. The work is core/task/propagate.c.
 *
 * Beside a mask per frame the output directory gets labels.json, an array with the provenance of every label in the order of frames,
 * spans.json, the intervals with their keys, and source.json, where the frames are. A later run into the same directory leaves intervals with the same key alone.
 */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/opt.h"
#include "core/base/par.h"
#include "core/media/image.h"
#include "core/net/model.h"
#include "core/media/clip.h"
#include "core/task/propagate.h"
#include "core/tensor/tensor.h"
#include "server/commands.h"
#include "server/media_options.h"
#include "server/meter.h"

#define LABELS_FILE "labels.json"
#define SPANS_FILE "spans.json"
#define SOURCE_FILE "source.json"
#define JSON_MAX_BYTES ((size_t)256 << 20)
#define BAR_WIDTH 30
#define LINE_EVERY_MS 5000

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static bool is_interrupted(void *arg)
{
    (void)arg;
    return interrupted;
}

/* ---- the output directory -------------------------------------------------------------------------------------------- */

struct output { /* the sink */
    const char *dir, *uncertainty, *source;
    bool force;
    uint8_t palette[256][3];
    json_t *old_labels; /* array, or NULL */
    json_t *old_spans;
    json_t **labels; /* by frame */
    int64_t frames;
    json_t *spans;
};

static json_t *read_json(const char *dir, const char *name)
{
    char path[FS_PATH_MAX];
    struct buf text = BUF_INIT;
    json_t *j = NULL;
    if (fs_join(path, dir, name, NULL) == 0 && fs_exists(path) && fs_read(path, JSON_MAX_BYTES, &text, NULL) == 0)
        j = json_loadb(text.data, text.len, 0, NULL);
    buf_free(&text);
    if (json_is_array(j))
        return j;
    json_decref(j);
    return NULL;
}

static int write_json(const char *dir, const char *name, const json_t *j, struct err *e)
{
    char path[FS_PATH_MAX];
    int rc = fs_join(path, dir, name, e);
    if (rc)
        return rc;
    char *text = json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    if (!text)
        return err_set(e, ERR_NOMEM, "%s", name);
    rc = fs_write_atomic(path, text, strlen(text), e);
    free(text);
    return rc;
}

/* path = dir/<name or %05d>.png; makes the folders of a nested name. */
static int mask_path(const char *dir, const char *name, int64_t frame, char path[FS_PATH_MAX], struct err *e)
{
    char number[32], file[FS_PATH_MAX];
    snprintf(number, sizeof(number), "%05lld", (long long)frame);
    if (snprintf(file, sizeof(file), "%s.png", name ? name : number) >= (int)sizeof(file))
        return err_set(e, ERR_LIMIT, "name too long: %.100s", name);
    int rc = fs_join(path, dir, file, e);
    if (rc || !name || !strchr(name, '/'))
        return rc;
    char folder[FS_PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", path);
    *strrchr(folder, '/') = 0;
    return fs_mkdirs(folder, e);
}

static int begin(void *arg, const struct clip_info *info, const struct propagate_span *spans, size_t n, struct err *e)
{
    struct output *o = arg;
    (void)spans;
    (void)n;
    o->frames = info->frames;
    o->labels = calloc((size_t)info->frames, sizeof(*o->labels));
    return o->labels ? 0 : err_set(e, ERR_NOMEM, "labels");
}

static const json_t *old_span(const struct output *o, const char *key)
{
    size_t i;
    const json_t *span;
    json_array_foreach(o->old_spans, i, span)
    {
        const char *k = json_string_value(json_object_get(span, "key"));
        if (k && !strcmp(k, key))
            return span;
    }
    return NULL;
}

/* The old label of a frame when its mask is still there. */
static json_t *old_label(const struct output *o, int64_t frame)
{
    size_t i;
    json_t *l;
    char path[FS_PATH_MAX];
    json_array_foreach(o->old_labels, i, l)
    {
        if (json_integer_value(json_object_get(l, "frame")) != frame)
            continue;
        bool covered = json_is_string(json_object_get(l, "mask"));
        if (!covered)
            return l;
        bool there = fs_join(path, o->dir, json_string_value(json_object_get(l, "mask")), NULL) == 0 && fs_exists(path);
        return there ? l : NULL;
    }
    return NULL;
}

static json_t *span_json(const struct propagate_span *s)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:s}", "left", (json_int_t)s->left, "right", (json_int_t)s->right, "first",
                     (json_int_t)s->first, "last", (json_int_t)s->last, "key", s->key);
}

static bool have(void *arg, const struct propagate_span *span)
{
    struct output *o = arg;
    if (o->force || o->uncertainty || !old_span(o, span->key))
        return false;
    for (int64_t k = span->first; k <= span->last; k++)
        if (!old_label(o, k))
            return false;
    for (int64_t k = span->first; k <= span->last; k++)
        o->labels[k] = json_incref(old_label(o, k));
    json_array_append_new(o->spans, span_json(span));
    return true;
}

static int write_mask(const struct output *o, const char *path, const struct propagate_label *l,
                      const struct frame *mask, struct err *e)
{
    struct buf png = BUF_INIT;
    int rc = l->binary ? image_encode_png(mask, IMAGE_PNG_FAST, &png, e)
                       : image_encode_png_palette(mask, (const uint8_t(*)[3])o->palette, 256, &png, e);
    if (rc == 0)
        rc = fs_write_atomic(path, png.data, png.len, e);
    buf_free(&png);
    return rc;
}

static json_t *frame_or_null(int64_t frame)
{
    return frame < 0 ? json_null() : json_integer(frame);
}

static json_t *text_or_null(const char *s)
{
    return s ? json_string(s) : json_null();
}

static int label(void *arg, const struct propagate_label *l, const struct frame *mask, const struct frame *uncertainty,
                 struct err *e)
{
    static const char *const sources[] = {"manual", "pseudo", "uncovered"};
    struct output *o = arg;
    char path[FS_PATH_MAX], other[FS_PATH_MAX];
    int rc = 0;
    json_t *file = json_null();
    if (mask) {
        rc = mask_path(o->dir, l->name, l->frame, path, e);
        if (rc == 0)
            rc = write_mask(o, path, l, mask, e);
        file = json_string(path + strlen(o->dir) + 1);
    }
    if (rc == 0 && uncertainty && o->uncertainty) {
        rc = mask_path(o->uncertainty, l->name, l->frame, other, e);
        if (rc == 0)
            rc = image_write_png(other, uncertainty, e);
    }
    json_t *j = json_pack("{s:I,s:s,s:f,s:o,s:o,s:b,s:o,s:o,s:o}", "frame", (json_int_t)l->frame, "source",
                          sources[l->source], "confidence", l->confidence, "left", frame_or_null(l->left), "right",
                          frame_or_null(l->right), "one_sided", l->one_sided, "flow", text_or_null(l->flow), "model",
                          text_or_null(l->model), "mask", file);
    if (rc == 0 && !j)
        rc = err_set(e, ERR_NOMEM, "labels");
    json_decref(o->labels[l->frame]);
    o->labels[l->frame] = j;
    return rc;
}

/* Where the frames are, so that the folder can be trained from: {"frames": absolute path}. */
static int write_source(const struct output *o, struct err *e)
{
    char *path = realpath(o->source, NULL);
    if (!path)
        return err_errno(e, "%s", o->source);
    json_t *j = json_pack("{s:s}", "frames", path);
    int rc = j ? write_json(o->dir, SOURCE_FILE, j, e) : err_set(e, ERR_INVALID, "%s is not UTF-8", path);
    json_decref(j);
    free(path);
    return rc;
}

static int write_index(const struct output *o, struct err *e)
{
    json_t *all = json_array();
    for (int64_t k = 0; k < o->frames; k++)
        if (o->labels[k])
            json_array_append(all, o->labels[k]);
    int rc = write_json(o->dir, LABELS_FILE, all, e);
    json_decref(all);
    if (rc == 0)
        rc = write_json(o->dir, SPANS_FILE, o->spans, e);
    return rc ? rc : write_source(o, e);
}

static int span_done(void *arg, const struct propagate_span *span, struct err *e)
{
    struct output *o = arg;
    json_array_append_new(o->spans, span_json(span));
    (void)e;
    return 0;
}

static int output_open(struct output *o, const struct propagate_key *keys, size_t n, struct err *e)
{
    int rc = fs_mkdirs(o->dir, e);
    if (rc == 0 && o->uncertainty)
        rc = fs_mkdirs(o->uncertainty, e);
    if (rc)
        return rc;
    propagate_palette(keys, n, o->palette);
    o->old_labels = read_json(o->dir, LABELS_FILE);
    o->old_spans = read_json(o->dir, SPANS_FILE);
    o->spans = json_array();
    return o->spans ? 0 : err_set(e, ERR_NOMEM, "intervals");
}

static void output_close(struct output *o)
{
    for (int64_t i = 0; o->labels && i < o->frames; i++)
        json_decref(o->labels[i]);
    free(o->labels);
    json_decref(o->spans);
    json_decref(o->old_labels);
    json_decref(o->old_spans);
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

struct propagate_args {
    const char *frames, *keyframes, *model, *models, *flow, *mode, *device;
    int64_t work_size, net_size, threads;
    struct media_opts media;
};

static int parse_mode(const char *text, enum propagate_mode *out, struct err *e)
{
    if (!strcmp(text, "chain"))
        *out = PROPAGATE_CHAIN;
    else if (!strcmp(text, "paper"))
        *out = PROPAGATE_PAPER;
    else
        return err_set(e, ERR_INVALID, "unknown mode '%.64s' (known: chain, paper)", text);
    return 0;
}

/* --model none: no network. */
static int open_model(const struct propagate_args *a, struct model **out, struct err *e)
{
    struct tensor_device device;
    char path[FS_PATH_MAX];
    *out = NULL;
    int rc = tensor_device_parse(a->device, &device, e);
    if (rc || !strcmp(a->model, "none"))
        return rc;
    rc = model_find(a->model, a->models, path, e);
    return rc ? rc : model_open(path, device, out, e);
}

static int run(const struct propagate_args *a, struct output *out, struct err *e)
{
    int threads = a->threads > 0 ? (int)a->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    struct meter meter;
    struct propagate_key *keys = NULL;
    struct propagate_result result;
    struct propagate_opts opts = {
        .frames = a->frames,
        .flow = a->flow,
        .work_px = (int)a->work_size,
        .net_px = (int)a->net_size,
        .sink = {.arg = out, .begin = begin, .have = have, .label = label, .span_done = span_done},
        .progress = meter_show,
        .progress_arg = &meter,
        .canceled = is_interrupted,
    };
    int rc = media_limits(&a->media, &opts.limits, e);
    if (rc == 0 && opts.limits.sandbox == CLIP_SANDBOXED)
        rc = clip_sandbox_start(e); /* before anything large is loaded */
    meter_start(&meter);
    if (rc < 0)
        return rc;
    par_init(threads);
    tensor_set_threads(1); /* frames are worked on side by side; threads inside the network would only get in the way */
    out->source = a->frames;
    rc = parse_mode(a->mode, &opts.mode, e);
    if (rc == 0)
        rc = open_model(a, &opts.model, e);
    if (rc == 0)
        rc = propagate_keys_from_dir(a->keyframes, a->frames, &opts.limits, &keys, &opts.n_keys, e);
    opts.keys = keys;
    if (rc == 0)
        rc = output_open(out, keys, opts.n_keys, e);
    if (rc == 0) {
        rc = propagate_run(&opts, &result, e);
        if (out->labels) { /* what is finished stays, with its index, after an error too */
            int rc2 = write_index(out, rc ? NULL : e);
            rc = rc ? rc : rc2;
        }
    }
    if (rc == 0)
        fprintf(stderr,
                "%lld labels made, %lld kept, %lld uncovered in %s, %.1f frames/s (flow %.1f s, network %.1f s)\n",
                (long long)result.labelled, (long long)result.skipped, (long long)result.uncovered, out->dir,
                result.wall_ms ? (double)result.labelled * 1000 / (double)result.wall_ms : 0,
                (double)result.flow_ms / 1000, (double)result.net_ms / 1000);
    model_close(opts.model);
    propagate_keys_free(keys, opts.n_keys);
    output_close(out);
    return rc;
}

int cmd_propagate(int argc, char **argv)
{
    struct propagate_args a = {
        .model = "fgplg-lite", .flow = "dis", .mode = "chain", .device = "auto", .media = MEDIA_OPTS_DEFAULT};
    struct output out = {0};
    const struct opt opts[] = {
        {"frames", 0, OPT_STR, &a.frames, "INPUT", "the clip: a video, a zip of images or a folder of images"},
        {"keyframes", 0, OPT_STR, &a.keyframes, "DIR", "masks named as their frames (video: 00010.png is frame 10)"},
        {"output", 'o', OPT_STR, &out.dir, "DIR",
         "a mask for every frame, labels.json, spans.json; `salient train --data DIR` reads it"},
        {"model", 'm', OPT_STR, &a.model, "NAME|PATH", "label generator (default fgplg-lite), or none: flow alone"},
        {"models", 0, OPT_STR, &a.models, "DIR", "where models are looked up by name"},
        {"mode", 0, OPT_STR, &a.mode, "MODE", "chain (default) or paper: direct flow, the network alone decides"},
        {"flow", 0, OPT_STR, &a.flow, "NAME", "optical flow: dis:brisk (default), dis:medium, dis:fast, dis:fine"},
        {"work-size", 0, OPT_INT, &a.work_size, "N", "longer side at which flow is estimated (default 854)"},
        {"net-size", 0, OPT_INT, &a.net_size, "N", "side of the network's input (default: the model's, at most 288)"},
        {"uncertainty", 0, OPT_STR, &out.uncertainty, "DIR", "also write a map of where labels are uncertain"},
        {"force", 0, OPT_BOOL, &out.force, NULL, "compute every interval again"},
        {"device", 0, OPT_STR, &a.device, "DEV", "cpu, cuda, cuda:N or auto (default)"},
        {"threads", 0, OPT_INT, &a.threads, "N", "default: all cores"},
#define MEDIA_OPTION(name, type, field, meta, help) {name, 0, type, &a.media.field, meta, help},
#include "server/media_options.def"
#undef MEDIA_OPTION
        {0},
    };
    const struct opt_cmd cmd = {
        .name = "salient propagate",
        .usage = "--frames INPUT --keyframes DIR -o DIR",
        .summary = "Makes a mask for every frame of a clip from the masks of a few. Run again after changing "
                   "keyframes: only the "
                   "intervals they touch are computed.",
        .opts = opts,
    };
    struct err e = {0};
    size_t n = 0;
    int rc = opt_parse(&cmd, argc, argv, NULL, 0, &n, &e);
    if (rc > 0)
        return 0;
    if (rc == 0 && (!a.frames || !a.keyframes || !out.dir))
        rc = err_set(&e, ERR_INVALID, "needs --frames INPUT, --keyframes DIR and -o DIR; see --help");
    if (rc == 0) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        rc = run(&a, &out, &e);
    }
    if (rc < 0)
        fprintf(stderr, "salient propagate: %s\n", e.msg);
    return rc < 0;
}
