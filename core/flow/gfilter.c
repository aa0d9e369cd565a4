/*
 * The guide's means and the inverse of its regularised 3 x 3 covariance are kept per pixel, so several masks of one picture share
 * them. Every step is a box mean, done with running sums: the cost does not depend on the radius. Windows are cut off at the
 * rectangle's border and divided by the pixels that are left.
 */
#include "core/flow/gfilter.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"

enum { XX, XY, XZ, YY, YZ, ZZ, N_COV };

struct gfilter {
    int w, h, radius;
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
static void invert(struct gfilter *g, size_t i, float eps)
{
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
    for (int y = 0; y < g->h; y++) {
        const uint8_t *p = im->data + (size_t)y * (size_t)im->stride_bytes;
        for (int x = 0; x < g->w; x++, o++, p += im->channels) {
            float c[3];
            for (int k = 0; k < 3; k++) {
                c[k] = (float)p[im->channels == 3 ? k : 0] * (1.0f / 255);
                g->colour[k][o] = g->mean[k][o] = c[k];
            }
            int cov = 0;
            for (int a = 0; a < 3; a++)
                for (int b = a; b < 3; b++)
                    g->inv[cov++][o] = c[a] * c[b];
        }
    }
}

int gfilter_open(const struct flow_image *guide, int radius_px, float eps, struct gfilter **out, struct err *e)
{
    *out = NULL;
    if (radius_px < 1 || !(eps > 0) || guide->width_px < 1 || guide->height_px < 1)
        return err_set(e, ERR_INVALID, "guided filter: radius %d, eps %g", radius_px, (double)eps);
    size_t n = (size_t)guide->width_px * (size_t)guide->height_px;
    struct gfilter *g = calloc(1, sizeof(*g));
    if (g)
        g->planes = malloc((3 + 3 + N_COV) * n * sizeof(float));
    if (!g || !g->planes) {
        gfilter_close(g);
        return err_set(e, ERR_NOMEM, "guided filter of %d x %d", guide->width_px, guide->height_px);
    }
    g->w = guide->width_px;
    g->h = guide->height_px;
    g->radius = radius_px;
    for (size_t k = 0; k < 3; k++) {
        g->colour[k] = g->planes + k * n;
        g->mean[k] = g->planes + (3 + k) * n;
    }
    for (size_t k = 0; k < N_COV; k++)
        g->inv[k] = g->planes + (6 + k) * n;
    read_guide(g, guide);
    int rc = box_means(g->mean[0], 3 + N_COV, g->w, g->h, radius_px, e);
    if (rc) {
        gfilter_close(g);
        return rc;
    }
    for (size_t i = 0; i < n; i++)
        invert(g, i, eps);
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

static size_t at(const struct gfilter *g, struct gfilter_rect r, int x, int y)
{
    return (size_t)(r.y + y) * (size_t)g->w + (size_t)(r.x + x);
}

int gfilter_run(const struct gfilter *g, float *plane, struct gfilter_rect r, struct err *e)
{
    BUG_ON(r.x < 0 || r.y < 0 || r.x + r.w > g->w || r.y + r.h > g->h);
    if (r.w < 1 || r.h < 1)
        return 0;
    size_t n = (size_t)r.w * (size_t)r.h, o = 0;
    float *store = malloc(4 * n * sizeof(*store));
    if (!store)
        return err_set(e, ERR_NOMEM, "guided filter");
    float *const t[4] = {store, store + n, store + 2 * n, store + 3 * n};
    for (int y = 0; y < r.h; y++)
        for (int x = 0; x < r.w; x++, o++) {
            size_t i = at(g, r, x, y);
            t[0][o] = plane[i];
            for (int k = 0; k < 3; k++)
                t[k + 1][o] = plane[i] * g->colour[k][i];
        }
    int rc = box_means(store, 4, r.w, r.h, g->radius, e);
    if (rc)
        goto out;
    o = 0;
    for (int y = 0; y < r.h; y++)
        for (int x = 0; x < r.w; x++)
            fit(g, at(g, r, x, y), t, o++);
    rc = box_means(store, 4, r.w, r.h, g->radius, e);
    if (rc)
        goto out;
    o = 0;
    for (int y = 0; y < r.h; y++)
        for (int x = 0; x < r.w; x++, o++) {
            size_t i = at(g, r, x, y);
            float q = t[0][o];
            for (int k = 0; k < 3; k++)
                q += t[k + 1][o] * g->colour[k][i];
            plane[i] = q < 0 ? 0 : q > 1 ? 1 : q;
        }
out:
    free(store);
    return rc;
}
