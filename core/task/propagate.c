/*
 * The propagate job: checks keyframes, cuts the clip into intervals, gives each its key, and runs those that the caller does not have.
 * What happens inside an interval is in propagate_span.c, inside a frame in propagate_fuse.c.
 */
#include "core/task/propagate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/net/model.h"
#include "core/task/propagate_impl.h"

/* Enters every key: raise it when the same inputs give other labels. */
#define PROPAGATE_VERSION 3

/* ---- what the files of the job share --------------------------------------------------------------------------------- */

int pjob_step(struct pjob *j, int64_t frames, struct err *e)
{
    const struct propagate_opts *o = j->opts;
    if (o->canceled && o->canceled(o->canceled_arg))
        return err_set(e, ERR_CANCELED, "propagation canceled");
    j->done += frames;
    if (frames && o->progress)
        o->progress(o->progress_arg, j->done, j->info.frames);
    return 0;
}

const struct key_mask *pjob_key(const struct pjob *j, int64_t frame)
{
    for (size_t i = 0; i < j->n_keys; i++)
        if (j->keys[i].frame == frame)
            return &j->keys[i];
    return NULL;
}

/* ---- planning -------------------------------------------------------------------------------------------------------- */

static int by_frame(const void *a, const void *b)
{
    const struct key_mask *x = a, *y = b;
    return (x->frame > y->frame) - (x->frame < y->frame);
}

static int inspect_keys(struct pjob *j, struct err *e)
{
    const struct propagate_opts *o = j->opts;
    if (o->n_keys < 1)
        return err_set(e, ERR_INVALID, "no keyframes");
    j->keys = calloc(o->n_keys, sizeof(*j->keys));
    if (!j->keys)
        return err_set(e, ERR_NOMEM, "keyframes");
    j->binary = true;
    for (size_t i = 0; i < o->n_keys; i++) {
        const struct propagate_key *k = &o->keys[i];
        if (k->frame < 0 || k->frame >= j->info.frames)
            return err_set(e, ERR_INVALID, "keyframe %lld: the clip has %lld frames", (long long)k->frame,
                           (long long)j->info.frames);
        int rc = key_inspect(k, j->w, j->h, &j->keys[i], e);
        if (rc)
            return rc;
        j->binary = j->binary && j->keys[i].kind != KEY_LABELS;
    }
    j->n_keys = o->n_keys;
    qsort(j->keys, j->n_keys, sizeof(*j->keys), by_frame);
    for (size_t i = 1; i < j->n_keys; i++)
        if (j->keys[i].frame == j->keys[i - 1].frame)
            return err_set(e, ERR_INVALID, "two masks for frame %lld: %s and %s", (long long)j->keys[i].frame,
                           j->keys[i - 1].path, j->keys[i].path);
    return 0;
}

/* Hash of a file, or of a directory's names and contents. */
static int hash_tree(const char *path, struct sha256 *h, struct err *e)
{
    if (!fs_is_dir(path)) {
        char hex[SHA256_HEX_SIZE];
        int rc = sha256_file_hex(path, hex, e);
        if (rc == 0)
            sha256_update(h, hex, sizeof(hex));
        return rc;
    }
    struct fs_list names = {0};
    int rc = fs_list(path, &names, e);
    for (size_t i = 0; rc == 0 && i < names.n; i++) {
        char child[FS_PATH_MAX];
        rc = fs_join(child, path, names.names[i], e);
        sha256_update(h, names.names[i], strlen(names.names[i]) + 1);
        if (rc == 0)
            rc = hash_tree(child, h, e);
    }
    fs_list_free(&names);
    return rc;
}

static int clip_identity(const struct propagate_opts *o, char out[SHA256_HEX_SIZE], struct err *e)
{
    struct sha256 *h = sha256_new();
    if (!h)
        return err_set(e, ERR_NOMEM, "clip hash");
    int rc = 0;
    if (o->clip_key)
        sha256_update(h, o->clip_key, strlen(o->clip_key));
    else
        rc = hash_tree(o->frames, h, e);
    sha256_final_hex(h, out);
    return rc;
}

static void span_key(const struct pjob *j, const char *clip_hex, struct propagate_span *s)
{
    const struct key_mask *l = pjob_key(j, s->left), *r = pjob_key(j, s->right);
    const struct propagate_opts *o = j->opts;
    char text[1024];
    int n = snprintf(text, sizeof(text),
                     "salient propagate %d\nclip %s\nleft %lld %s\nright %lld %s\nframes %lld %lld\nsize %d %d work %d "
                     "%d\nmode %d binary %d\nflow %s\nmodel %s\nnet %d\n",
                     PROPAGATE_VERSION, clip_hex, (long long)s->left, l ? l->sha256 : "-", (long long)s->right,
                     r ? r->sha256 : "-", (long long)s->first, (long long)s->last, j->w, j->h, j->ww, j->wh,
                     (int)o->mode, j->binary, flow_name(j->flow), j->model_name, o->net_px);
    BUG_ON(n < 0 || n >= (int)sizeof(text));
    sha256_hex(text, (size_t)n, s->key);
}

static void add_span(struct pjob *j, int64_t left, int64_t right)
{
    struct propagate_span s = {.left = left, .right = right, .first = left + 1};
    s.last = right < 0 ? j->info.frames - 1 : right - 1;
    if (s.last >= s.first)
        j->spans[j->n_spans++] = s;
}

static int plan_spans(struct pjob *j, struct err *e)
{
    char clip_hex[SHA256_HEX_SIZE];
    j->spans = calloc(j->n_keys + 1, sizeof(*j->spans));
    if (!j->spans)
        return err_set(e, ERR_NOMEM, "intervals");
    for (size_t i = 0; i <= j->n_keys; i++)
        add_span(j, i ? j->keys[i - 1].frame : -1, i < j->n_keys ? j->keys[i].frame : -1);
    int rc = clip_identity(j->opts, clip_hex, e);
    for (size_t i = 0; rc == 0 && i < j->n_spans; i++)
        span_key(j, clip_hex, &j->spans[i]);
    return rc;
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static void choose_sizes(struct pjob *j)
{
    int side = j->opts->work_px ? j->opts->work_px : PROPAGATE_WORK_PX, longer = j->w > j->h ? j->w : j->h;
    double k = longer > side ? (double)side / longer : 1.0;
    if (j->opts->mode == PROPAGATE_PAPER) { /* flow at the network's own size */
        j->ww = j->wh = propagate_net_px(j->nets[0]);
        j->vw = j->vh = j->ww / 2;
        return;
    }
    /* The voting size, down to half of it, must still be large enough for flow. */
    j->ww = (int)fmax(2 * FLOW_MIN_PX, lround(j->w * k));
    j->wh = (int)fmax(2 * FLOW_MIN_PX, lround(j->h * k));
    longer = j->ww > j->wh ? j->ww : j->wh;
    double v = fmin(1.0, fmax(0.5, PROPAGATE_VOTE_PX / (double)longer));
    j->vw = (int)(j->ww * v);
    j->vh = (int)(j->wh * v);
}

static int open_clip(struct pjob *j, struct err *e)
{
    const struct propagate_opts *o = j->opts;
    int rc = clip_open(o->frames, &o->limits, &j->clip, e);
    if (rc)
        return rc;
    j->info = *clip_info(j->clip);
    if (!j->info.frames_exact) {
        rc = clip_probe(o->frames, &o->limits, &j->info, e);
        if (rc)
            return rc;
    }
    j->w = j->info.width_px;
    j->h = j->info.height_px;
    j->result->info = j->info;
    reader_init(&j->reader, j->w, j->h);
    choose_sizes(j);
    return 0;
}

#define DEFAULT_FLOW "dis"

int propagate_flow_name(const char *spec, char *out, size_t size, struct err *e)
{
    struct flow *f;
    int rc = flow_open(spec ? spec : DEFAULT_FLOW, &f, e);
    if (rc)
        return rc;
    snprintf(out, size, "%s", flow_name(f));
    flow_close(f);
    return 0;
}

static int open_tools(struct pjob *j, struct err *e)
{
    const struct propagate_opts *o = j->opts;
    if (o->work_px && (o->work_px < 64 || o->work_px > 4096))
        return err_set(e, ERR_INVALID, "working size %d is not between 64 and 4096", o->work_px);
    if (o->mode == PROPAGATE_PAPER && !o->model)
        return err_set(e, ERR_INVALID, "paper mode needs a label generator model");
    const char *flow = o->flow ? o->flow : DEFAULT_FLOW;
    int rc = flow_open(flow, &j->flow, e);
    if (rc == 0)
        rc = flow_open_halved(flow, 1, &j->near_flow, e);
    if (rc || !o->model)
        return rc;
    const struct model_info *m = model_info(o->model);
    snprintf(j->model_name, sizeof(j->model_name), "%s%s%s %.16s", m->name, m->version[0] ? "/" : "", m->version,
             m->sha256);
    return propagate_net_open(o->model, o->net_px, &j->nets[0], e);
}

static void pjob_fini(struct pjob *j)
{
    reader_fini(&j->reader);
    clip_close(j->clip);
    flow_close(j->flow);
    flow_close(j->near_flow);
    for (int i = PROPAGATE_LANES - 1; i >= 0; i--) /* the first one lends to the others */
        propagate_net_close(j->nets[i]);
    free(j->keys);
    free(j->spans);
}

/* ---- running --------------------------------------------------------------------------------------------------------- */

static int emit_keyframes(struct pjob *j, struct err *e)
{
    const struct propagate_sink *s = &j->opts->sink;
    size_t n = (size_t)j->w * (size_t)j->h;
    uint8_t *certain = calloc(1, n);
    if (!certain)
        return err_set(e, ERR_NOMEM, "uncertainty map");
    struct frame uncertainty = {
        .data = certain, .width_px = j->w, .height_px = j->h, .stride_bytes = j->w, .fmt = FRAME_GRAY8};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < j->n_keys; i++) {
        const struct key_mask *k = &j->keys[i];
        struct propagate_label l = {.frame = k->frame,
                                    .name = clip_frame_name(j->clip, k->frame),
                                    .source = PROPAGATE_MANUAL,
                                    .confidence = 1,
                                    .left = k->frame,
                                    .right = k->frame,
                                    .binary = j->binary};
        struct frame *mask;
        rc = key_read(k, j->w, j->h, j->binary, &mask, e);
        if (rc)
            break;
        rc = s->label(s->arg, &l, mask, &uncertainty, e);
        frame_unref(mask);
        if (rc == 0)
            rc = pjob_step(j, 1, e);
    }
    free(certain);
    return rc;
}

static int run_spans(struct pjob *j, struct err *e)
{
    const struct propagate_sink *s = &j->opts->sink;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < j->n_spans; i++) {
        const struct propagate_span *span = &j->spans[i];
        if (s->have && s->have(s->arg, span)) {
            j->result->skipped += span->last - span->first + 1;
            rc = pjob_step(j, span->last - span->first + 1, e);
            continue;
        }
        rc = span_run(j, span, e);
        if (rc == 0 && s->span_done)
            rc = s->span_done(s->arg, span, e);
    }
    return rc;
}

int propagate_run(const struct propagate_opts *o, struct propagate_result *result, struct err *e)
{
    struct pjob j = {.opts = o, .result = result};
    int64_t start = clock_mono_ms();
    *result = (struct propagate_result){0};
    BUG_ON(!o->sink.label);
    int rc = open_tools(&j, e);
    if (rc == 0)
        rc = open_clip(&j, e);
    if (rc == 0)
        rc = inspect_keys(&j, e);
    if (rc == 0)
        rc = plan_spans(&j, e);
    if (rc == 0 && o->sink.begin)
        rc = o->sink.begin(o->sink.arg, &j.info, j.spans, j.n_spans, e);
    if (rc == 0)
        rc = emit_keyframes(&j, e);
    if (rc == 0)
        rc = run_spans(&j, e);
    pjob_fini(&j);
    result->wall_ms = clock_mono_ms() - start;
    return rc;
}
