/*
 * The guide's means and the inverse of its regularised 3 x 3 covariance are kept per pixel, so several masks of one picture share
 * them. Every step is a box mean, done with running sums: the cost does not depend on the radius. Windows are cut off at the
 * rectangle's border and divided by the pixels that are left.
 */
#include "core/flow/gfilter.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"

enum { XX, XY, XZ, YY, YZ, ZZ, N_COV };

struct gfilter {
    int width;                /* of the picture */
    struct gfilter_rect area; /* the planes cover it */
    int radius;
    float eps;
    float *planes;    /* owns the rest */
    float *colour[3]; /* 0..1 */
    float *mean[3];
    float *inv[N_COV]; /* of (covariance + eps) */
};

/* ---- box means ------------------------------------------------------------------------------------------------------- */

static void box_row(const float *src, float *dst, int n, int r)
{
    double sum = 0;
    for (int x = 0; x < r && x < n; x++)
        sum += src[x];
    for (int x = 0; x < n; x++) {
        if (x + r < n)
            sum += src[x + r];
        if (x - r - 1 >= 0)
            sum -= src[x - r - 1];
        int lo = x - r < 0 ? 0 : x - r, hi = x + r >= n ? n - 1 : x + r;
        dst[x] = (float)(sum / (hi - lo + 1));
    }
}

/* Means over windows, in place; mid holds w*h floats, sums w. */
static void box_mean(float *p, float *mid, float *sums, int w, int h, int r)
{
    for (int y = 0; y < h; y++)
        box_row(p + (size_t)y * (size_t)w, mid + (size_t)y * (size_t)w, w, r);
    memset(sums, 0, (size_t)w * sizeof(*sums));
    for (int y = 0; y < r && y < h; y++)
        for (int x = 0; x < w; x++)
            sums[x] += mid[(size_t)y * (size_t)w + (size_t)x];
    for (int y = 0; y < h; y++) {
        const float *in = y + r < h ? mid + (size_t)(y + r) * (size_t)w : NULL;
        const float *out = y - r - 1 >= 0 ? mid + (size_t)(y - r - 1) * (size_t)w : NULL;
        int lo = y - r < 0 ? 0 : y - r, hi = y + r >= h ? h - 1 : y + r;
        float scale = 1.0f / (float)(hi - lo + 1), *dst = p + (size_t)y * (size_t)w;
        for (int x = 0; x < w; x++) {
            sums[x] += (in ? in[x] : 0) - (out ? out[x] : 0);
            dst[x] = sums[x] * scale;
        }
    }
}

struct box_job {
    float *planes;
    int w, h, radius;
    int failed;
};

static void box_plane(void *arg, int i)
{
    struct box_job *j = arg;
    size_t n = (size_t)j->w * (size_t)j->h;
    float *mid = malloc((n + (size_t)j->w) * sizeof(*mid));
    if (!mid) {
        __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    box_mean(j->planes + (size_t)i * n, mid, mid + n, j->w, j->h, j->radius);
    free(mid);
}

/* Box means of n_planes consecutive planes, one thread each. */
static int box_means(float *planes, int n_planes, int w, int h, int radius, struct err *e)
{
    struct box_job j = {planes, w, h, radius, 0};
    par_for(n_planes, box_plane, &j);
    return j.failed ? err_set(e, ERR_NOMEM, "guided filter") : 0;
}

/* ---- the guide ------------------------------------------------------------------------------------------------------- */

/* Turns window means of products into the inverse of the regularised covariance, by cofactors, in double precision. */
static void invert(struct gfilter *g, size_t i)
{
    double eps = (double)g->eps;
    double m[3] = {g->mean[0][i], g->mean[1][i], g->mean[2][i]};
    double xx = g->inv[XX][i] - m[0] * m[0] + eps, xy = g->inv[XY][i] - m[0] * m[1];
    double xz = g->inv[XZ][i] - m[0] * m[2], yy = g->inv[YY][i] - m[1] * m[1] + eps;
    double yz = g->inv[YZ][i] - m[1] * m[2], zz = g->inv[ZZ][i] - m[2] * m[2] + eps;
    double c0 = yy * zz - yz * yz, c1 = xz * yz - xy * zz, c2 = xy * yz - xz * yy;
    double det = xx * c0 + xy * c1 + xz * c2, k = det > 1e-12 ? 1 / det : 0;
    g->inv[XX][i] = (float)(k * c0);
    g->inv[XY][i] = (float)(k * c1);
    g->inv[XZ][i] = (float)(k * c2);
    g->inv[YY][i] = (float)(k * (xx * zz - xz * xz));
    g->inv[YZ][i] = (float)(k * (xy * xz - xx * yz));
    g->inv[ZZ][i] = (float)(k * (xx * yy - xy * xy));
}

static void read_guide(struct gfilter *g, const struct flow_image *im)
{
    size_t o = 0;
    for (int y = 0; y < g->area.h; y++) {
        const uint8_t *p = im->data + (ptrdiff_t)(g->area.y + y) * im->stride_bytes + g->area.x * im->channels;
        for (int x = 0; x < g->area.w; x++, o++, p += im->channels) {
            float c[3];
            for (int k = 0; k < 3; k++) {
                c[k] = (float)p[im->channels == 3 ? k : 0] * (1.0f / 255);
                g->colour[k][o] = g->mean[k][o] = c[k];
            }
            int cov = 0;
            for (int i = 0; i < 3; i++)
                for (int k = i; k < 3; k++)
                    g->inv[cov++][o] = c[i] * c[k];
        }
    }
}

static int allocate(struct gfilter *g, struct err *e)
{
    size_t n = (size_t)g->area.w * (size_t)g->area.h;
    g->planes = malloc((3 + 3 + N_COV) * n * sizeof(float));
    if (!g->planes)
        return err_set(e, ERR_NOMEM, "guided filter of %d x %d", g->area.w, g->area.h);
    for (size_t k = 0; k < 3; k++) {
        g->colour[k] = g->planes + k * n;
        g->mean[k] = g->planes + (3 + k) * n;
    }
    for (size_t k = 0; k < N_COV; k++)
        g->inv[k] = g->planes + (6 + k) * n;
    return 0;
}

static void invert_row(void *arg, int y)
{
    struct gfilter *g = arg;
    for (size_t i = (size_t)y * (size_t)g->area.w, end = i + (size_t)g->area.w; i < end; i++)
        invert(g, i);
}

int gfilter_open(const struct flow_image *guide, struct gfilter_rect area, int radius_px, float eps,
                 struct gfilter **out, struct err *e)
{
    *out = NULL;
    if (radius_px < 1 || !(eps > 0))
        return err_set(e, ERR_INVALID, "guided filter: radius %d, eps %g", radius_px, (double)eps);
    BUG_ON(area.w < 1 || area.h < 1 || area.x < 0 || area.y < 0);
    BUG_ON(area.x + area.w > guide->width_px || area.y + area.h > guide->height_px);
    struct gfilter *g = calloc(1, sizeof(*g));
    if (!g)
        return err_set(e, ERR_NOMEM, "guided filter");
    *g = (struct gfilter){.width = guide->width_px, .area = area, .radius = radius_px, .eps = eps};
    int rc = allocate(g, e);
    if (rc == 0) {
        read_guide(g, guide);
        rc = box_means(g->mean[0], 3 + N_COV, area.w, area.h, radius_px, e);
    }
    if (rc) {
        gfilter_close(g);
        return rc;
    }
    par_for(area.h, invert_row, g);
    *out = g;
    return 0;
}

void gfilter_close(struct gfilter *g)
{
    if (!g)
        return;
    free(g->planes);
    free(g);
}

/* ---- filtering ------------------------------------------------------------------------------------------------------- */

/* t: mean(p), mean(p r), mean(p g), mean(p b) at window -> b, a_r, a_g, a_b of the window. */
static void fit(const struct gfilter *g, size_t i, float *const t[4], size_t o)
{
    float m = t[0][o], a[3], v[3];
    for (int k = 0; k < 3; k++)
        v[k] = t[k + 1][o] - g->mean[k][i] * m;
    a[0] = g->inv[XX][i] * v[0] + g->inv[XY][i] * v[1] + g->inv[XZ][i] * v[2];
    a[1] = g->inv[XY][i] * v[0] + g->inv[YY][i] * v[1] + g->inv[YZ][i] * v[2];
    a[2] = g->inv[XZ][i] * v[0] + g->inv[YZ][i] * v[1] + g->inv[ZZ][i] * v[2];
    for (int k = 0; k < 3; k++)
        t[k + 1][o] = a[k];
    t[0][o] = m - a[0] * g->mean[0][i] - a[1] * g->mean[1][i] - a[2] * g->mean[2][i];
}

/* A pixel of r, counted from its corner: in the prepared planes, and in the picture. */
static size_t in_area(const struct gfilter *g, struct gfilter_rect r, int x, int y)
{
    return (size_t)(r.y - g->area.y + y) * (size_t)g->area.w + (size_t)(r.x - g->area.x + x);
}

static size_t in_picture(const struct gfilter *g, struct gfilter_rect r, int x, int y)
{
    return (size_t)(r.y + y) * (size_t)g->width + (size_t)(r.x + x);
}

static void gather(const struct gfilter *g, const float *plane, struct gfilter_rect r, float *const t[4])
{
    size_t o = 0;
    for (int y = 0; y < r.h; y++)
        for (int x = 0; x < r.w; x++, o++) {
            float p = plane[in_picture(g, r, x, y)];
            t[0][o] = p;
            for (int k = 0; k < 3; k++)
                t[k + 1][o] = p * g->colour[k][in_area(g, r, x, y)];
        }
}

static void apply(const struct gfilter *g, float *plane, struct gfilter_rect r, float *const t[4])
{
    size_t o = 0;
    for (int y = 0; y < r.h; y++)
        for (int x = 0; x < r.w; x++, o++) {
            float q = t[0][o];
            for (int k = 0; k < 3; k++)
                q += t[k + 1][o] * g->colour[k][in_area(g, r, x, y)];
            plane[in_picture(g, r, x, y)] = q < 0 ? 0 : q > 1 ? 1 : q;
        }
}

int gfilter_run(const struct gfilter *g, float *plane, struct gfilter_rect r, struct err *e)
{
    const struct gfilter_rect *a = &g->area;
    BUG_ON(r.x < a->x || r.y < a->y || r.x + r.w > a->x + a->w || r.y + r.h > a->y + a->h || r.w < 1 || r.h < 1);
    size_t n = (size_t)r.w * (size_t)r.h, o = 0;
    float *store = malloc(4 * n * sizeof(*store));
    if (!store)
        return err_set(e, ERR_NOMEM, "guided filter");
    float *const t[4] = {store, store + n, store + 2 * n, store + 3 * n};
    gather(g, plane, r, t);
    int rc = box_means(store, 4, r.w, r.h, g->radius, e);
    for (int y = 0; rc == 0 && y < r.h; y++)
        for (int x = 0; x < r.w; x++)
            fit(g, in_area(g, r, x, y), t, o++);
    if (rc == 0)
        rc = box_means(store, 4, r.w, r.h, g->radius, e);
    if (rc == 0)
        apply(g, plane, r, t);
    free(store);
    return rc;
}
