/*
 * retrain: champion against challenger. Both are run over the same held-out frames and measured by the evaluation task,
 * the champion's report being the baseline of the challenger's, so the gates mean what they mean at POST /eval.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/media/image.h"
#include "core/net/detector.h"
#include "core/task/evaluate.h"
#include "core/task/retrain.h"

/* ---- maps ------------------------------------------------------------------------------------------------------- */

struct prediction {
    const struct retrain_clip *clip;
    char dir[FS_PATH_MAX];
    size_t at; /* label not yet passed */
};

static int take_map(void *arg, int64_t frame, const uint8_t *map, int width_px, int height_px, struct err *e)
{
    struct prediction *p = arg;
    char path[FS_PATH_MAX], name[32];
    while (p->at < p->clip->n && p->clip->labels[p->at].frame < frame)
        p->at++;
    if (p->at == p->clip->n || p->clip->labels[p->at].frame != frame || p->clip->labels[p->at].part != RETRAIN_HELD_OUT)
        return 0;
    snprintf(name, sizeof(name), "%05lld.png", (long long)frame);
    struct frame view = image_gray_view(map, width_px, height_px, width_px);
    int rc = fs_join(path, p->dir, name, e);
    return rc ? rc : image_write_png(path, &view, e);
}

/* Whether the model's window around the frame has a held-out one: windows are independent of each other. */
static bool window_counts(const struct retrain_clip *c, int64_t frame, int window)
{
    int64_t first = frame / window * window;
    for (size_t i = 0; i < c->n && c->labels[i].frame < first + window; i++)
        if (c->labels[i].part == RETRAIN_HELD_OUT && c->labels[i].frame >= first)
            return true;
    return false;
}

static int64_t last_held(const struct retrain_clip *c)
{
    int64_t last = -1;
    for (size_t i = 0; i < c->n; i++)
        if (c->labels[i].part == RETRAIN_HELD_OUT)
            last = c->labels[i].frame;
    return last;
}

static int predict_frames(struct prediction *p, struct clip *clip, struct detector *det, int window,
                          bool (*canceled)(void *arg), void *arg, struct err *e)
{
    int64_t end = (last_held(p->clip) / window + 1) * window;
    for (;;) {
        struct frame *f = NULL;
        int rc = clip_next(clip, &f, e);
        if (rc <= 0)
            return rc < 0 ? rc : detector_finish(det, e);
        bool past = f->ordinal >= end;
        rc = !past && window_counts(p->clip, f->ordinal, window) ? detector_push(det, f, e) : 0;
        frame_unref(f);
        if (!rc && canceled && canceled(arg))
            rc = err_set(e, ERR_CANCELED, "canceled");
        if (rc || past)
            return rc ? rc : detector_finish(det, e);
    }
}

int retrain_predict(struct model *m, const struct retrain_clip *c, const char *video, const struct clip_limits *limits,
                    const char *out, bool (*canceled)(void *arg), void *arg, struct err *e)
{
    struct prediction p = {.clip = c};
    struct detector_opts o = {.emit = take_map, .arg = &p};
    struct detector *det = NULL;
    struct clip *clip = NULL;
    if (c->n_held == 0)
        return 0;
    int rc = fs_join(p.dir, out, c->id, e);
    if (!rc)
        rc = fs_mkdirs(p.dir, e);
    if (!rc)
        rc = detector_open(m, o, &det, e);
    if (!rc)
        rc = clip_open(video, limits, &clip, e);
    if (!rc)
        rc = predict_frames(&p, clip, det, model_info(m)->clip_length, canceled, arg, e);
    clip_close(clip);
    detector_free(det);
    return rc;
}

/* ---- the gate --------------------------------------------------------------------------------------------------- */

/* Runs the evaluation; *json is the report. */
static int measure(const struct evaluate_opts *o, struct buf *json, bool *pass, struct err *e)
{
    struct evaluation *ev = NULL;
    int rc = evaluate_run(o, &ev, e);
    if (!rc)
        rc = evaluation_json(ev, json, e);
    *pass = !rc && evaluation_pass(ev);
    evaluation_free(ev);
    return rc;
}

static double metric_of(const json_t *overall, const char *name)
{
    const json_t *v = json_object_get(overall, name);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *first_failure(const json_t *gates)
{
    for (size_t i = 0; i < json_array_size(gates); i++) {
        const json_t *g = json_array_get(gates, i);
        const char *message = json_string_value(json_object_get(g, "message"));
        if (json_is_false(json_object_get(g, "pass")) && message)
            return message;
    }
    return "a gate failed";
}

static void decide(struct retrain_verdict *v, bool pass, int64_t frames)
{
    double was = metric_of(v->champion, "s_measure"), is = metric_of(v->challenger, "s_measure");
    v->promote = pass && is > was;
    snprintf(v->reason, sizeof(v->reason),
             "%s%.200s (S-measure %.4f, champion %.4f; MAE %.4f, champion %.4f; %lld held-out frames)",
             v->promote ? "better than the champion" : "kept: ",
             v->promote ? ""
             : pass     ? "no better than the champion"
                        : first_failure(v->gates),
             is, was, metric_of(v->challenger, "mae"), metric_of(v->champion, "mae"), (long long)frames);
}

int retrain_judge(const struct retrain_opts *o, const struct retrain_dirs *d, struct retrain_verdict *out,
                  struct err *e)
{
    struct buf base = BUF_INIT, report = BUF_INIT;
    bool pass = false;
    struct evaluate_opts eo = {
        .pred = d->champion, .gt = d->gt, .pred_label = "champion", .gt_label = "held-out labels", .worst = -1};
    *out = (struct retrain_verdict){0};
    int rc = measure(&eo, &base, &pass, e);
    eo.pred = d->challenger;
    eo.pred_label = "challenger";
    eo.baseline = base.data;
    eo.baseline_len = base.len;
    eo.baseline_name = "champion";
    eo.min = o->min[0] ? o->min : NULL;
    eo.max_drop = o->max_drop[0] ? o->max_drop : NULL;
    if (!rc)
        rc = measure(&eo, &report, &pass, e);
    json_t *a = rc ? NULL : json_loadb(base.data, base.len, 0, NULL);
    json_t *b = rc ? NULL : json_loadb(report.data, report.len, 0, NULL);
    if (!rc && (!a || !b))
        rc = err_set(e, ERR_INTERNAL, "an evaluation's report is not JSON");
    if (!rc) {
        out->champion = json_incref(json_object_get(a, "overall"));
        out->challenger = json_incref(json_object_get(b, "overall"));
        out->gates = json_incref(json_object_get(b, "gates"));
        out->protocol = json_incref(json_object_get(b, "protocol"));
        decide(out, pass, json_integer_value(json_object_get(b, "frames")));
    }
    json_decref(a);
    json_decref(b);
    buf_free(&base);
    buf_free(&report);
    return rc;
}

void retrain_verdict_fini(struct retrain_verdict *v)
{
    json_decref(v->champion);
    json_decref(v->challenger);
    json_decref(v->gates);
    json_decref(v->protocol);
    *v = (struct retrain_verdict){0};
}
