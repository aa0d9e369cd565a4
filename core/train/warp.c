/*
 * Drawing a posed picture. Each output pixel takes 1, 4 or 9 bilinear samples, by how much the pose shrinks the source:
 * enough against aliasing without building a pyramid per picture.
 */
#include "core/train/warp.h"

#include <math.h>
#include <string.h>

struct pose pose_whole(const struct picture *p)
{
    return (struct pose){.anchor_x = p->width_px / 2.0,
                         .anchor_y = p->height_px / 2.0,
                         .u = 0.5,
                         .v = 0.5,
                         .px_per_unit = p->height_px,
                         .aspect = (double)p->width_px / p->height_px,
                         .mirror = 1};
}

static double mix(double a, double b, double t)
{
    return a + t * (b - a);
}

struct pose pose_between(const struct pose *a, const struct pose *b, double t)
{
    struct pose p = *a;
    p.anchor_x = mix(a->anchor_x, b->anchor_x, t);
    p.anchor_y = mix(a->anchor_y, b->anchor_y, t);
    p.u = mix(a->u, b->u, t);
    p.v = mix(a->v, b->v, t);
    p.px_per_unit = a->px_per_unit * pow(b->px_per_unit / a->px_per_unit, t);
    p.angle = mix(a->angle, b->angle, t);
    p.bend_span = mix(a->bend_span, b->bend_span, t);
    for (int i = 0; i < WARP_LATTICE; i++)
        for (int j = 0; j < WARP_LATTICE; j++)
            for (int k = 0; k < 2; k++)
                p.bend[i][j][k] = (float)mix(a->bend[i][j][k], b->bend[i][j][k], t);
    return p;
}

/* Uniform cubic B-spline: first lattice index and the four weights at position x of [0,1]. */
static int spline_weights(double x, float w[4])
{
    double s = x * (WARP_LATTICE - 3);
    s = s < 0 ? 0 : s > WARP_LATTICE - 3 ? WARP_LATTICE - 3 : s;
    int i = (int)s < WARP_LATTICE - 4 ? (int)s : WARP_LATTICE - 4;
    double t = s - i, r = 1 - t;
    w[0] = (float)(r * r * r / 6);
    w[1] = (float)((3 * t * t * t - 6 * t * t + 4) / 6);
    w[2] = (float)((-3 * t * t * t + 3 * t * t + 3 * t + 1) / 6);
    w[3] = (float)(t * t * t / 6);
    return i;
}

/* The lattice collapsed along one canvas row: what a pixel of that row still has to interpolate. */
struct bend_row {
    float d[WARP_LATTICE][2];
};

static void bend_row_init(struct bend_row *r, const struct pose *p, double v)
{
    float w[4];
    int i = spline_weights((v - p->v) / p->bend_span + 0.5, w);
    for (int j = 0; j < WARP_LATTICE; j++)
        for (int k = 0; k < 2; k++)
            r->d[j][k] = w[0] * p->bend[i][j][k] + w[1] * p->bend[i + 1][j][k] + w[2] * p->bend[i + 2][j][k] +
                         w[3] * p->bend[i + 3][j][k];
}

static void bend_at(const struct bend_row *r, const struct pose *p, double u, double out[2])
{
    float w[4];
    int j = spline_weights((u - p->u) / p->bend_span + 0.5, w);
    for (int k = 0; k < 2; k++)
        out[k] = w[0] * r->d[j][k] + w[1] * r->d[j + 1][k] + w[2] * r->d[j + 2][k] + w[3] * r->d[j + 3][k];
}

struct frame_of_pose { /* the pose's linear part, ready to apply */
    double xu, xv, yu, yv;
};

static void to_source(const struct pose *p, const struct frame_of_pose *m, const struct bend_row *row, double u,
                      double v, double *x, double *y)
{
    double du = u - p->u, dv = v - p->v, d[2] = {0, 0};
    if (p->bend_span > 0) {
        bend_at(row, p, u, d);
        du += d[0];
        dv += d[1];
    }
    *x = p->anchor_x + m->xu * du + m->xv * dv;
    *y = p->anchor_y + m->yu * du + m->yv * dv;
}

static int clampi(int v, int hi)
{
    return v < 0 ? 0 : v > hi ? hi : v;
}

/* Folds a coordinate into [0, size] as a row of mirror images would. */
static double fold(double x, double size)
{
    x = fabs(fmod(x, 2 * size));
    return x > size ? 2 * size - x : x;
}

/* Adds one bilinear sample, scaled by `w`: out = r, g, b, mask, inside. */
static void sample(const struct picture *p, double x, double y, float w, float out[5])
{
    double fx = x - 0.5, fy = y - 0.5;
    if (!(fabs(fx) < 1e6 && fabs(fy) < 1e6))
        return;
    int x0 = (int)floor(fx), y0 = (int)floor(fy), W = p->width_px - 1, H = p->height_px - 1;
    float tx = (float)(fx - x0), ty = (float)(fy - y0);
    int xa = clampi(x0, W), xb = clampi(x0 + 1, W);
    size_t ra = (size_t)clampi(y0, H) * (size_t)p->width_px, rb = (size_t)clampi(y0 + 1, H) * (size_t)p->width_px;
    size_t at[4] = {ra + (size_t)xa, ra + (size_t)xb, rb + (size_t)xa, rb + (size_t)xb};
    float k[4] = {(1 - tx) * (1 - ty) * w, tx * (1 - ty) * w, (1 - tx) * ty * w, tx * ty * w};
    bool in = x >= 0 && y >= 0 && x <= p->width_px && y <= p->height_px;
    for (int i = 0; i < 4; i++) {
        const uint8_t *c = p->rgb + at[i] * 3;
        out[0] += k[i] * c[0];
        out[1] += k[i] * c[1];
        out[2] += k[i] * c[2];
        if (in)
            out[3] += k[i] * p->mask[at[i]];
    }
    if (in)
        out[4] += w;
}

static int samples_per_axis(const struct pose *p, int size)
{
    double step = p->px_per_unit * fmax(1, p->aspect) / size;
    return step < 1.35 ? 1 : step < 2.6 ? 2 : 3;
}

void warp_draw(const struct picture *p, const struct pose *pose, int size, float *rgb, float *mask, float *inside)
{
    double c = cos(pose->angle) * pose->px_per_unit, s = sin(pose->angle) * pose->px_per_unit;
    struct frame_of_pose m = {c * pose->aspect * pose->mirror, -s * pose->mirror, s * pose->aspect, c};
    int n = samples_per_axis(pose, size);
    size_t plane = (size_t)size * (size_t)size;
    float w = 1.0F / (float)(n * n);
    struct bend_row rows[3];
    for (int y = 0; y < size; y++) {
        for (int j = 0; j < n && pose->bend_span > 0; j++)
            bend_row_init(&rows[j], pose, (y + (j + 0.5) / n) / size);
        for (int x = 0; x < size; x++) {
            float acc[5] = {0};
            for (int j = 0; j < n; j++)
                for (int i = 0; i < n; i++) {
                    double sx, sy;
                    to_source(pose, &m, &rows[j], (x + (i + 0.5) / n) / size, (y + (j + 0.5) / n) / size, &sx, &sy);
                    if (pose->reflect) {
                        sx = fold(sx, p->width_px);
                        sy = fold(sy, p->height_px);
                    }
                    sample(p, sx, sy, w, acc);
                }
            size_t o = (size_t)y * (size_t)size + (size_t)x;
            for (int k = 0; k < 3; k++)
                rgb[(size_t)k * plane + o] = acc[k] * (1 / 255.0F);
            mask[o] = acc[3] * (1 / 255.0F);
            if (inside)
                inside[o] = acc[4];
        }
    }
}
