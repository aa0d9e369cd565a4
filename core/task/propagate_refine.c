/*
 * The network's say about one object of one frame.
 *
 * It looks at a cut-out around the object, so that it sees a small object as large as a big one, and it moves a pixel by at most the
 * doubt that the warped labels leave there times the square of its own certainty, and only where the doubt fills a region: the
 * thin seam of doubt along every outline is not its business, since it sees less detail than the flow. So a poor network cannot
 * undo what the flow knows, and a blurred answer (a half where an arm may be) changes nothing. Where the doubt is too little to
 * matter it is not asked, which saves most of the time of easy clips. The rule was chosen on DAVIS's training sequence bear.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/par.h"
#include "core/kernel/warp.h"
#include "core/task/propagate_impl.h"

#define NET_WORTH 0.03    /* it is not asked when it could move less than this part of the object */
#define DOUBT_CELL 16     /* px over which doubt is averaged ... */
#define DOUBT_LEAST 0.25f /* ... below this it is only an outline ... */
#define DOUBT_FULL 0.5f   /* ... and from here on a region */
#define CUT_MARGIN 0.25   /* of the object's size, on each side of it */

struct refiner {
    struct pjob *job;
    struct propagate_net *net; /* borrowed */
    struct flow_field to[2];   /* of the cut-out, as are the next two */
    float *warped[2];          /* a label warped from each side */
    float *rel[2];             /* that flow's reliability */
    float *answer;             /* working size at most: the network's answer */
    float *doubt;              /* working size; 0 outside the object's rectangle */
    float *region;             /* doubt averaged over cells: rw x rh */
    int rw, rh;
};

/* ---- life ------------------------------------------------------------------------------------------------------------ */

static int lane_net(struct pjob *j, int lane, struct propagate_net **out, struct err *e)
{
    int rc = j->nets[lane] ? 0 : propagate_net_share(j->nets[0], &j->nets[lane], e);
    *out = j->nets[lane];
    return rc;
}

int refiner_new(struct pjob *j, int lane, struct refiner **out, struct err *e)
{
    bool paper = j->opts->mode == PROPAGATE_PAPER;
    int fw = paper ? j->ww : j->vw, fh = paper ? j->wh : j->vh, rc = 0;
    size_t flow_px = (size_t)fw * (size_t)fh, work = (size_t)j->ww * (size_t)j->wh;
    struct refiner *f = calloc(1, sizeof(*f));
    *out = NULL;
    if (!f)
        return err_set(e, ERR_NOMEM, "refining labels");
    f->job = j;
    f->rw = j->ww / DOUBT_CELL + 1;
    f->rh = j->wh / DOUBT_CELL + 1;
    f->answer = malloc(work * sizeof(float));
    f->doubt = malloc(work * sizeof(float));
    f->region = malloc((size_t)f->rw * (size_t)f->rh * sizeof(float));
    bool ok = f->answer && f->doubt && f->region;
    for (int i = 0; rc == 0 && i < 2; i++) {
        ok = (f->warped[i] = malloc(flow_px * sizeof(float))) && ok;
        ok = (f->rel[i] = malloc(flow_px * sizeof(float))) && ok;
        rc = flow_field_init(&f->to[i], fw, fh, e);
    }
    if (rc == 0 && !ok)
        rc = err_set(e, ERR_NOMEM, "refining labels of %d x %d", j->ww, j->wh);
    if (rc == 0)
        rc = lane_net(j, lane, &f->net, e);
    if (rc) {
        refiner_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

void refiner_free(struct refiner *f)
{
    if (!f)
        return;
    for (int i = 0; i < 2; i++) {
        flow_field_fini(&f->to[i]);
        free(f->warped[i]);
        free(f->rel[i]);
    }
    free(f->answer);
    free(f->doubt);
    free(f->region);
    free(f);
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

struct cut { /* what the network is shown of one side: the rectangle r of the flow's grid */
    const struct pjob *job;
    const struct pside *side;
    const float *rel; /* whole plane, or NULL */
    struct gfilter_rect r;
    uint8_t id;
    struct flow_field *to;
    float *warped, *rel_out;
};

/* Displacements stay in pixels of the flow's grid. */
static void cut_row(void *arg, int row)
{
    const struct cut *k = arg;
    const struct pjob *j = k->job;
    const struct flow_field *whole = &k->side->chain;
    int y = k->r.y + row;
    float kx = (float)j->ww / (float)whole->width_px, ky = (float)j->wh / (float)whole->height_px;
    size_t from = (size_t)y * (size_t)whole->width_px + (size_t)k->r.x, o = (size_t)row * (size_t)k->r.w;
    for (int x = k->r.x; x < k->r.x + k->r.w; x++, o++, from++) {
        float dx = whole->dx[from], dy = whole->dy[from];
        float sx = ((float)x + dx + 0.5f) * kx - 0.5f, sy = ((float)y + dy + 0.5f) * ky - 0.5f;
        k->warped[o] = warp_read_share(k->side->key->labels, warp_tap(sx, sy, j->ww, j->wh), k->id);
        k->to->dx[o] = dx;
        k->to->dy[o] = dy;
        if (k->rel)
            k->rel_out[o] = k->rel[from];
    }
}

/* r on another grid that covers the same picture, w x h instead of from_w x from_h. */
static struct gfilter_rect on_grid(struct gfilter_rect r, int from_w, int from_h, int w, int h)
{
    struct gfilter_rect o = {(int)((int64_t)r.x * w / from_w), (int)((int64_t)r.y * h / from_h), 0, 0};
    o.w = (int)(((int64_t)r.x + r.w) * w / from_w) - o.x;
    o.h = (int)(((int64_t)r.y + r.h) * h / from_h) - o.y;
    return o;
}

/* The network's probability of object `id` on the rectangle `cut` of the flow's grid, which is `r` of the working size. */
static int ask(struct refiner *f, const struct object_view *v, struct gfilter_rect cut, struct gfilter_rect r,
               struct err *e)
{
    struct pjob *j = f->job;
    struct fgplg_side in[2] = {{0}};
    bool paper = j->opts->mode == PROPAGATE_PAPER;
    for (int i = 0; i < v->n_sides; i++) {
        const struct pside *side = v->sides[i];
        int slot = side->key->im.ordinal < v->frame->ordinal ? 0 : 1;
        f->to[i].width_px = cut.w;
        f->to[i].height_px = cut.h;
        struct cut k = {j, side, paper ? NULL : side->rel_chain, cut, v->id, &f->to[i], f->warped[i], f->rel[i]};
        par_for(cut.h, cut_row, &k);
        in[slot] = (struct fgplg_side){&f->to[i], f->warped[i], paper ? NULL : f->rel[i]};
    }
    const uint8_t *corner = v->frame->rgb + 3 * ((size_t)r.y * (size_t)j->ww + (size_t)r.x);
    struct flow_image rgb = {corner, r.w, r.h, 3 * j->ww, 3};
    int64_t start = clock_mono_ms();
    int rc = propagate_net_run(f->net, &rgb, in, r.w, r.h, f->answer, e);
    __atomic_fetch_add(&j->result->net_ms, clock_mono_ms() - start, __ATOMIC_RELAXED);
    return rc;
}

int refiner_paper(struct refiner *f, const struct object_view *v, struct err *e)
{
    const struct pjob *j = f->job;
    struct gfilter_rect all = {0, 0, j->ww, j->wh};
    int rc = ask(f, v, all, all, e);
    if (rc == 0)
        memcpy(v->p, f->answer, (size_t)j->ww * (size_t)j->wh * sizeof(*v->p));
    return rc;
}

/* ---- where it may speak ---------------------------------------------------------------------------------------------- */

struct blend {
    struct refiner *f;
    const struct object_view *v;
    struct gfilter_rect r, cut; /* of the working size: the object's rectangle, and what the network saw */
};

static void doubt_row(void *arg, int row)
{
    const struct blend *b = arg;
    size_t o = (size_t)(b->r.y + row) * (size_t)b->f->job->ww + (size_t)b->r.x;
    for (int x = 0; x < b->r.w; x++, o++)
        b->f->doubt[o] = 1 - fabsf(2 * b->v->p[o] - 1) * (1 - b->v->split[o]);
}

static float leave(float around)
{
    return warp_clamp((around - DOUBT_LEAST) / (DOUBT_FULL - DOUBT_LEAST), 0, 1);
}

static void blend_row(void *arg, int row)
{
    const struct blend *b = arg;
    const struct refiner *f = b->f;
    int y = b->r.y + row;
    size_t o = (size_t)y * (size_t)f->job->ww + (size_t)b->r.x;
    const float *net = f->answer + (size_t)(y - b->cut.y) * (size_t)b->cut.w + (size_t)(b->r.x - b->cut.x);
    float kx = (float)f->rw / (float)f->job->ww, ky = (float)f->rh / (float)f->job->wh;
    for (int x = b->r.x; x < b->r.x + b->r.w; x++, o++, net++) {
        float around =
            warp_sample(f->region, ((float)x + 0.5f) * kx - 0.5f, ((float)y + 0.5f) * ky - 0.5f, f->rw, f->rh);
        float certain = 2 * *net - 1;
        b->v->p[o] += leave(around) * f->doubt[o] * certain * certain * (*net - b->v->p[o]);
    }
}

/* The most that the network could move, as a part of the object. */
static double at_stake(const struct blend *b)
{
    const struct refiner *f = b->f;
    double moved = 0, object = 1;
    for (int i = 0; i < f->rw * f->rh; i++)
        moved += (double)(leave(f->region[i]) * f->region[i]);
    for (int y = b->r.y; y < b->r.y + b->r.h; y++)
        for (int x = b->r.x; x < b->r.x + b->r.w; x++)
            object += (double)b->v->p[(size_t)y * (size_t)f->job->ww + (size_t)x];
    double cell = (double)f->job->ww / f->rw * f->job->wh / f->rh;
    return moved * cell / object;
}

/* The cut-out on the flow's grid: the object's rectangle and a margin around it. */
static struct gfilter_rect cut_out(const struct pjob *j, struct gfilter_rect r)
{
    struct gfilter_rect v = on_grid(r, j->ww, j->wh, j->vw, j->vh);
    int mx = (int)(CUT_MARGIN * v.w) + FLOW_MIN_PX, my = (int)(CUT_MARGIN * v.h) + FLOW_MIN_PX;
    int x = v.x - mx > 0 ? v.x - mx : 0, y = v.y - my > 0 ? v.y - my : 0;
    int x1 = v.x + v.w + mx < j->vw ? v.x + v.w + mx : j->vw, y1 = v.y + v.h + my < j->vh ? v.y + v.h + my : j->vh;
    return (struct gfilter_rect){x, y, x1 - x, y1 - y};
}

int refiner_run(struct refiner *f, const struct object_view *v, struct gfilter_rect r, struct err *e)
{
    const struct pjob *j = f->job;
    struct gfilter_rect cut = cut_out(j, r);
    struct blend b = {f, v, r, on_grid(cut, j->vw, j->vh, j->ww, j->wh)};
    memset(f->doubt, 0, (size_t)j->ww * (size_t)j->wh * sizeof(float));
    par_for(r.h, doubt_row, &b);
    int rc = plane_resample(f->doubt, j->ww, j->wh, f->region, f->rw, f->rh, e);
    if (rc || at_stake(&b) < NET_WORTH)
        return rc;
    rc = ask(f, v, cut, b.cut, e);
    if (rc == 0)
        par_for(r.h, blend_row, &b);
    return rc;
}
