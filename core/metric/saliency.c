/*
 * MAE, S, F and E from histograms. Every formula keeps the reference's order of operations on the numbers that are
 * compared; plain sums over pixels become sums over levels, which moves them by rounding only.
 */
#include "core/metric/internal.h"

#include <math.h>

static double mae(const struct view *v)
{
    double sum = 0;
    for (int l = 0; l < LEVELS; l++)
        sum += (double)v->count[0][l] * v->p[l] + (double)v->count[1][l] * (1 - v->p[l]);
    return sum / (double)v->n;
}

/* ---- structure measure ---------------------------------------------------------------------------------------------
 */

/* Object score of the n values of one side: x = p on the foreground, 1 - p on the background. */
static double object_score(const struct view *v, int side)
{
    double sum = 0, dev = 0;
    int64_t n = 0;
    for (int l = 0; l < LEVELS; l++) {
        n += v->count[side][l];
        sum += (double)v->count[side][l] * (side ? v->p[l] : 1 - v->p[l]);
    }
    double mean = sum / (double)n;
    for (int l = 0; l < LEVELS; l++) {
        double d = (side ? v->p[l] : 1 - v->p[l]) - mean;
        dev += (double)v->count[side][l] * d * d;
    }
    double std = n > 1 ? sqrt(dev / (double)(n - 1)) : 0;
    return 2 * mean / (mean * mean + 1 + std + METRIC_EPS);
}

/* A region of one level and one ground truth value scores 1 if numpy's mean of its equal values is that value, and 0 if
 * rounding made it another one. numpy adds a slice of a larger array through a buffer of at most 8192 values, whole
 * rows at a time where they fit; a slice that is a single row or column it adds in place. */
static double flat_region(const struct view *v, int x0, int x1, int y0, int y1)
{
    const uint8_t *level = v->pred + (size_t)y0 * (size_t)v->w + x0;
    int64_t w = x1 - x0, h = y1 - y0, n = w * h, part = n;
    if (w > 1 && h > 1)
        part = w < 8192 ? 8192 / w * w : w;
    double sum = 0;
    for (int64_t left = n; left > 0; left -= part)
        sum += metric_numpy_sum(level, left < part ? left : part, 0, v->p);
    return sum / (double)n == v->p[*level] ? 1 : 0;
}

/* Structural similarity of one quadrant; NaN where it is empty. */
static double region_score(const struct view *v, int q, int x0, int x1, int y0, int y1)
{
    double n = (double)(x1 - x0) * (double)(y1 - y0);
    double sum = 0, fg = 0;
    int levels = 0;
    for (int l = 0; l < LEVELS; l++) {
        double c = (double)v->hist[q][0][l] + (double)v->hist[q][1][l];
        levels += c > 0;
        sum += c * v->p[l];
        fg += (double)v->hist[q][1][l];
    }
    if (n > 0 && levels == 1 && (fg == 0 || fg == n))
        return flat_region(v, x0, x1, y0, y1);
    double x = sum / n, y = fg / n, xx = 0, xy = 0; /* 0 / 0 is the NaN of the reference */
    for (int l = 0; l < LEVELS; l++) {
        double d = v->p[l] - x, c0 = (double)v->hist[q][0][l], c1 = (double)v->hist[q][1][l];
        xx += (c0 + c1) * d * d;
        xy += c1 * d * (1 - y) + c0 * d * (0 - y);
    }
    double yy = fg * (1 - y) * (1 - y) + (n - fg) * y * y;
    double k = n - 1 + METRIC_EPS;
    double alpha = 4 * x * y * (xy / k);
    double beta = (x * x + y * y) * (xx / k + yy / k);
    if (alpha != 0)
        return alpha / (beta + METRIC_EPS);
    return beta == 0 ? 1 : 0;
}

static double s_measure(const struct view *v)
{
    double mean = 0;
    for (int l = 0; l < LEVELS; l++)
        mean += (double)(v->count[0][l] + v->count[1][l]) * v->p[l];
    mean /= (double)v->n;
    if (v->fg == 0)
        return 1 - mean;
    if (v->fg == v->n)
        return mean;
    double share = (double)v->fg / (double)v->n, area = (double)v->n;
    double object = object_score(v, 1) * share + object_score(v, 0) * (1 - share);
    int cx = v->cx, cy = v->cy, w = v->w, h = v->h;
    double lt = (double)cx * cy / area, rt = (double)cy * (w - cx) / area, lb = (double)(h - cy) * cx / area;
    double rb = 1 - lt - rt - lb;
    double region = region_score(v, 0, 0, cx, 0, cy) * lt + region_score(v, 1, cx, w, 0, cy) * rt +
                    region_score(v, 2, 0, cx, cy, h) * lb + region_score(v, 3, cx, w, cy, h) * rb;
    double s = 0.5 * object + 0.5 * region;
    return s < 0 ? 0 : s; /* keeps NaN */
}

/* ---- F and E --------------------------------------------------------------------------------------------------------
 */

/* Pixels at or above a level, by ground truth. */
struct tail {
    int64_t fg, bg;
};

static void tails(const struct view *v, struct tail out[LEVELS + 1])
{
    out[LEVELS] = (struct tail){0, 0};
    for (int l = LEVELS - 1; l >= 0; l--)
        out[l] = (struct tail){out[l + 1].fg + v->count[1][l], out[l + 1].bg + v->count[0][l]};
}

static double f_beta(double precision, double recall)
{
    double num = 1.3 * precision * recall;
    return num == 0 ? 0 : num / (0.3 * precision + recall);
}

static double aligned(double a, double b)
{
    double v = 2 * (a * b) / (a * a + b * b + METRIC_EPS) + 1;
    return v * v / 4;
}

/* Enhanced alignment of the binary map that has `t` as its foreground. Divided by n - 1: a perfect map can exceed 1. */
static double alignment(const struct view *v, struct tail t)
{
    double n = (double)v->n, on = (double)(t.fg + t.bg), sum;
    if (v->fg == 0) {
        sum = n - on;
    } else if (v->fg == v->n) {
        sum = on;
    } else {
        double mp = on / n, mg = (double)v->fg / n;
        double missed = (double)(v->fg - t.fg), rest = n - on - missed;
        sum = aligned(1 - mp, 1 - mg) * (double)t.fg + aligned(1 - mp, 0 - mg) * (double)t.bg +
              aligned(0 - mp, 1 - mg) * missed + aligned(0 - mp, 0 - mg) * rest;
    }
    return sum / (n - 1 + METRIC_EPS);
}

/* The lowest level that passes threshold t. Levels grow with their values, so the passing ones are a tail. */
static int cut_level(const struct view *v, enum metric_cut cut, int t, int from)
{
    double limit = 1.0 - (255 - t) / 255.0;
    int l = from;
    while (l < LEVELS && !(cut == METRIC_CUT_U8 ? (int)(v->p[l] * 255) >= t : v->p[l] >= limit))
        l++;
    return l;
}

static void curves(const struct view *v, enum metric_cut cut, const struct tail *tail, struct metric_frame *out)
{
    double positives = v->fg ? (double)v->fg : 1;
    for (int t = 0, l = v->pred_min; t < METRIC_THRESHOLDS; t++) {
        l = cut_level(v, cut, t, l);
        struct tail c = tail[l];
        double on = (double)(c.fg + c.bg);
        out->precision[t] = on > 0 ? (double)c.fg / on : 0;
        out->recall[t] = (double)c.fg / positives;
        out->f[t] = f_beta(out->precision[t], out->recall[t]);
        out->e[t] = alignment(v, c);
    }
}

/* min(2 mean(p), 1). The mean is exact to a few last bits; where a level lies that close, it is taken as numpy adds. */
static double adaptive_threshold(const struct view *v)
{
    double sum = 0;
    for (int l = 0; l < LEVELS; l++)
        sum += (double)(v->count[0][l] + v->count[1][l]) * v->p[l];
    double limit = 2 * (sum / (double)v->n);
    bool close = false;
    for (int l = 0; l < LEVELS; l++)
        close |= v->count[0][l] + v->count[1][l] > 0 && fabs(v->p[l] - limit) < 1e-9;
    if (close)
        limit = 2 * (metric_numpy_sum(v->pred, v->n, 1, v->p) / (double)v->n);
    return limit < 1 ? limit : 1;
}

void metric_saliency(const struct view *v, const struct metric_opts *o, struct metric_frame *out)
{
    struct tail tail[LEVELS + 1];
    tails(v, tail);
    out->mae = mae(v);
    out->s_measure = s_measure(v);
    curves(v, o->cut, tail, out);
    double limit = adaptive_threshold(v);
    int l = v->pred_min;
    while (l < LEVELS && v->p[l] < limit)
        l++;
    struct tail c = tail[l];
    out->adaptive_f = c.fg ? f_beta((double)c.fg / (double)(c.fg + c.bg), (double)c.fg / (double)v->fg) : 0;
    out->adaptive_e = alignment(v, c);
}
