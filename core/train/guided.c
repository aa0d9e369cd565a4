/*
 * Samples for FGPLG. Frames are drawn at the training size and flow is estimated there; a handful of larger steps stands for the
 * five to ten small ones of a real interval, which keeps the estimator's share of a sample's cost below the network's.
 */
#include "core/train/guided.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 5

struct guided {
    int size;
    enum fgplg_style style;
    struct fgplg_norm norm;
    struct flow *flow;
};

/* The frames of one sample's clip. */
struct footage {
    int n, size;
    float *rgb, *scratch;           /* one frame (3,size,size); 5 planes */
    uint8_t *pixels[STEPS_MAX + 1]; /* interleaved RGB */
    float *mask[STEPS_MAX + 1];
};

int guided_new(int size, enum fgplg_style style, const struct fgplg_norm *norm, struct guided **out, struct err *e)
{
    struct guided *g = calloc(1, sizeof(*g));
    *out = NULL;
    if (!g)
        return err_set(e, ERR_NOMEM, "guided samples: out of memory");
    *g = (struct guided){.size = size, .style = style, .norm = *norm};
    int rc = flow_open("dis", &g->flow, e);
    if (rc) {
        guided_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void guided_free(struct guided *g)
{
    if (!g)
        return;
    flow_close(g->flow);
    free(g);
}

/* ---- footage --------------------------------------------------------------------------------------------------------- */

static int footage_init(struct footage *f, int n, int size, struct err *e)
{
    size_t plane = (size_t)size * (size_t)size;
    *f = (struct footage){.n = n, .size = size, .rgb = malloc(3 * plane * sizeof(float))};
    f->scratch = malloc(5 * plane * sizeof(float));
    bool ok = f->rgb && f->scratch;
    for (int i = 0; i < n; i++) {
        f->pixels[i] = malloc(3 * plane);
        f->mask[i] = malloc(plane * sizeof(float));
        ok = ok && f->pixels[i] && f->mask[i];
    }
    return ok ? 0 : err_set(e, ERR_NOMEM, "guided samples: out of memory");
}

static void footage_fini(struct footage *f)
{
    free(f->rgb);
    free(f->scratch);
    for (int i = 0; i < f->n; i++) {
        free(f->pixels[i]);
        free(f->mask[i]);
    }
}

static void keep_frame(struct footage *f, int i)
{
    size_t plane = (size_t)f->size * (size_t)f->size;
    for (size_t p = 0; p < plane; p++)
        for (size_t c = 0; c < 3; c++)
            f->pixels[i][p * 3 + c] = (uint8_t)lrintf(255 * f->rgb[c * plane + p]);
}

static int film_synthetic(struct footage *f, struct dataset *d, size_t item, const struct shot_opts *o, struct rng *r,
                          struct err *e)
{
    struct shot_opts fast = *o;
    struct shot *shot;
    fast.speed *= rng_range(r, 0.3, 2.0);
    int rc = shot_new(d, item, &fast, true, r, &shot, e);
    if (rc)
        return rc;
    for (int i = 0; i < f->n; i++) {
        shot_draw(shot, (double)i / (f->n - 1), f->size, f->rgb, f->mask[i], f->scratch);
        keep_frame(f, i);
    }
    shot_free(shot);
    return 0;
}

static int film_real(struct footage *f, struct dataset *d, size_t item, const struct shot_opts *o, struct rng *r,
                     struct err *e)
{
    const struct dataset_group *g = &d->groups[d->items[item].group];
    struct shot_opts still = *o;
    struct shot *shot;
    size_t step = 1 + (size_t)rng_int(r, 2), span = step * (size_t)(f->n - 1);
    size_t first = item + span < g->first + g->n ? item : g->first + g->n - 1 - span;
    still.composite = still.occluder = 0;
    int rc = shot_new(d, item, &still, false, r, &shot, e);
    for (int i = 0; !rc && i < f->n; i++) {
        const struct picture *p;
        rc = dataset_get(d, first + (size_t)i * step, &p, e);
        if (rc)
            break;
        shot_draw_frame(shot, p, f->size, f->rgb, f->mask[i], f->scratch);
        dataset_put(d, first + (size_t)i * step, p);
        keep_frame(f, i);
    }
    shot_free(shot);
    return rc;
}

/* ---- carrying labels ------------------------------------------------------------------------------------------------- */

static struct flow_image view(const struct footage *f, int i)
{
    return (struct flow_image){
        .data = f->pixels[i], .width_px = f->size, .height_px = f->size, .stride_bytes = 3 * f->size, .channels = 3};
}

/* total = flow from frame `from` to frame `to`, composed of the steps between neighbours. step and next are working fields. */
static int chain(struct guided *g, const struct footage *f, int from, int to, struct flow_field *total,
                 struct flow_field *step, struct flow_field *next, struct err *e)
{
    int way = to > from ? 1 : -1;
    for (int i = from; i != to; i += way) {
        struct flow_image a = view(f, i), b = view(f, i + way);
        int rc = flow_compute(g->flow, &a, &b, i == from ? total : step, e);
        if (rc)
            return rc;
        if (i == from)
            continue;
        flow_chain(total, step, next);
        struct flow_field t = *total;
        *total = *next;
        *next = t;
    }
    return 0;
}

struct carried { /* one side's label on the middle frame */
    struct flow_field to, back;
    float *warped, *reliability;
};

static void carried_fini(struct carried *c)
{
    flow_field_fini(&c->to);
    flow_field_fini(&c->back);
    free(c->warped);
    free(c->reliability);
}

static int carry(struct guided *g, struct footage *f, int middle, int key, struct carried *c, struct err *e)
{
    size_t plane = (size_t)f->size * (size_t)f->size;
    struct flow_field step = {0}, next = {0};
    c->warped = malloc(plane * sizeof(float));
    c->reliability = malloc(plane * sizeof(float));
    int rc = c->warped && c->reliability ? 0 : err_set(e, ERR_NOMEM, "guided samples: out of memory");
    struct flow_field *const fields[] = {&c->to, &c->back, &step, &next};
    for (size_t i = 0; !rc && i < 4; i++)
        rc = flow_field_init(fields[i], f->size, f->size, e);
    if (!rc)
        rc = chain(g, f, middle, key, &c->to, &step, &next, e);
    if (!rc)
        rc = chain(g, f, key, middle, &c->back, &step, &next, e);
    if (!rc) {
        float *label = f->scratch;
        for (size_t i = 0; i < plane; i++)
            label[i] = f->mask[key][i] >= 0.5F ? 1 : 0;
        flow_warp(&c->to, label, c->warped);
        flow_reliability(&c->to, &c->back, c->reliability);
    }
    flow_field_fini(&step);
    flow_field_fini(&next);
    return rc;
}

static int build(struct guided *g, struct footage *f, struct rng *r, const struct batch *at, struct err *e)
{
    struct carried carried[2] = {0};
    struct fgplg_side sides[2] = {{0}};
    int middle = 1 + rng_int(r, f->n - 2), missing = rng_uniform(r) < 0.1 ? rng_int(r, 2) : -1, rc = 0;
    for (int i = 0; !rc && i < 2; i++) {
        if (i == missing)
            continue;
        rc = carry(g, f, middle, i ? f->n - 1 : 0, &carried[i], e);
        sides[i] = (struct fgplg_side){&carried[i].to, carried[i].warped, carried[i].reliability};
    }
    struct flow_image rgb = view(f, middle);
    if (!rc)
        rc = fgplg_input(&rgb, sides, g->style, &g->norm, g->size, at->input, e);
    if (!rc)
        memcpy(at->target, f->mask[middle], (size_t)g->size * (size_t)g->size * sizeof(float));
    carried_fini(&carried[0]);
    carried_fini(&carried[1]);
    return rc;
}

int guided_make(struct guided *g, struct dataset *d, size_t item, const struct shot_opts *o, struct rng *r,
                const struct batch *at, struct err *e)
{
    const struct dataset_group *group = &d->groups[d->items[item].group];
    struct footage f;
    bool real = group->clip && group->n > 2 * STEPS_MAX && rng_uniform(r) < 0.8;
    int rc = footage_init(&f, 3 + rng_int(r, STEPS_MAX - 1), g->size, e);
    if (!rc)
        rc = real ? film_real(&f, d, item, o, r, e) : film_synthetic(&f, d, item, o, r, e);
    if (!rc)
        rc = build(g, &f, r, at, e);
    footage_fini(&f);
    return rc;
}
