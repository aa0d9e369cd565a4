/*
 * detector: windows of T frames through a plan.
 *
 * Two windows are held: `now` fills with inputs; `before` has run and waits, because the clip may end inside `now`, and
 * then the last window is made of the end of `before` and the start of `now`. Memory is two windows of inputs and
 * logits, whatever the clip.
 */
#include "core/net/detector.h"

#include <stdlib.h>
#include <string.h>

#include "core/kernel/frame_in.h"
#include "core/kernel/map_out.h"
#include "core/net/plan.h"

#define FRAME_PX_MAX RESAMPLE_MAX

struct slot { /* what a map needs to know of its frame */
    int64_t ordinal;
    int width, height;
};

struct window {
    struct slot *slots; /* T */
    float *in;          /* T x 3 x px x px */
    float *logits;      /* T x px x px */
    int n;
};

struct detector {
    struct plan *plan;
    struct detector_opts opts;
    int length, px; /* T; side of the network's input */
    float mean[3], std[3];
    struct window now, before;
    struct frame_in frame_in; /* for frames like the last one */
    struct map_out map_out;   /* for maps like the last one */
    uint8_t *map;
    bool failed;
};

/* ---- windows
 * ------------------------------------------------------------------------------------------------------------- */

static size_t plane(const struct detector *d)
{
    return (size_t)d->px * (size_t)d->px;
}

static bool window_init(struct window *w, const struct detector *d)
{
    size_t t = (size_t)d->length;
    w->slots = calloc(t, sizeof(*w->slots));
    w->in = malloc(t * 3 * plane(d) * sizeof(*w->in));
    w->logits = malloc(t * plane(d) * sizeof(*w->logits));
    return w->slots && w->in && w->logits;
}

static void window_fini(struct window *w)
{
    free(w->slots);
    free(w->in);
    free(w->logits);
}

/* Moves frames [from, from + n) of src to [to, to + n) of dst; the two may be one window. */
static void move_frames(const struct detector *d, struct window *dst, int to, const struct window *src, int from, int n)
{
    size_t in = 3 * plane(d), count = (size_t)n;
    memmove(dst->slots + to, src->slots + from, count * sizeof(*dst->slots));
    memmove(dst->in + (size_t)to * in, src->in + (size_t)from * in, count * in * sizeof(float));
}

static int emit(struct detector *d, const struct window *w, int n, struct err *e)
{
    for (int i = 0; i < n; i++) {
        const struct slot *s = &w->slots[i];
        if (d->map_out.x.out != s->width || d->map_out.y.out != s->height) {
            map_out_fini(&d->map_out);
            free(d->map);
            d->map = malloc((size_t)s->width * (size_t)s->height);
            if (!d->map)
                return err_set(e, ERR_NOMEM, "a map of %d x %d", s->width, s->height);
            int rc = map_out_init(&d->map_out, d->px, d->px, s->width, s->height, e);
            if (rc)
                return rc;
        }
        int rc = map_out_run(&d->map_out, w->logits + (size_t)i * plane(d), d->map, s->width, e);
        if (!rc)
            rc = d->opts.emit(d->opts.arg, s->ordinal, d->map, s->width, s->height, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* `now` is full: runs it, emits what was waiting, and lets it wait. */
static int advance(struct detector *d, struct err *e)
{
    int rc = plan_run(d->plan, d->now.in, d->now.logits, e);
    if (!rc)
        rc = emit(d, &d->before, d->before.n, e);
    struct window w = d->before;
    d->before = d->now;
    d->now = w;
    d->now.n = 0;
    return rc;
}

/* ---- input
 * --------------------------------------------------------------------------------------------------------------- */

static int load(struct detector *d, const struct frame *f, struct err *e)
{
    int ch = frame_channels(f->fmt);
    struct frame_in *in = &d->frame_in;
    if (in->x.in != f->width_px || in->y.in != f->height_px || in->channels != ch) {
        frame_in_fini(in);
        int rc = frame_in_init(in, ch, f->width_px, f->height_px, d->px, d->px, d->mean, d->std, e);
        if (rc)
            return rc;
    }
    d->now.slots[d->now.n] = (struct slot){f->ordinal, f->width_px, f->height_px};
    return frame_in_run(in, f->data, f->stride_bytes, d->now.in + (size_t)d->now.n * 3 * plane(d), e);
}

int detector_push(struct detector *d, const struct frame *f, struct err *e)
{
    if (d->failed)
        return err_set(e, ERR_INVALID, "the detector failed before");
    int rc;
    if (f->width_px < 1 || f->height_px < 1 || f->width_px > FRAME_PX_MAX || f->height_px > FRAME_PX_MAX)
        rc = err_set(e, ERR_LIMIT, "a frame of %d x %d", f->width_px, f->height_px);
    else
        rc = load(d, f, e);
    if (!rc && ++d->now.n == d->length)
        rc = advance(d, e);
    d->failed = rc != 0;
    return rc;
}

/* The clip ended r frames into `now`. */
static int finish(struct detector *d, int r, struct err *e)
{
    int t = d->length, rc;
    if (d->before.n == t) {
        rc = emit(d, &d->before, r, e);
        move_frames(d, &d->now, t - r, &d->now, 0, r);
        move_frames(d, &d->now, 0, &d->before, r, t - r);
        r = t;
    } else {
        rc = 0;
        for (int i = r; i < t; i++)
            move_frames(d, &d->now, i, &d->now, r - 1, 1);
    }
    if (!rc)
        rc = plan_run(d->plan, d->now.in, d->now.logits, e);
    return rc ? rc : emit(d, &d->now, r, e);
}

int detector_finish(struct detector *d, struct err *e)
{
    if (d->failed)
        return err_set(e, ERR_INVALID, "the detector failed before");
    int rc = d->now.n ? finish(d, d->now.n, e) : emit(d, &d->before, d->before.n, e);
    d->now.n = d->before.n = 0;
    d->failed = rc != 0;
    return rc;
}

/* ---- lifecycle
 * ------------------------------------------------------------------------------------------------------------- */

static int setup(struct detector *d, struct model *m, struct err *e)
{
    const struct model_info *info = model_info(m);
    if (info->arch->in_channels != 3)
        return err_set(e, ERR_UNSUPPORTED, "%s (%s) is not a detector: it takes %d channels", info->name,
                       info->arch->name, info->arch->in_channels);
    d->px = d->opts.size_px ? d->opts.size_px : info->input_px;
    if (d->px < MODEL_PX_MIN || d->px > MODEL_PX_MAX)
        return err_set(e, ERR_INVALID, "a network input of %d pixels; it may be %d to %d", d->px, MODEL_PX_MIN,
                       MODEL_PX_MAX);
    d->length = info->arch->has_video ? info->clip_length : 1;
    memcpy(d->mean, info->mean, sizeof(d->mean));
    memcpy(d->std, info->std, sizeof(d->std));
    if (!window_init(&d->now, d) || !window_init(&d->before, d))
        return err_set(e, ERR_NOMEM, "windows of %d frames of %d pixels", d->length, d->px);
    struct plan_shape shape = {d->length, d->px, d->px, info->arch->has_video};
    int rc = plan_new(m, shape, &d->plan, e);
    model_trim(m);
    return rc;
}

int detector_open(struct model *m, struct detector_opts o, struct detector **out, struct err *e)
{
    BUG_ON(!o.emit);
    *out = NULL;
    struct detector *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ERR_NOMEM, "detector");
    d->opts = o;
    int rc = setup(d, m, e);
    if (rc)
        detector_free(d);
    else
        *out = d;
    return rc;
}

void detector_free(struct detector *d)
{
    if (!d)
        return;
    plan_free(d->plan);
    window_fini(&d->now);
    window_fini(&d->before);
    frame_in_fini(&d->frame_in);
    map_out_fini(&d->map_out);
    free(d->map);
    free(d);
}
