/*
 * One frame: what its keyframes say about it becomes labels, an uncertainty map and a confidence.
 *
 *   1. Candidates: from each side the composed flow and the direct one, each with a prior from nearness and consistency.
 *   2. The vote (core/flow/vote.h) at half size gives each object's score and each candidate's weight.
 *   3. At working size the candidates' warped labels, averaged by these weights, sharpen the score.
 *   4. The guided filter fits the result to the picture's edges; the network, if any, has its bounded say.
 *   5. The most probable label wins, background being what the objects leave.
 *
 * An object costs time only inside the rectangle where it has votes.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/flow/gfilter.h"
#include "core/kernel/warp.h"
#include "core/task/propagate_impl.h"

#define MAX_CANDIDATES 4
#define BATCH 8           /* objects voted on together */
#define PRIOR_FLOOR 0.05f /* an inconsistent candidate still counts this much: sometimes all are */
#define EDGE_RADIUS 4     /* guided filter: px at 480 lines */
#define EDGE_EPS 1e-3f
#define SCORE_SHARE 0.5f     /* of the vote against the sharp warp */
#define ODDS 3.0             /* see confidence() */
#define SCORE_NOTHING 0.004f /* below this there is no object */
#define MARGIN_PX 12         /* around the votes' rectangle */

struct fuser {
    struct pjob *job;
    struct refiner *refiner;           /* NULL: no network */
    uint8_t ids[PROPAGATE_MAX_LABELS]; /* labels that occur in the span's keyframes */
    int n_ids;
    float *scores[BATCH];           /* voting size */
    float *prior[MAX_CANDIDATES];   /* voting size */
    float *weights[MAX_CANDIDATES]; /* voting size */
    uint8_t *agreed;                /* of the vote */
    float *p;                       /* working size: the object at hand */
    float *split;                   /* working size: |left's opinion - right's|, most over the objects */
    float *p_out;                   /* frame's size; p itself when the sizes are equal */
    float *best, *second, *total;   /* frame's size */
    struct frame *mask, *uncertainty;
};

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static float *plane(int w, int h)
{
    return calloc((size_t)w * (size_t)h, sizeof(float));
}

int fuser_new(struct pjob *j, int lane, struct fuser **out, struct err *e)
{
    struct fuser *f = calloc(1, sizeof(*f));
    *out = f;
    if (!f)
        return err_set(e, ERR_NOMEM, "fusing labels");
    f->job = j;
    bool ok = true;
    for (int i = 0; i < BATCH; i++)
        ok = (f->scores[i] = plane(j->vw, j->vh)) && ok;
    for (int i = 0; i < MAX_CANDIDATES; i++) {
        ok = (f->prior[i] = plane(j->vw, j->vh)) && ok;
        ok = (f->weights[i] = plane(j->vw, j->vh)) && ok;
    }
    float **const work[] = {&f->p, &f->split};
    for (size_t i = 0; i < sizeof(work) / sizeof(work[0]); i++)
        ok = (*work[i] = plane(j->ww, j->wh)) && ok;
    float **const full[] = {&f->best, &f->second, &f->total};
    for (size_t i = 0; i < sizeof(full) / sizeof(full[0]); i++)
        ok = (*full[i] = plane(j->w, j->h)) && ok;
    ok = (f->agreed = malloc((size_t)VOTE_TILES(j->vw) * (size_t)VOTE_TILES(j->vh))) && ok;
    f->p_out = j->w == j->ww && j->h == j->wh ? f->p : plane(j->w, j->h);
    if (!ok || !f->p_out) {
        fuser_free(f);
        *out = NULL;
        return err_set(e, ERR_NOMEM, "fusing labels of %d x %d", j->w, j->h);
    }
    int rc = frame_new(FRAME_GRAY8, j->w, j->h, &f->mask, e);
    if (rc == 0)
        rc = frame_new(FRAME_GRAY8, j->w, j->h, &f->uncertainty, e);
    if (rc == 0 && j->opts->model)
        rc = refiner_new(j, lane, &f->refiner, e);
    if (rc) {
        fuser_free(f);
        *out = NULL;
    }
    return rc;
}

void fuser_free(struct fuser *f)
{
    if (!f)
        return;
    for (int i = 0; i < BATCH; i++)
        free(f->scores[i]);
    for (int i = 0; i < MAX_CANDIDATES; i++) {
        free(f->prior[i]);
        free(f->weights[i]);
    }
    if (f->p_out != f->p)
        free(f->p_out);
    free(f->p);
    free(f->split);
    free(f->agreed);
    refiner_free(f->refiner);
    free(f->best);
    free(f->second);
    free(f->total);
    frame_unref(f->mask);
    frame_unref(f->uncertainty);
    free(f);
}

void fuser_set_labels(struct fuser *f, const struct pkeyframe *a, const struct pkeyframe *b)
{
    bool seen[256] = {false};
    size_t n = (size_t)f->job->ww * (size_t)f->job->wh;
    for (size_t i = 0; i < n; i++) {
        if (a)
            seen[a->labels[i]] = true;
        if (b)
            seen[b->labels[i]] = true;
    }
    f->n_ids = 0;
    for (int id = 1; id < 256; id++)
        if (seen[id])
            f->ids[f->n_ids++] = (uint8_t)id;
}

/* ---- candidates ------------------------------------------------------------------------------------------------------ */

struct candidate {
    const struct pside *side;
    const struct flow_field *field; /* voting size */
};

struct sight { /* all candidates of a frame */
    const struct pframe *frame;
    const struct pside *const *sides;
    int n_sides, n;
    struct candidate c[MAX_CANDIDATES];
    struct vote vote;
};

static void add_candidate(struct fuser *f, struct sight *s, const struct pside *side, bool direct)
{
    const struct pjob *j = f->job;
    int i = s->n++;
    const float *rel = direct ? side->rel_direct : side->rel_chain;
    float weight = (float)side->nearness * (side->has_direct ? 1 : 2); /* alone it speaks for both */
    for (size_t k = 0, n = (size_t)j->vw * (size_t)j->vh; k < n; k++)
        f->prior[i][k] = weight * (PRIOR_FLOOR + rel[k]);
    s->c[i] = (struct candidate){side, direct ? &side->direct : &side->chain};
    s->vote.candidates[i] = (struct vote_candidate){.to = s->c[i].field,
                                                    .features = side->key->im.features,
                                                    .labels = side->key->labels,
                                                    .edges = side->key->edges,
                                                    .prior = f->prior[i]};
    s->vote.weights[i] = f->weights[i];
    s->vote.n_candidates = s->n;
}

static void sight_init(struct fuser *f, struct sight *s, const struct pframe *frame, const struct pside *const *sides,
                       int n)
{
    const struct pjob *j = f->job;
    *s = (struct sight){.frame = frame, .sides = sides, .n_sides = n};
    s->vote = (struct vote){.w = j->vw,
                            .h = j->vh,
                            .labels_w = j->ww,
                            .labels_h = j->wh,
                            .features = frame->features,
                            .scores = f->scores,
                            .agreed = f->agreed};
    for (int i = 0; i < n; i++) {
        add_candidate(f, s, sides[i], false);
        if (sides[i]->has_direct)
            add_candidate(f, s, sides[i], true);
    }
}

/* ---- the sharp score ------------------------------------------------------------------------------------------------- */

/* Rectangle of the working size in which the score says there may be an object; w = 0 when there is none. */
static struct gfilter_rect votes_rect(const struct pjob *j, const float *score)
{
    int x0 = j->vw, x1 = -1, y0 = j->vh, y1 = -1;
    for (int y = 0; y < j->vh; y++)
        for (int x = 0; x < j->vw; x++)
            if (score[(size_t)y * (size_t)j->vw + (size_t)x] > SCORE_NOTHING) {
                x0 = x < x0 ? x : x0;
                x1 = x > x1 ? x : x1;
                y0 = y < y0 ? y : y0;
                y1 = y;
            }
    if (x1 < 0)
        return (struct gfilter_rect){0};
    int ax = x0 * j->ww / j->vw - MARGIN_PX, bx = (x1 + 1) * j->ww / j->vw + MARGIN_PX;
    int ay = y0 * j->wh / j->vh - MARGIN_PX, by = (y1 + 1) * j->wh / j->vh + MARGIN_PX;
    ax = ax < 0 ? 0 : ax;
    ay = ay < 0 ? 0 : ay;
    bx = bx > j->ww ? j->ww : bx;
    by = by > j->wh ? j->wh : by;
    return (struct gfilter_rect){ax, ay, bx - ax, by - ay};
}

struct sharpen {
    struct fuser *f;
    const struct sight *s;
    const float *score;
    uint8_t id;
    struct gfilter_rect r;
};

/* What candidate c says at a pixel of the working size whose place on the voting grid is t. */
static float opinion(const struct sharpen *k, const struct candidate *c, int x, int y, struct warp_tap t)
{
    const struct pjob *j = k->f->job;
    float dx = warp_read(c->field->dx, t) * (float)j->ww / (float)j->vw;
    float dy = warp_read(c->field->dy, t) * (float)j->wh / (float)j->vh;
    return warp_read_share(c->side->key->labels, warp_tap((float)x + dx, (float)y + dy, j->ww, j->wh), k->id);
}

/* At a pixel that a voting pixel and its neighbours surround: the weighted opinions of the two sides. */
static float opinions(const struct sharpen *k, int x, int y, struct warp_tap t)
{
    float sum[2] = {0}, weight[2] = {0};
    for (int c = 0; c < k->s->n; c++) {
        int side = k->s->c[c].side == k->s->sides[0] ? 0 : 1;
        float w = warp_read(k->f->weights[c], t);
        sum[side] += w * opinion(k, &k->s->c[c], x, y, t);
        weight[side] += w;
    }
    if (weight[0] > 0 && weight[1] > 0) {
        float *most = &k->f->split[(size_t)y * (size_t)k->f->job->ww + (size_t)x];
        float split = fabsf(sum[0] / weight[0] - sum[1] / weight[1]);
        *most = split > *most ? split : *most;
    }
    return (sum[0] + sum[1]) / (weight[0] + weight[1]);
}

static void sharpen_row(void *arg, int row)
{
    const struct sharpen *k = arg;
    const struct pjob *j = k->f->job;
    float kx = (float)j->vw / (float)j->ww, ky = (float)j->vh / (float)j->wh;
    int y = k->r.y + row;
    float vy = ((float)y + 0.5f) * ky - 0.5f;
    const uint8_t *agreed =
        k->f->agreed + (size_t)((int)warp_clamp(vy, 0, (float)(j->vh - 1)) / VOTE_TILE * VOTE_TILES(j->vw));
    for (int x = k->r.x; x < k->r.x + k->r.w; x++) {
        float vx = ((float)x + 0.5f) * kx - 0.5f;
        struct warp_tap t = warp_tap(vx, vy, j->vw, j->vh);
        bool one = agreed[(int)warp_clamp(vx, 0, (float)(j->vw - 1)) / VOTE_TILE];
        float all = one ? k->score[t.i00] : opinions(k, x, y, t);
        k->f->p[(size_t)y * (size_t)j->ww + (size_t)x] = SCORE_SHARE * warp_read(k->score, t) + (1 - SCORE_SHARE) * all;
    }
}

/* ---- from probabilities to labels ------------------------------------------------------------------------------------ */

struct tally {
    struct fuser *f;
    struct gfilter_rect r; /* of the frame's size */
    uint8_t id;
};

static void tally_row(void *arg, int row)
{
    const struct tally *t = arg;
    struct fuser *f = t->f;
    int y = t->r.y + row;
    size_t o = (size_t)y * (size_t)f->job->w + (size_t)t->r.x;
    uint8_t *mask = f->mask->data + (ptrdiff_t)y * f->mask->stride_bytes + t->r.x;
    for (int x = 0; x < t->r.w; x++, o++) {
        float p = f->p_out[o];
        f->total[o] += p;
        if (p > f->best[o]) {
            f->second[o] = f->best[o];
            f->best[o] = p;
            mask[x] = t->id;
        } else if (p > f->second[o]) {
            f->second[o] = p;
        }
    }
}

/* Counts the object at hand, f->p inside r (working size), in. */
static int tally(struct fuser *f, struct gfilter_rect r, uint8_t id, struct err *e)
{
    const struct pjob *j = f->job;
    if (f->p_out != f->p) {
        int rc = plane_resample(f->p, j->ww, j->wh, f->p_out, j->w, j->h, e);
        if (rc)
            return rc;
        r = (struct gfilter_rect){0, 0, j->w, j->h};
    }
    par_for(r.h, tally_row, &(struct tally){f, r, id});
    return 0;
}

/* Background gets what the objects leave. Uncertainty is 1 - (best - second best), raised where the two sides disagree. */
static void decide_row(void *arg, int y)
{
    struct fuser *f = arg;
    const struct pjob *j = f->job;
    size_t o = (size_t)y * (size_t)j->w;
    uint8_t *mask = f->mask->data + (ptrdiff_t)y * f->mask->stride_bytes;
    uint8_t *uncertain = f->uncertainty->data + (ptrdiff_t)y * f->uncertainty->stride_bytes;
    const float *split = f->split + (size_t)((int64_t)y * j->wh / j->h) * (size_t)j->ww;
    for (int x = 0; x < j->w; x++, o++) {
        float ground = 1 - f->total[o], margin;
        if (ground < 0)
            ground = 0;
        if (f->best[o] > ground) {
            margin = f->best[o] - (f->second[o] > ground ? f->second[o] : ground);
        } else {
            margin = ground - f->best[o];
            mask[x] = 0;
        }
        float u = 1 - margin * (1 - 0.5f * split[(int64_t)x * j->ww / j->w]);
        uncertain[x] = (uint8_t)(255 * (u < 0 ? 0 : u > 1 ? 1 : u) + 0.5f);
    }
}

static void clear(struct fuser *f)
{
    const struct pjob *j = f->job;
    size_t n = (size_t)j->w * (size_t)j->h;
    memset(f->best, 0, n * sizeof(float));
    memset(f->second, 0, n * sizeof(float));
    memset(f->total, 0, n * sizeof(float));
    memset(f->split, 0, (size_t)j->ww * (size_t)j->wh * sizeof(float));
    memset(f->mask->data, 0, (size_t)f->mask->stride_bytes * (size_t)j->h);
}

/*
 * Expected region similarity: each pixel's probability of being right is taken from the uncertainty map, which is cautious, so
 * the odds are raised by a factor fitted on DAVIS's `bear` (a training sequence); the order of frames does not change.
 */
static double confidence(const struct fuser *f)
{
    const struct pjob *j = f->job;
    double inside = 0, area = 0, missed = 0;
    for (int y = 0; y < j->h; y++) {
        const uint8_t *mask = f->mask->data + (ptrdiff_t)y * f->mask->stride_bytes;
        const uint8_t *u = f->uncertainty->data + (ptrdiff_t)y * f->uncertainty->stride_bytes;
        for (int x = 0; x < j->w; x++) {
            double wrong = u[x] / 510.0;
            area += mask[x] != 0;
            inside += mask[x] ? 1 - wrong : 0;
            missed += mask[x] ? 0 : wrong;
        }
    }
    double c = area + missed > 0 ? inside / (area + missed) : 1;
    return ODDS * c / (1 + (ODDS - 1) * c);
}

/* ---- one object, one frame ------------------------------------------------------------------------------------------- */

struct edge_fit { /* the guided filter over all objects of a batch */
    struct gfilter *filter;
    struct gfilter_rect rect[BATCH]; /* of each object; w = 0: it is nowhere */
};

static struct gfilter_rect join(struct gfilter_rect a, struct gfilter_rect b)
{
    if (!a.w || !b.w)
        return a.w ? a : b;
    int x = a.x < b.x ? a.x : b.x, y = a.y < b.y ? a.y : b.y;
    int x1 = a.x + a.w > b.x + b.w ? a.x + a.w : b.x + b.w, y1 = a.y + a.h > b.y + b.h ? a.y + a.h : b.y + b.h;
    return (struct gfilter_rect){x, y, x1 - x, y1 - y};
}

static int edge_fit_open(struct fuser *f, const struct pframe *frame, int n, struct edge_fit *fit, struct err *e)
{
    const struct pjob *j = f->job;
    struct flow_image rgb = {frame->rgb, j->ww, j->wh, 3 * j->ww, 3};
    int radius = (int)lround(EDGE_RADIUS * hypot(j->ww, j->wh) / hypot(854, 480));
    struct gfilter_rect all = {0};
    *fit = (struct edge_fit){0};
    for (int i = 0; i < n; i++)
        all = join(all, fit->rect[i] = votes_rect(j, f->scores[i]));
    return all.w ? gfilter_open(&rgb, all, radius < 1 ? 1 : radius, EDGE_EPS, &fit->filter, e) : 0;
}

static int fuse_object(struct fuser *f, const struct sight *s, const struct edge_fit *fit, int slot, uint8_t id,
                       struct err *e)
{
    const struct pjob *j = f->job;
    struct gfilter_rect r = fit->rect[slot];
    if (!r.w)
        return 0;
    memset(f->p, 0, (size_t)j->ww * (size_t)j->wh * sizeof(float));
    par_for(r.h, sharpen_row, &(struct sharpen){f, s, f->scores[slot], id, r});
    int rc = gfilter_run(fit->filter, f->p, r, e);
    if (rc == 0 && f->refiner)
        rc = refiner_run(f->refiner, &(struct object_view){s->frame, s->sides, s->n_sides, id, f->p, f->split}, r, e);
    return rc ? rc : tally(f, r, id, e);
}

static void decide(struct fuser *f, struct fused *out)
{
    par_for(f->job->h, decide_row, f);
    *out = (struct fused){f->mask, f->uncertainty, confidence(f)};
}

int fuser_run_paper(struct fuser *f, const struct pframe *frame, const struct pside *const sides[2], struct fused *out,
                    struct err *e)
{
    const struct pjob *j = f->job;
    int rc = 0;
    clear(f);
    for (int i = 0; rc == 0 && i < f->n_ids; i++) {
        rc = refiner_paper(f->refiner, &(struct object_view){frame, sides, 2, f->ids[i], f->p, NULL}, e);
        if (rc == 0)
            rc = tally(f, (struct gfilter_rect){0, 0, j->ww, j->wh}, f->ids[i], e);
    }
    if (rc == 0)
        decide(f, out);
    return rc;
}

int fuser_run(struct fuser *f, const struct pframe *frame, const struct pside *const *sides, int n, struct fused *out,
              struct err *e)
{
    struct sight s;
    int rc = 0;
    sight_init(f, &s, frame, sides, n);
    clear(f);
    for (int at = 0; rc == 0 && at < f->n_ids; at += BATCH) {
        struct edge_fit fit = {0};
        s.vote.object_id = f->ids + at;
        s.vote.n_objects = f->n_ids - at < BATCH ? f->n_ids - at : BATCH;
        rc = vote_run(&s.vote, e);
        if (rc == 0)
            rc = edge_fit_open(f, frame, s.vote.n_objects, &fit, e);
        for (int i = 0; rc == 0 && i < s.vote.n_objects; i++)
            rc = fuse_object(f, &s, &fit, i, f->ids[at + i], e);
        gfilter_close(fit.filter);
    }
    if (rc == 0)
        decide(f, out);
    return rc;
}
