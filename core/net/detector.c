/*
 * detector: windows of T frames through a plan.
 *
 * Windows are gathered into a batch and run side by side, one thread each: the threads of a small network meet inside
 * every operation, and meeting costs more than the operation when somebody else wants the core too. Large networks run
 * one window at a time on all threads. A window that has run waits until the next ones are full, because the clip may
 * end inside the next, and then the last window is made of the end of this one and the start of that. Memory is the
 * batch and one window, whatever the clip.
 */
#include "core/net/detector.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/kernel/frame_in.h"
#include "core/kernel/map_out.h"
#include "core/net/plan.h"

#define FRAME_PX_MAX RESAMPLE_MAX
#define LANES_MAX 4

struct slot { /* what a map needs to know of its frame */
    int64_t ordinal;
    int width, height;
};

struct window {
    struct slot *slots; /* T */
    float *in;          /* T x 3 x px x px */
    float *logits;      /* T x px x px */
    int n;              /* frames filled; once it has run, frames to emit, from the first */
};

struct detector {
    struct plan *plan;
    struct detector_opts opts;
    int length, px; /* T; side of the network's input */
    float mean[3], std[3];
    int lanes;                      /* windows that run side by side */
    struct window batch[LANES_MAX]; /* the first `full` are full, the next one fills */
    int full;
    struct window before;     /* has run, not yet emitted; n = 0: none */
    struct frame_in frame_in; /* for frames like the last one */
    struct map_out map_out;   /* for maps like the last one */
    uint8_t *map;
    bool failed;
};

/* ---- windows ----------------------------------------------------------------------------------------------------- */

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

static int fit_map(struct detector *d, const struct slot *s, struct err *e)
{
    if (d->map_out.x.out == s->width && d->map_out.y.out == s->height)
        return 0;
    map_out_fini(&d->map_out);
    free(d->map);
    d->map = malloc((size_t)s->width * (size_t)s->height);
    if (!d->map)
        return err_set(e, ERR_NOMEM, "a map of %d x %d", s->width, s->height);
    return map_out_init(&d->map_out, d->px, d->px, s->width, s->height, e);
}

static int emit(struct detector *d, const struct window *w, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < w->n && !rc; i++) {
        const struct slot *s = &w->slots[i];
        rc = fit_map(d, s, e);
        if (!rc)
            rc = map_out_run(&d->map_out, w->logits + (size_t)i * plane(d), d->map, s->width, e);
        if (!rc)
            rc = d->opts.emit(d->opts.arg, s->ordinal, d->map, s->width, s->height, e);
    }
    return rc;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

struct lanes {
    struct detector *d;
    int n;
    struct err err[LANES_MAX];
};

static void lane(void *arg, int i)
{
    struct lanes *l = arg;
    struct window *w = &l->d->batch[i];
    if (l->n > 1)
        tensor_thread_limit(par_threads() > l->n ? par_threads() / l->n : 1);
    plan_run(l->d->plan, w->in, w->logits, &l->err[i]);
    tensor_thread_limit(0);
}

/* Runs the first n windows of the batch. */
static int run_batch(struct detector *d, int n, struct err *e)
{
    struct lanes l = {.d = d, .n = n};
    if (n == 1)
        lane(&l, 0);
    else
        par_for(n, lane, &l);
    for (int i = 0; i < n; i++)
        if (l.err[i].code)
            return err_set(e, l.err[i].code, "%s", l.err[i].msg);
    return 0;
}

/* The batch is full: runs it and emits all but its last window, which waits. */
static int advance(struct detector *d, struct err *e)
{
    int last = d->lanes - 1, rc = run_batch(d, d->lanes, e);
    if (!rc)
        rc = emit(d, &d->before, e);
    for (int i = 0; i < last && !rc; i++)
        rc = emit(d, &d->batch[i], e);
    struct window w = d->before;
    d->before = d->batch[last];
    d->batch[last] = w;
    for (int i = 0; i <= last; i++)
        d->batch[i].n = 0;
    d->full = 0;
    return rc;
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

static int load(struct detector *d, const struct frame *f, struct err *e)
{
    enum frame_in_format format = frame_channels(f->fmt) == 1 ? FRAME_IN_GREY : FRAME_IN_RGB;
    struct frame_in *in = &d->frame_in;
    if (in->x.in != f->width_px || in->y.in != f->height_px || in->format != format) {
        frame_in_fini(in);
        int rc = frame_in_init(in, format, f->width_px, f->height_px, d->px, d->px, d->mean, d->std, e);
        if (rc)
            return rc;
    }
    struct window *w = &d->batch[d->full];
    w->slots[w->n] = (struct slot){f->ordinal, f->width_px, f->height_px};
    return frame_in_run(in, f->data, f->stride_bytes, w->in + (size_t)w->n * 3 * plane(d), e);
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
    if (!rc && ++d->batch[d->full].n == d->length && ++d->full == d->lanes)
        rc = advance(d, e);
    d->failed = rc != 0;
    return rc;
}

/* The clip ended inside w: it is moved back to end at the last frame, or, with nothing before it, repeats that frame. */
static void close_window(struct detector *d, struct window *w, struct window *prev)
{
    int t = d->length, r = w->n;
    if (prev) {
        move_frames(d, w, t - r, w, 0, r);
        move_frames(d, w, 0, prev, r, t - r);
        prev->n = r;
        w->n = t;
    } else {
        for (int i = r; i < t; i++)
            move_frames(d, w, i, w, r - 1, 1);
    }
}

int detector_finish(struct detector *d, struct err *e)
{
    if (d->failed)
        return err_set(e, ERR_INVALID, "the detector failed before");
    int n = d->full, rc = 0;
    struct window *w = &d->batch[n]; /* n < lanes: a full batch has run */
    if (w->n > 0) {
        close_window(d, w, n > 0 ? w - 1 : d->before.n > 0 ? &d->before : NULL);
        n++;
    }
    if (n > 0)
        rc = run_batch(d, n, e);
    if (!rc)
        rc = emit(d, &d->before, e);
    for (int i = 0; i < n && !rc; i++)
        rc = emit(d, &d->batch[i], e);
    for (int i = 0; i < d->lanes; i++)
        d->batch[i].n = 0;
    d->before.n = d->full = 0;
    d->failed = rc != 0;
    return rc;
}

/* ---- lifecycle --------------------------------------------------------------------------------------------------- */

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
    bool alone = info->arch->factored || model_device(m).type != TENSOR_CPU;
    d->lanes = alone ? 1 : par_threads() < LANES_MAX ? par_threads() : LANES_MAX;
    bool ok = window_init(&d->before, d);
    for (int i = 0; i < d->lanes; i++)
        ok = window_init(&d->batch[i], d) && ok;
    if (!ok)
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

bool detector_ready(const struct detector *d)
{
    return !d->failed && d->full == 0 && d->batch[0].n == 0 && d->before.n == 0;
}

void detector_receiver(struct detector *d, const struct detector_opts *o)
{
    BUG_ON(!o->emit || !detector_ready(d));
    d->opts.emit = o->emit;
    d->opts.arg = o->arg;
}

void detector_free(struct detector *d)
{
    if (!d)
        return;
    plan_free(d->plan);
    window_fini(&d->before);
    for (int i = 0; i < d->lanes; i++)
        window_fini(&d->batch[i]);
    frame_in_fini(&d->frame_in);
    map_out_fini(&d->map_out);
    free(d->map);
    free(d);
}
