/*
 * Shots: planning and drawing.
 *
 * Planning spends all randomness; drawing is a pure function of the plan and t, so the frames of a clip agree and a
 * sample can be drawn again anywhere. A shot has up to three layers, back to front: the scene (a photo, with its mask
 * unless an object-free part was found), a pasted object with its own path, and an occluder that only hides.
 */
#include "core/train/shot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct layer {
    const struct picture *picture;
    size_t item;
    struct pose from, to;
};

struct occluder {
    double u0, v0, u1, v1; /* path of its centre */
    double ru, rv, angle;  /* half axes */
    bool bar;              /* endless along its long axis: a pole, a branch */
};

struct shot {
    struct dataset *d;
    struct layer scene, object; /* object.picture NULL: none pasted */
    bool scene_labelled;        /* what the scene's mask shows is salient too */
    bool moving;
    double feather; /* exponent on the pasted object's alpha: its cut edge, tighter or looser */
    bool occluded;
    struct occluder occluder;
    struct pose occluder_texture;
    double exposure; /* how much of t the shutter stays open; 0: no motion blur */
    float colour[3][4], object_gain[3];
    float noise;
    int blur; /* box blur passes */
    uint64_t noise_seed;
};

/* ---- where things are */

struct box {
    int x0, y0, x1, y1; /* half open */
};

static struct box mask_box(const struct picture *p)
{
    struct box b = {p->width_px, p->height_px, 0, 0};
    for (int y = 0; y < p->height_px; y++) {
        const uint8_t *row = p->mask + (size_t)y * (size_t)p->width_px;
        for (int x = 0; x < p->width_px; x++)
            if (row[x] >= 128) {
                b.x0 = x < b.x0 ? x : b.x0;
                b.x1 = x >= b.x1 ? x + 1 : b.x1;
                b.y0 = y < b.y0 ? y : b.y0;
                b.y1 = y + 1;
            }
    }
    return b;
}

/* Share of the mask that a pose's view keeps, and share of the view that the mask fills; both on a coarse grid. */
static void view_of_mask(const struct picture *p, const struct pose *v, double *kept, double *filled)
{
    enum { GRID = 48 };
    int all = 0, in = 0, view = 0;
    double half_h = v->px_per_unit / 2, half_w = half_h * v->aspect;
    for (int j = 0; j < GRID; j++)
        for (int i = 0; i < GRID; i++) {
            int x = p->width_px * (2 * i + 1) / (2 * GRID), y = p->height_px * (2 * j + 1) / (2 * GRID);
            bool fg = p->mask[(size_t)y * (size_t)p->width_px + (size_t)x] >= 128;
            bool seen = fabs(x - v->anchor_x) <= half_w && fabs(y - v->anchor_y) <= half_h;
            all += fg;
            in += fg && seen;
            view += seen;
        }
    *kept = all ? (double)in / all : 1;
    *filled = view ? (double)in / view : 0;
}

/* A view of `scale` times the largest that fits, at a random place. */
static struct pose random_view(const struct picture *p, double aspect, double scale, struct rng *r)
{
    struct pose v = pose_whole(p);
    v.aspect = aspect;
    v.px_per_unit = scale * fmin(p->height_px, p->width_px / aspect);
    double half_h = v.px_per_unit / 2, half_w = half_h * aspect;
    v.anchor_x = rng_range(r, half_w, p->width_px - half_w + 1e-6);
    v.anchor_y = rng_range(r, half_h, p->height_px - half_h + 1e-6);
    return v;
}

/* The frame a view stands for: the photo's own shape, or that of a film. */
static double random_aspect(const struct picture *p, struct rng *r)
{
    bool film = rng_uniform(r) < 0.4;
    return (film ? 16.0 / 9 : pose_whole(p).aspect) * exp(rng_range(r, -1, 1) * (film ? 0.08 : 0.25));
}

/* More than the photo shows: its objects become small, as those of films are. */
static struct pose wide_view(const struct picture *p, struct rng *r)
{
    struct pose v = pose_whole(p);
    v.aspect = random_aspect(p, r);
    v.px_per_unit = exp(rng_range(r, 0.1, 0.7)) * fmin(p->height_px, p->width_px / v.aspect);
    v.anchor_x += rng_range(r, -0.45, 0.45) * fabs(v.px_per_unit * v.aspect - p->width_px);
    v.anchor_y += rng_range(r, -0.45, 0.45) * fabs(v.px_per_unit - p->height_px);
    v.mirror = rng_uniform(r) < 0.5 ? -1 : 1;
    return v;
}

/* A crop that keeps most of the object, turned and mirrored at random. */
static struct pose crop_view(const struct picture *p, struct rng *r)
{
    struct pose v = pose_whole(p);
    for (int tries = 0; tries < 10; tries++) {
        double kept, filled, aspect = random_aspect(p, r);
        struct pose c = random_view(p, aspect, sqrt(rng_range(r, 0.4, 1.0)), r);
        view_of_mask(p, &c, &kept, &filled);
        if (kept < 0.7 || filled > 0.9)
            continue;
        v = c;
        break;
    }
    v.mirror = rng_uniform(r) < 0.5 ? -1 : 1;
    if (rng_uniform(r) < 0.3)
        v.angle = rng_normal(r) * 0.12;
    return v;
}

/* The emptiest of a dozen random views; *free says whether it shows (almost) nothing of the photo's own object. */
static struct pose empty_view(const struct picture *p, struct rng *r, bool *empty)
{
    struct pose best = pose_whole(p);
    double least = 2;
    for (int tries = 0; tries < 12 && least > 0.004; tries++) {
        double kept, filled, aspect = fmin(2, fmax(0.7, pose_whole(p).aspect * exp(rng_range(r, -0.3, 0.3))));
        struct pose v = random_view(p, aspect, rng_range(r, 0.45, 1.0), r);
        view_of_mask(p, &v, &kept, &filled);
        if (filled < least) {
            least = filled;
            best = v;
        }
    }
    best.mirror = rng_uniform(r) < 0.5 ? -1 : 1;
    *empty = least <= 0.004;
    return best;
}

/* An object that the photo's border cuts would show a straight edge when pasted. */
static bool cut_by_border(const struct picture *p)
{
    int n = 0;
    for (int x = 0; x < p->width_px; x++)
        n += (p->mask[x] >= 128) + (p->mask[(size_t)(p->height_px - 1) * (size_t)p->width_px + (size_t)x] >= 128);
    for (int y = 0; y < p->height_px; y++)
        n += (p->mask[(size_t)y * (size_t)p->width_px] >= 128) +
             (p->mask[(size_t)(y + 1) * (size_t)p->width_px - 1] >= 128);
    return n * 50 > p->width_px + p->height_px;
}

/* ---- planning */

static void random_bend(struct pose *p, double strength, struct rng *r)
{
    for (int i = 0; i < WARP_LATTICE; i++)
        for (int j = 0; j < WARP_LATTICE; j++)
            for (int k = 0; k < 2; k++)
                p->bend[i][j][k] = (float)(rng_normal(r) * strength * p->bend_span);
}

/* Where a pose has gone after one unit of time. */
static struct pose moved(const struct pose *from, double shift, double zoom, double turn, double bend, struct rng *r)
{
    struct pose to = *from;
    to.u += rng_normal(r) * shift / from->aspect;
    to.v += rng_normal(r) * shift * 0.6;
    to.px_per_unit *= exp(rng_normal(r) * zoom);
    to.angle += rng_normal(r) * turn;
    if (bend > 0 && from->bend_span > 0)
        random_bend(&to, bend, r);
    return to;
}

static void plan_object(struct shot *s, const struct shot_opts *o, struct rng *r)
{
    const struct picture *p = s->object.picture;
    struct box b = mask_box(p);
    struct pose *from = &s->object.from;
    double aspect = s->scene.from.aspect, size = exp(rng_range(r, log(0.12), log(0.8)));
    double w = (b.x1 - b.x0) / aspect, h = b.y1 - b.y0, longer = fmax(w, h);
    *from = pose_whole(p);
    from->aspect = aspect;
    from->anchor_x = (b.x0 + b.x1) / 2.0;
    from->anchor_y = (b.y0 + b.y1) / 2.0;
    from->px_per_unit = longer / size;
    from->mirror = rng_uniform(r) < 0.5 ? -1 : 1;
    from->angle = rng_uniform(r) < 0.4 ? rng_normal(r) * 0.2 : 0;
    from->u = 0.5 + rng_range(r, -0.5, 0.5) * (1.1 - w / from->px_per_unit);
    from->v = 0.5 + rng_range(r, -0.5, 0.5) * (1.1 - h / from->px_per_unit);
    from->bend_span = 1.5 * size;
    if (rng_uniform(r) < 0.5)
        random_bend(from, 0.02 * o->bend, r);
    s->object.to = *from;
    if (s->moving)
        s->object.to = moved(from, 0.14 * o->speed, 0.10 * o->speed, 0.14 * o->speed, 0.045 * o->bend * o->speed, r);
    s->feather = rng_range(r, 0.7, 2.0);
    for (int c = 0; c < 3; c++)
        s->object_gain[c] = (float)(1 + 0.06 * rng_normal(r));
}

static void plan_occluder(struct shot *s, const struct shot_opts *o, struct rng *r)
{
    struct occluder *q = &s->occluder;
    s->occluded = rng_uniform(r) < o->occluder;
    if (!s->occluded)
        return;
    double u = s->object.picture ? s->object.from.u : 0.5, v = s->object.picture ? s->object.from.v : 0.5;
    q->bar = rng_uniform(r) < 0.5;
    q->ru = q->bar ? rng_range(r, 0.015, 0.06) : rng_range(r, 0.05, 0.16);
    q->rv = q->ru * rng_range(r, 0.6, 1.6);
    q->angle = q->bar ? rng_normal(r) * 0.3 : rng_range(r, 0, 3.1416);
    q->u0 = u + rng_normal(r) * 0.18;
    q->v0 = v + rng_normal(r) * 0.18;
    q->u1 = q->u0 + rng_normal(r) * 0.2 * o->speed;
    q->v1 = q->v0 + rng_normal(r) * 0.1 * o->speed;
    s->occluder_texture = random_view(s->scene.picture, s->scene.from.aspect, rng_range(r, 0.3, 0.8), r);
}

static void compose(float (*m)[4], float (*n)[4]) /* 3 x 4 each */
{
    float out[3][4];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++) {
            out[i][j] = j == 3 ? n[i][3] : 0;
            for (int k = 0; k < 3; k++)
                out[i][j] += n[i][k] * m[k][j];
        }
    memcpy(m, out, sizeof(out));
}

/* Brightness, contrast, saturation and a turn of the hue are all affine in RGB; their product is one matrix. */
static void plan_colour(struct shot *s, double strength, struct rng *r)
{
    static const float luma[3] = {0.299F, 0.587F, 0.114F};
    float gain = (float)exp(rng_range(r, -0.3, 0.3) * strength),
          contrast = (float)exp(rng_range(r, -0.3, 0.3) * strength);
    float saturation = (float)(1 + rng_range(r, -0.5, 0.4) * strength), hue = (float)(rng_normal(r) * 0.12 * strength);
    if (rng_uniform(r) < 0.06 * strength)
        saturation = 0;
    float lift = 0.5F * (1 - contrast), c = cosf(hue), k = (1 - c) / 3, q = sinf(hue) * 0.57735F;
    float tone[3][4] = {{gain * contrast, 0, 0, lift}, {0, gain * contrast, 0, lift}, {0, 0, gain * contrast, lift}};
    float turn[3][4] = {{c + k, k - q, k + q, 0}, {k + q, c + k, k - q, 0}, {k - q, k + q, c + k, 0}};
    float grey[3][4] = {{0}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            grey[i][j] = (1 - saturation) * luma[j] + (i == j ? saturation : 0);
    memcpy(s->colour, tone, sizeof(tone));
    compose(s->colour, grey);
    compose(s->colour, turn);
    s->noise = rng_uniform(r) < 0.15 * strength ? (float)rng_range(r, 0.01, 0.05) : 0;
    s->blur = rng_uniform(r) < 0.12 * strength ? 1 + rng_int(r, 3) : 0;
    s->noise_seed = rng_u64(r);
}

/* Another training photo, if possible with an object-free view. */
static int plan_partner(struct shot *s, size_t item, struct rng *r, struct err *e)
{
    struct dataset *d = s->d;
    for (int tries = 0; tries < 4; tries++) {
        size_t other = (size_t)rng_int(r, (int)d->n);
        const struct picture *p;
        bool empty;
        if (d->items[other].held_out || other == item)
            continue;
        int rc = dataset_get(d, other, &p, e);
        if (rc)
            return rc;
        struct pose view = empty_view(p, r, &empty);
        if (!empty) {
            dataset_put(d, other, p);
            continue;
        }
        s->object = s->scene;
        s->scene = (struct layer){.picture = p, .item = other, .from = view, .to = view};
        s->scene_labelled = false;
        return 0;
    }
    return 0;
}

int shot_new(struct dataset *d, size_t item, const struct shot_opts *o, bool moving, struct rng *r, struct shot **out,
             struct err *e)
{
    struct shot *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, ERR_NOMEM, "shot: out of memory");
    *s = (struct shot){.d = d, .scene_labelled = true, .moving = moving, .colour = {{1}, {0, 1}, {0, 0, 1}}};
    s->scene.item = item;
    int rc = dataset_get(d, item, &s->scene.picture, e);
    if (rc)
        goto out;
    bool usable = s->scene.picture->area > 0.01 && s->scene.picture->area < 0.6;
    if (rng_uniform(r) < o->composite && usable && !cut_by_border(s->scene.picture)) {
        rc = plan_partner(s, item, r, e);
        if (rc)
            goto out;
    }
    if (s->object.picture)
        plan_object(s, o, r);
    else
        s->scene.from = rng_uniform(r) < o->zoom_out && s->scene.picture->area < 0.3 ? wide_view(s->scene.picture, r)
                        : o->crop                                                    ? crop_view(s->scene.picture, r)
                                                                                     : pose_whole(s->scene.picture);
    s->scene.from.reflect = o->zoom_out > 0;
    s->scene.from.bend_span = s->object.picture || !moving ? 0 : 1.2;
    s->scene.to = s->scene.from;
    if (moving)
        s->scene.to =
            moved(&s->scene.from, 0.05 * o->speed, 0.05 * o->speed, 0.04 * o->speed, 0.012 * o->bend * o->speed, r);
    plan_occluder(s, o, r);
    if (o->colour > 0)
        plan_colour(s, o->colour, r);
    if (moving && rng_uniform(r) < o->motion_blur)
        s->exposure = rng_range(r, 0.1, 0.3);
out:
    if (rc) {
        shot_free(s);
        s = NULL;
    }
    *out = s;
    return rc;
}

void shot_free(struct shot *s)
{
    if (!s)
        return;
    dataset_put(s->d, s->scene.item, s->scene.picture);
    dataset_put(s->d, s->object.item, s->object.picture);
    free(s);
}

/* ---- drawing */

static void paste_object(const struct shot *s, double t, int size, float *rgb, float *mask, float *scratch)
{
    size_t n = (size_t)size * (size_t)size;
    float *top = scratch, *alpha = scratch + 3 * n;
    struct pose at = pose_between(&s->object.from, &s->object.to, t);
    warp_draw(s->object.picture, &at, size, top, alpha, NULL);
    for (size_t i = 0; i < n; i++) {
        float a = alpha[i];
        if (a <= 0)
            continue;
        if (a < 1)
            a = powf(a, (float)s->feather);
        for (size_t c = 0; c < 3; c++) {
            float k = top[c * n + i] * s->object_gain[c];
            rgb[c * n + i] += a * (k - rgb[c * n + i]);
        }
        mask[i] += alpha[i] * (1 - mask[i]);
    }
}

static void hide_behind(const struct shot *s, double t, int size, float *rgb, float *mask, float *scratch)
{
    const struct occluder *q = &s->occluder;
    size_t n = (size_t)size * (size_t)size;
    double u0 = q->u0 + t * (q->u1 - q->u0), v0 = q->v0 + t * (q->v1 - q->v0);
    float c = cosf((float)q->angle), d = sinf((float)q->angle), edge = (float)size * 0.5F;
    struct pose texture = s->occluder_texture;
    texture.u += u0;
    texture.v += v0;
    warp_draw(s->scene.picture, &texture, size, scratch, scratch + 3 * n, NULL);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            float dx = ((float)x + 0.5F) / (float)size - (float)u0, dy = ((float)y + 0.5F) / (float)size - (float)v0;
            float a = (c * dx + d * dy) / (float)q->ru, b = q->bar ? 0 : (c * dy - d * dx) / (float)q->rv;
            float cover = (1 - sqrtf(a * a + b * b)) * (float)q->ru * edge;
            if (cover <= 0)
                continue;
            cover = cover > 1 ? 1 : cover;
            size_t i = (size_t)y * (size_t)size + (size_t)x;
            for (size_t k = 0; k < 3; k++)
                rgb[k * n + i] += cover * (scratch[k * n + i] - rgb[k * n + i]);
            mask[i] *= 1 - cover;
        }
}

static void draw_once(const struct shot *s, double t, int size, float *rgb, float *mask, float *scratch)
{
    struct pose at = pose_between(&s->scene.from, &s->scene.to, t);
    warp_draw(s->scene.picture, &at, size, rgb, mask, NULL);
    if (!s->scene_labelled)
        memset(mask, 0, sizeof(float) * (size_t)size * (size_t)size);
    if (s->object.picture)
        paste_object(s, t, size, rgb, mask, scratch);
    if (s->occluded)
        hide_behind(s, t, size, rgb, mask, scratch);
}

/* One pass of the 3x3 binomial filter on a plane, borders repeated. */
static void soften(float *plane, int size, float *row)
{
    for (int y = 0; y < size; y++) {
        float *p = plane + (size_t)y * (size_t)size, left = p[0];
        for (int x = 0; x < size; x++) {
            float here = p[x], right = x + 1 < size ? p[x + 1] : here;
            p[x] = 0.25F * (left + right) + 0.5F * here;
            left = here;
        }
    }
    memcpy(row, plane, sizeof(float) * (size_t)size);
    for (int y = 0; y < size; y++) {
        float *p = plane + (size_t)y * (size_t)size, *q = y + 1 < size ? p + size : p;
        for (int x = 0; x < size; x++) {
            float here = p[x];
            p[x] = 0.25F * (row[x] + q[x]) + 0.5F * here;
            row[x] = here;
        }
    }
}

static void finish_colour(const struct shot *s, double t, int size, float *rgb, float *scratch)
{
    size_t n = (size_t)size * (size_t)size;
    struct rng r;
    rng_seed(&r, s->noise_seed + (uint64_t)(t * 4096));
    for (int pass = 0; pass < s->blur; pass++)
        for (size_t c = 0; c < 3; c++)
            soften(rgb + c * n, size, scratch);
    for (size_t i = 0; i < n; i++) {
        float in[3] = {rgb[i], rgb[n + i], rgb[2 * n + i]};
        uint64_t bits = s->noise > 0 ? rng_u64(&r) : 0;
        for (size_t c = 0; c < 3; c++) {
            const float *m = s->colour[c];
            float v = m[0] * in[0] + m[1] * in[1] + m[2] * in[2] + m[3];
            if (s->noise > 0) /* sum of two uniform bytes: close enough to normal */
                v += s->noise * ((float)((bits >> (16 * c)) & 255) + (float)((bits >> (16 * c + 8)) & 255) - 255) / 104;
            rgb[c * n + i] = v < 0 ? 0 : v > 1 ? 1 : v;
        }
    }
}

void shot_draw_frame(const struct shot *s, const struct picture *frame, int size, float *rgb, float *mask,
                     float *scratch)
{
    struct shot one = *s;
    one.scene.picture = frame;
    shot_draw(&one, 0, size, rgb, mask, scratch);
}

void shot_draw(const struct shot *s, double t, int size, float *rgb, float *mask, float *scratch)
{
    enum { SUBFRAMES = 3 };
    size_t n = (size_t)size * (size_t)size;
    draw_once(s, t, size, rgb, mask, scratch);
    if (s->exposure > 0) {
        float *sub = malloc(4 * n * sizeof(float)); /* without memory the frame merely stays sharp */
        for (int k = 1; sub && k < SUBFRAMES; k++) {
            draw_once(s, t + s->exposure * k / SUBFRAMES, size, sub, sub + 3 * n, scratch);
            for (size_t i = 0; i < 3 * n; i++)
                rgb[i] += (sub[i] - rgb[i]) / (float)(k + 1);
            for (size_t i = 0; i < n; i++)
                mask[i] += (sub[3 * n + i] - mask[i]) / (float)(k + 1);
        }
        free(sub);
    }
    finish_colour(s, t, size, rgb, scratch);
}
