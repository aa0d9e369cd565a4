/*
 * One interval, in chunks of at most PROPAGATE_CHUNK frames.
 *
 * For every frame k the flows to and from both keyframes are composed from neighbour to neighbour: from the left keyframe
 * going right, from the right one going left. The left ones ride along; the right ones need a walk from the far end first:
 *
 *   1. for every chunk from the last to the second, estimate its neighbour flows and carry the right state across it, keeping a
 *      checkpoint of the state on each boundary (nothing when there is one chunk)
 *   2. for every chunk from the first, estimate its neighbour flows, walk the right state through it from its checkpoint and keep what
 *      each frame needs, then walk the left state and fuse frame after frame
 *
 * Without a right keyframe there is only the left walk. Without a left one the chunks are taken from the last to the first, so no
 * checkpoints are needed.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/par.h"
#include "core/kernel/warp.h"
#include "core/task/propagate_impl.h"

#define CHAIN_LOST 0.05 /* the part of an object that a chain may lose before the direct flow is asked too */

/* Composed flow between a frame and a keyframe. */
struct state {
    struct flow_field to, from;
};

/* What one keyframe contributes to one frame, kept until it is fused. */
struct seen {
    bool valid;
    struct pside side;
};

struct chunk {
    int64_t first, last; /* frames to be fused */
    int64_t base;        /* ordinal of frames[0]: first - 1, or first when nothing lies before it */
    int n;               /* frames held, neighbours included */
    struct pframe frames[PROPAGATE_CHUNK + 2];
    struct flow_field fwd[PROPAGATE_CHUNK + 1]; /* frames[i] -> frames[i+1] */
    struct flow_field bwd[PROPAGATE_CHUNK + 1];
    struct seen left[PROPAGATE_CHUNK], right[PROPAGATE_CHUNK];
};

struct span {
    struct pjob *job;
    const struct propagate_span *plan;
    struct pkeyframe *left, *right; /* NULL: none on that side */
    struct state left_state, right_state, spare;
    struct state *checkpoints; /* [i]: right state at the first frame after chunk i */
    int64_t n_chunks;
    struct chunk c;
    struct fuser *lanes[PROPAGATE_LANES]; /* frames are fused side by side */
    int n_lanes;
    int64_t next;       /* frame to be fused */
    pthread_mutex_t mu; /* guards what follows, the sink and the job's counters */
    int failed;         /* 0, or the first code */
    struct err err;
};

/* ---- frames ---------------------------------------------------------------------------------------------------------- */

static void pframe_fini(struct pframe *f)
{
    free(f->rgb);
    free(f->grey);
    free(f->features);
    *f = (struct pframe){0};
}

static void to_grey(const uint8_t *rgb, uint8_t *grey, size_t n)
{
    for (size_t i = 0; i < n; i++, rgb += 3)
        grey[i] = (uint8_t)((rgb[0] * 77 + rgb[1] * 150 + rgb[2] * 29 + 128) >> 8);
}

/* Resamples interleaved bytes; channels 1 or 3. */
static int scale_bytes(const uint8_t *src, int stride, int channels, int w, int h, uint8_t *dst, int dw, int dh,
                       struct err *e)
{
    size_t n = (size_t)w * (size_t)h, dn = (size_t)dw * (size_t)dh;
    if (w == dw && h == dh) {
        for (int y = 0; y < h; y++)
            memcpy(dst + (size_t)y * (size_t)channels * (size_t)w, src + (ptrdiff_t)y * stride,
                   (size_t)w * (size_t)channels);
        return 0;
    }
    float *in = malloc((n + dn) * sizeof(*in));
    if (!in)
        return err_set(e, ERR_NOMEM, "resizing a frame");
    float *out = in + n;
    int rc = 0;
    for (int c = 0; rc == 0 && c < channels; c++) {
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                in[(size_t)y * (size_t)w + (size_t)x] = src[(ptrdiff_t)y * stride + x * channels + c];
        rc = plane_resample(in, w, h, out, dw, dh, e);
        for (size_t i = 0; rc == 0 && i < dn; i++)
            dst[i * (size_t)channels + (size_t)c] = (uint8_t)(out[i] + 0.5f);
    }
    free(in);
    return rc;
}

static int half_grey(const struct pjob *j, const uint8_t *rgb, uint8_t *half, struct err *e)
{
    size_t work = (size_t)j->ww * (size_t)j->wh;
    uint8_t *grey = malloc(work);
    if (!grey)
        return err_set(e, ERR_NOMEM, "resizing a frame");
    to_grey(rgb, grey, work);
    int rc = scale_bytes(grey, j->ww, 1, j->ww, j->wh, half, j->vw, j->vh, e);
    free(grey);
    return rc;
}

static int pframe_make(const struct pjob *j, int64_t n, const struct frame *f, struct pframe *out, struct err *e)
{
    size_t work = (size_t)j->ww * (size_t)j->wh, vote = (size_t)j->vw * (size_t)j->vh;
    int rc = 0;
    *out = (struct pframe){.ordinal = n};
    out->rgb = malloc(3 * work);
    out->grey = malloc(vote);
    out->features = aligned_alloc(64, (vote * 4 * sizeof(float) + 63) / 64 * 64);
    if (!out->rgb || !out->grey || !out->features)
        rc = err_set(e, ERR_NOMEM, "frame %lld", (long long)n);
    if (rc == 0)
        rc = scale_bytes(f->data, f->stride_bytes, 3, j->w, j->h, out->rgb, j->ww, j->wh, e);
    if (rc == 0)
        rc = half_grey(j, out->rgb, out->grey, e);
    if (rc == 0)
        rc = vote_features(&(struct flow_image){out->rgb, j->ww, j->wh, 3 * j->ww, 3}, j->vw, j->vh, out->features, e);
    if (rc)
        pframe_fini(out);
    return rc;
}

static int pframe_load(struct pjob *j, int64_t n, struct pframe *out, struct err *e)
{
    struct frame *f;
    int rc = pjob_frame(j, n, &f, e);
    if (rc)
        return rc;
    rc = pframe_make(j, n, f, out, e);
    frame_unref(f);
    return rc;
}

static void pkeyframe_free(struct pkeyframe *k)
{
    if (!k)
        return;
    pframe_fini(&k->im);
    free(k->labels);
    free(k->edges);
    free(k);
}

static int pkeyframe_load(struct pjob *j, int64_t n, struct pkeyframe **out, struct err *e)
{
    *out = NULL;
    if (n < 0)
        return 0;
    struct frame *mask = NULL;
    struct pkeyframe *k = calloc(1, sizeof(*k));
    if (k) {
        k->labels = malloc((size_t)j->ww * (size_t)j->wh);
        k->edges = malloc(((size_t)j->ww + 1) * ((size_t)j->wh + 1) * sizeof(*k->edges));
    }
    int rc = k && k->labels && k->edges ? 0 : err_set(e, ERR_NOMEM, "keyframe %lld", (long long)n);
    if (rc == 0)
        rc = pframe_load(j, n, &k->im, e);
    if (rc == 0)
        rc = key_read(pjob_key(j, n), j->w, j->h, j->binary, &mask, e);
    if (rc) {
        pkeyframe_free(k);
        return rc;
    }
    for (int y = 0; y < j->wh; y++) {
        const uint8_t *row = mask->data + ((int64_t)y * 2 + 1) * j->h / (2 * j->wh) * mask->stride_bytes;
        for (int x = 0; x < j->ww; x++)
            k->labels[(size_t)y * (size_t)j->ww + (size_t)x] = row[((int64_t)x * 2 + 1) * j->w / (2 * j->ww)];
    }
    vote_edges(k->labels, j->ww, j->wh, k->edges);
    frame_unref(mask);
    *out = k;
    return 0;
}

/* ---- states ---------------------------------------------------------------------------------------------------------- */

static int state_init(struct state *s, const struct pjob *j, struct err *e)
{
    int rc = flow_field_init(&s->to, j->vw, j->vh, e);
    return rc ? rc : flow_field_init(&s->from, j->vw, j->vh, e);
}

static void state_fini(struct state *s)
{
    flow_field_fini(&s->to);
    flow_field_fini(&s->from);
}

static void field_copy(struct flow_field *dst, const struct flow_field *src)
{
    memcpy(dst->dx, src->dx, 2 * (size_t)src->width_px * (size_t)src->height_px * sizeof(float));
}

static void state_zero(struct state *s)
{
    size_t bytes = 2 * (size_t)s->to.width_px * (size_t)s->to.height_px * sizeof(float);
    memset(s->to.dx, 0, bytes);
    memset(s->from.dx, 0, bytes);
}

/* Moves a state from a frame's neighbour to the frame: `away` is the frame's flow to that neighbour, `back` the other way. */
static void state_move(struct state *s, struct state *spare, const struct flow_field *away,
                       const struct flow_field *back)
{
    flow_chain(away, &s->to, &spare->to);
    flow_chain(&s->from, back, &spare->from);
    struct state moved = *spare;
    *spare = *s;
    *s = moved;
}

/* ---- chunks ---------------------------------------------------------------------------------------------------------- */

static void seen_fini(struct seen *s)
{
    flow_field_fini(&s->side.chain);
    flow_field_fini(&s->side.back);
    flow_field_fini(&s->side.direct);
    free(s->side.rel_chain);
    free(s->side.rel_direct);
    *s = (struct seen){0};
}

static int seen_init(struct seen *s, const struct pjob *j, struct err *e)
{
    if (s->side.chain.dx)
        return 0;
    size_t vote = (size_t)j->vw * (size_t)j->vh;
    bool paper = j->opts->mode == PROPAGATE_PAPER;
    int rc = flow_field_init(&s->side.chain, paper ? j->ww : j->vw, paper ? j->wh : j->vh, e);
    if (rc == 0)
        rc = flow_field_init(&s->side.back, j->vw, j->vh, e);
    if (rc == 0)
        rc = flow_field_init(&s->side.direct, j->vw, j->vh, e);
    s->side.rel_chain = malloc(vote * sizeof(float));
    s->side.rel_direct = malloc(vote * sizeof(float));
    if (rc == 0 && (!s->side.rel_chain || !s->side.rel_direct))
        rc = err_set(e, ERR_NOMEM, "interval");
    return rc;
}

static void chunk_clear(struct chunk *c)
{
    for (int i = 0; i < c->n; i++)
        pframe_fini(&c->frames[i]);
    c->n = 0;
    for (int i = 0; i < PROPAGATE_CHUNK; i++)
        c->left[i].valid = c->right[i].valid = false;
}

static void chunk_fini(struct chunk *c)
{
    chunk_clear(c);
    for (int i = 0; i < PROPAGATE_CHUNK + 1; i++) {
        flow_field_fini(&c->fwd[i]);
        flow_field_fini(&c->bwd[i]);
    }
    for (int i = 0; i < PROPAGATE_CHUNK; i++) {
        seen_fini(&c->left[i]);
        seen_fini(&c->right[i]);
    }
}

struct flows { /* a chunk's flows, as jobs for the thread pool */
    struct span *s;
    int (*one)(struct span *s, int i, struct err *e);
    int failed; /* 0, or the first code */
    struct err err;
};

static int neighbour_flow(struct span *s, int i, struct err *e)
{
    const struct pjob *j = s->job;
    const struct pframe *a = &s->c.frames[i / 2], *b = &s->c.frames[i / 2 + 1];
    struct flow_image ia = {a->grey, j->vw, j->vh, j->vw, 1}, ib = {b->grey, j->vw, j->vh, j->vw, 1};
    return i % 2 ? flow_compute(j->near_flow, &ib, &ia, &s->c.bwd[i / 2], e)
                 : flow_compute(j->near_flow, &ia, &ib, &s->c.fwd[i / 2], e);
}

static void one_flow(void *arg, int i)
{
    struct flows *w = arg;
    struct err err = {0};
    if (__atomic_load_n(&w->failed, __ATOMIC_RELAXED))
        return;
    int none = 0, rc = w->one(w->s, i, &err);
    if (rc && __atomic_compare_exchange_n(&w->failed, &none, rc, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        w->err = err;
}

static int run_flows(struct span *s, int n, int (*one)(struct span *s, int i, struct err *e), struct err *e)
{
    struct flows w = {.s = s, .one = one};
    int64_t start = clock_mono_ms();
    par_for(n, one_flow, &w);
    s->job->result->flow_ms += clock_mono_ms() - start;
    if (w.failed && e)
        *e = w.err;
    return w.failed;
}

/* Estimates the flows between the chunk's frames. */
static int neighbour_flows(struct span *s, struct err *e)
{
    struct chunk *c = &s->c;
    for (int i = 0; i + 1 < c->n; i++) {
        int rc = c->fwd[i].dx ? 0 : flow_field_init(&c->fwd[i], s->job->vw, s->job->vh, e);
        if (rc == 0 && !c->bwd[i].dx)
            rc = flow_field_init(&c->bwd[i], s->job->vw, s->job->vh, e);
        if (rc)
            return rc;
    }
    return run_flows(s, 2 * (c->n - 1), neighbour_flow, e);
}

/* Makes room for what the keyframes see of every frame of the chunk. */
static int chunk_views(struct span *s, bool left, bool right, struct err *e)
{
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i <= s->c.last - s->c.first; i++) {
        s->c.left[i].valid = left;
        s->c.right[i].valid = right;
        if (left)
            rc = seen_init(&s->c.left[i], s->job, e);
        if (rc == 0 && right)
            rc = seen_init(&s->c.right[i], s->job, e);
    }
    return rc;
}

struct making { /* of a chunk's frames, as jobs for the thread pool */
    struct span *s;
    struct frame *raw[PROPAGATE_CHUNK + 2];
    int failed; /* 0, or the first code */
    struct err err;
};

static void make_one(void *arg, int i)
{
    struct making *m = arg;
    struct chunk *c = &m->s->c;
    struct err err = {0};
    int none = 0, rc = pframe_make(m->s->job, c->base + i, m->raw[i], &c->frames[i], &err);
    if (rc && __atomic_compare_exchange_n(&m->failed, &none, rc, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        m->err = err;
}

/* The chunk's frames, from c->base to `end`: read one after the other, made ready side by side. */
static int chunk_frames(struct span *s, int64_t end, struct err *e)
{
    struct chunk *c = &s->c;
    struct making m = {.s = s};
    int rc = 0, n = 0;
    for (; rc == 0 && c->base + n <= end; n += rc == 0) {
        rc = pjob_step(s->job, 0, e);
        if (rc == 0)
            rc = pjob_frame(s->job, c->base + n, &m.raw[n], e);
    }
    if (rc == 0) {
        c->n = n;
        par_for(n, make_one, &m);
        rc = m.failed;
        if (rc && e)
            *e = m.err;
    }
    while (n > 0)
        frame_unref(m.raw[--n]);
    return rc;
}

/* Loads chunk i of the span: its frames, the neighbours on both sides as far as the span or its keyframes reach, the
 * flows between them, and room for what the keyframes that are asked for see. */
static int chunk_load(struct span *s, int64_t i, bool left, bool right, struct err *e)
{
    struct chunk *c = &s->c;
    chunk_clear(c);
    c->first = s->plan->first + i * PROPAGATE_CHUNK;
    c->last = c->first + PROPAGATE_CHUNK - 1 < s->plan->last ? c->first + PROPAGATE_CHUNK - 1 : s->plan->last;
    bool before = s->left || i > 0, after = s->right || c->last < s->plan->last;
    c->base = before ? c->first - 1 : c->first;
    int64_t end = after ? c->last + 1 : c->last;
    int rc = chunk_frames(s, end, e);
    if (rc == 0)
        rc = chunk_views(s, left, right, e);
    return rc ? rc : neighbour_flows(s, e);
}

/* ---- what a keyframe sees -------------------------------------------------------------------------------------------- */

/* Fills in what a keyframe sees of a frame along the chain. */
static void look(const struct pkeyframe *key, const struct state *st, struct pside *out)
{
    out->key = key;
    out->has_direct = false;
    field_copy(&out->chain, &st->to);
    field_copy(&out->back, &st->from);
    flow_reliability(&st->to, &st->from, out->rel_chain);
}

/* Whether following the flow there and back misses by more than a reliability of one half allows. */
static bool misses(const struct flow_field *there, const struct flow_field *back, int x, int y)
{
    int w = there->width_px, h = there->height_px;
    size_t o = (size_t)y * (size_t)w + (size_t)x;
    float dx = there->dx[o], dy = there->dy[o];
    struct warp_tap t = warp_tap((float)x + dx, (float)y + dy, w, h);
    double allowed = 0.69 * FLOW_RELIABILITY_SCALE * hypot(w, h);
    return !((double)warp_gap2(dx, dy, warp_read(back->dx, t), warp_read(back->dy, t)) <= allowed * allowed);
}

/* Whether the chain lost a part of the objects on its way: seen from the keyframe, or from the frame. */
static bool chain_lost(const struct pjob *j, const struct pside *s)
{
    double kx = (double)j->ww / j->vw, ky = (double)j->wh / j->vh;
    int64_t there = 0, there_lost = 0, here = 0, here_lost = 0;
    for (int y = 0; y < j->vh; y++)
        for (int x = 0; x < j->vw; x++) {
            size_t o = (size_t)y * (size_t)j->vw + (size_t)x;
            float cx = (float)((x + 0.5) * kx), cy = (float)((y + 0.5) * ky);
            if (s->key->labels[(size_t)cy * (size_t)j->ww + (size_t)cx]) {
                there++;
                there_lost += misses(&s->back, &s->chain, x, y);
            }
            float tx = cx + s->chain.dx[o] * (float)kx - 0.5f, ty = cy + s->chain.dy[o] * (float)ky - 0.5f;
            if (warp_sample_nearest(s->key->labels, tx, ty, j->ww, j->wh)) {
                here++;
                here_lost += s->rel_chain[o] < 0.5f;
            }
        }
    return (double)there_lost > CHAIN_LOST * (double)there || (double)here_lost > CHAIN_LOST * (double)here;
}

/* Job i: the direct flow of a frame to its left (even) or right keyframe, where it is worth its time: a chain of one step is better than
 * it, and one that lost nothing as good. */
static int direct_flow(struct span *s, int i, struct err *e)
{
    const struct pjob *j = s->job;
    int64_t k = s->c.first + i / 2, key_at = i % 2 ? s->plan->right : s->plan->left;
    struct seen *seen = i % 2 ? &s->c.right[i / 2] : &s->c.left[i / 2];
    struct pside *side = &seen->side;
    if (!seen->valid || llabs(k - key_at) == 1 || !chain_lost(j, side))
        return 0;
    struct flow_image a = {s->c.frames[k - s->c.base].grey, j->vw, j->vh, j->vw, 1};
    struct flow_image b = {side->key->im.grey, j->vw, j->vh, j->vw, 1};
    int rc = flow_compute(j->flow, &a, &b, &side->direct, e);
    if (rc == 0)
        flow_reliability(&side->direct, &side->back, side->rel_direct);
    side->has_direct = rc == 0;
    return rc;
}

/* Walks the right state from just after the chunk to its first frame, and fills the views that are valid. */
static int walk_right(struct span *s, struct err *e)
{
    struct chunk *c = &s->c;
    int rc = 0;
    for (int64_t k = c->last; rc == 0 && k >= c->first; k--) {
        int64_t at = k - c->base;
        state_move(&s->right_state, &s->spare, &c->fwd[at], &c->bwd[at]);
        if (c->right[k - c->first].valid)
            look(s->right, &s->right_state, &c->right[k - c->first].side);
        rc = pjob_step(s->job, 0, e);
    }
    return rc;
}

static int walk_left(struct span *s, struct err *e)
{
    struct chunk *c = &s->c;
    int rc = 0;
    for (int64_t k = c->first; rc == 0 && k <= c->last; k++) {
        int64_t at = k - c->base;
        state_move(&s->left_state, &s->spare, &c->bwd[at - 1], &c->fwd[at - 1]);
        look(s->left, &s->left_state, &c->left[k - c->first].side);
        rc = pjob_step(s->job, 0, e);
    }
    return rc;
}

/* ---- fusing ---------------------------------------------------------------------------------------------------------- */

static int emit(struct span *s, int64_t k, const struct fused *f, struct err *e)
{
    struct pjob *j = s->job;
    const struct propagate_sink *sink = &j->opts->sink;
    struct propagate_label l = {.frame = k,
                                .name = clip_frame_name(j->clip, k),
                                .source = f ? PROPAGATE_PSEUDO : PROPAGATE_UNCOVERED,
                                .confidence = f ? f->confidence : 0,
                                .left = s->plan->left,
                                .right = s->plan->right,
                                .one_sided = s->plan->left < 0 || s->plan->right < 0,
                                .binary = j->binary,
                                .flow = flow_name(j->flow),
                                .model = j->nets[0] ? j->model_name : NULL};
    int rc = sink->label(sink->arg, &l, f ? f->mask : NULL, f ? f->uncertainty : NULL, e);
    if (rc)
        return rc;
    if (f)
        j->result->labelled++;
    else
        j->result->uncovered++;
    return pjob_step(j, 1, e);
}

static int fuse_frame(struct span *s, int64_t k, struct fuser *lane, struct fused *out, struct err *e)
{
    struct chunk *c = &s->c;
    struct seen *left = &c->left[k - c->first], *right = &c->right[k - c->first];
    const struct pside *sides[2];
    int n = 0;
    double to_left = (double)(k - s->plan->left), to_right = (double)(s->plan->right - k);
    if (left->valid) {
        left->side.nearness = right->valid ? to_right / (to_left + to_right) : 1;
        sides[n++] = &left->side;
    }
    if (right->valid) {
        right->side.nearness = n ? 1 - left->side.nearness : 1;
        sides[n++] = &right->side;
    }
    return fuser_run(lane, &c->frames[k - c->base], sides, n, out, e);
}

/* One lane's share of a chunk: whatever frame is next. */
static void fuse_share(void *arg, int lane)
{
    struct span *s = arg;
    for (int64_t k; (k = __atomic_fetch_add(&s->next, 1, __ATOMIC_RELAXED)) <= s->c.last;) {
        struct err err = {0};
        struct fused out;
        if (__atomic_load_n(&s->failed, __ATOMIC_RELAXED))
            return;
        int rc = fuse_frame(s, k, s->lanes[lane], &out, &err);
        pthread_mutex_lock(&s->mu);
        if (rc == 0 && !s->failed)
            rc = emit(s, k, &out, &err);
        if (rc && !s->failed) {
            s->err = err;
            __atomic_store_n(&s->failed, rc, __ATOMIC_RELAXED);
        }
        pthread_mutex_unlock(&s->mu);
    }
}

/* Frames are independent of each other now: fused side by side, handed over one at a time. */
static int fuse_chunk(struct span *s, struct err *e)
{
    s->next = s->c.first;
    par_for(s->n_lanes, fuse_share, s);
    if (s->failed && e)
        *e = s->err;
    return s->failed;
}

/* ---- the interval ---------------------------------------------------------------------------------------------------- */

static int64_t chunk_first(const struct span *s, int64_t i)
{
    return s->plan->first + i * PROPAGATE_CHUNK;
}

/* Whether the right keyframe has a say in chunk i: its far end must be within reach. */
static bool in_reach(const struct span *s, int64_t i)
{
    return s->right && (!s->left || s->plan->right - chunk_first(s, i) <= PROPAGATE_REACH);
}

static int keep_checkpoint(struct span *s, int64_t i, struct err *e)
{
    int rc = state_init(&s->checkpoints[i], s->job, e);
    if (rc)
        return rc;
    field_copy(&s->checkpoints[i].to, &s->right_state.to);
    field_copy(&s->checkpoints[i].from, &s->right_state.from);
    return 0;
}

/* Step 1: the right state on every chunk boundary within reach. */
static int find_checkpoints(struct span *s, struct err *e)
{
    s->checkpoints = calloc((size_t)s->n_chunks, sizeof(*s->checkpoints));
    if (!s->checkpoints)
        return err_set(e, ERR_NOMEM, "interval");
    int rc = 0;
    for (int64_t i = s->n_chunks - 1; rc == 0 && i > 0 && in_reach(s, i - 1); i--) {
        rc = chunk_load(s, i, false, false, e);
        if (rc == 0)
            rc = walk_right(s, e);
        if (rc == 0)
            rc = keep_checkpoint(s, i - 1, e);
    }
    return rc;
}

/* Puts the right state where a walk through chunk i starts. Without a left keyframe it is there already. */
static void resume_right(struct span *s, int64_t i)
{
    if (!s->left)
        return;
    if (i + 1 == s->n_chunks) {
        state_zero(&s->right_state);
        return;
    }
    field_copy(&s->right_state.to, &s->checkpoints[i].to);
    field_copy(&s->right_state.from, &s->checkpoints[i].from);
    state_fini(&s->checkpoints[i]);
}

/* Step 2 for one chunk. */
static int run_chunk(struct span *s, int64_t i, struct err *e)
{
    bool right = in_reach(s, i);
    int rc = chunk_load(s, i, s->left, right, e);
    if (rc == 0 && right) {
        resume_right(s, i);
        rc = walk_right(s, e);
    }
    if (rc == 0 && s->left)
        rc = walk_left(s, e);
    if (rc == 0)
        rc = run_flows(s, 2 * (int)(s->c.last - s->c.first + 1), direct_flow, e);
    return rc ? rc : fuse_chunk(s, e);
}

static int span_chunks(struct span *s, struct err *e)
{
    int rc = 0;
    s->n_chunks = (s->plan->last - s->plan->first) / PROPAGATE_CHUNK + 1;
    if (!s->left) { /* from the keyframe backwards */
        for (int64_t i = s->n_chunks - 1; rc == 0 && i >= 0; i--)
            rc = run_chunk(s, i, e);
        return rc;
    }
    if (s->right)
        rc = find_checkpoints(s, e);
    for (int64_t i = 0; rc == 0 && i < s->n_chunks; i++)
        rc = run_chunk(s, i, e);
    return rc;
}

/* Paper mode: every frame by itself, direct flow to both keyframes. */
static int paper_frame(struct span *s, int64_t k, struct seen *seen, struct err *e)
{
    struct pjob *j = s->job;
    struct pframe *f = &s->c.frames[0];
    struct pkeyframe *const keys[2] = {s->left, s->right};
    const struct pside *const sides[2] = {&s->c.left[0].side, &seen->side};
    struct fused out;
    chunk_clear(&s->c);
    int rc = pframe_load(j, k, f, e);
    if (rc)
        return rc;
    s->c.n = 1;
    for (int i = 0; rc == 0 && i < 2; i++) {
        struct pside *side = i ? &seen->side : &s->c.left[0].side;
        struct flow_image a = {f->rgb, j->ww, j->wh, 3 * j->ww, 3}, b = {keys[i]->im.rgb, j->ww, j->wh, 3 * j->ww, 3};
        side->key = keys[i];
        int64_t start = clock_mono_ms();
        rc = flow_compute(j->flow, &a, &b, &side->chain, e);
        j->result->flow_ms += clock_mono_ms() - start;
    }
    if (rc == 0)
        rc = fuser_run_paper(s->lanes[0], f, sides, &out, e);
    return rc ? rc : emit(s, k, &out, e);
}

static int span_paper(struct span *s, struct err *e)
{
    int rc = seen_init(&s->c.left[0], s->job, e);
    if (rc == 0)
        rc = seen_init(&s->c.right[0], s->job, e);
    for (int64_t k = s->plan->first; rc == 0 && k <= s->plan->last; k++)
        rc = s->left && s->right ? paper_frame(s, k, &s->c.right[0], e) : emit(s, k, NULL, e);
    return rc;
}

static void span_free(struct span *s)
{
    if (!s)
        return;
    for (int64_t i = 0; s->checkpoints && i < s->n_chunks; i++)
        state_fini(&s->checkpoints[i]);
    free(s->checkpoints);
    state_fini(&s->left_state);
    state_fini(&s->right_state);
    state_fini(&s->spare);
    chunk_fini(&s->c);
    pkeyframe_free(s->left);
    pkeyframe_free(s->right);
    for (int i = 0; i < s->n_lanes; i++)
        fuser_free(s->lanes[i]);
    pthread_mutex_destroy(&s->mu);
    free(s);
}

static int open_lanes(struct span *s, struct err *e)
{
    int64_t frames = s->plan->last - s->plan->first + 1;
    int want = par_threads() < PROPAGATE_LANES ? par_threads() : PROPAGATE_LANES;
    if (s->job->opts->mode == PROPAGATE_PAPER)
        want = 1;
    want = frames < want ? (int)frames : want;
    while (s->n_lanes < want) {
        int rc = fuser_new(s->job, s->n_lanes, &s->lanes[s->n_lanes], e);
        if (rc)
            return rc;
        fuser_set_labels(s->lanes[s->n_lanes++], s->left, s->right);
    }
    return 0;
}

int span_run(struct pjob *j, const struct propagate_span *plan, struct err *e)
{
    struct span *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, ERR_NOMEM, "interval");
    s->job = j;
    s->plan = plan;
    pthread_mutex_init(&s->mu, NULL);
    int rc = pkeyframe_load(j, plan->left, &s->left, e);
    if (rc == 0)
        rc = pkeyframe_load(j, plan->right, &s->right, e);
    if (rc == 0)
        rc = state_init(&s->left_state, j, e);
    if (rc == 0)
        rc = state_init(&s->right_state, j, e);
    if (rc == 0)
        rc = state_init(&s->spare, j, e);
    if (rc == 0)
        rc = open_lanes(s, e);
    if (rc == 0) {
        rc = j->opts->mode == PROPAGATE_PAPER ? span_paper(s, e) : span_chunks(s, e);
    }
    span_free(s);
    return rc ? err_wrap(e, "frames %lld to %lld", (long long)plan->first, (long long)plan->last) : 0;
}
