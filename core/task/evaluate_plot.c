/*
 * Plots as SVG, self-contained and small: the precision-recall curve beside the F and E curves, of a result or of its JSON
 * report; and values over time.
 */
#include "core/task/evaluate_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

/* ---- curves ----------------------------------------------------------------------------------------------------------- */

enum { SIDE = 300, LEFT = 50, TOP = 40, GAP = 80, WIDTH = 2 * LEFT + 2 * SIDE + GAP - 10, HEIGHT = TOP + SIDE + 60 };

/* Axes from 0 to 1 with fifths marked. */
static void axes(struct buf *b, int x0, const char *title, const char *xlabel, const char *ylabel, double xmax)
{
    buf_printf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", x0, TOP, SIDE,
               SIDE);
    for (int i = 0; i <= 5; i++) {
        int x = x0 + i * SIDE / 5, y = TOP + SIDE - i * SIDE / 5;
        buf_printf(b,
                   "<path d=\"M%d %dv%dM%d %dh%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%g"
                   "</text><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.1f</text>\n",
                   x, TOP, SIDE, x0, y, SIDE, x, TOP + SIDE + 16, xmax * i / 5, x0 - 6, y + 4, i / 5.0);
    }
    buf_printf(b,
               "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-weight=\"bold\">%s</text>"
               "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>"
               "<text transform=\"translate(%d %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
               x0 + SIDE / 2, TOP - 14, title, x0 + SIDE / 2, TOP + SIDE + 36, xlabel, x0 - 34, TOP + SIDE / 2, ylabel);
}

static double clamp(double v)
{
    return !(v > 0) ? 0 : v > 1 ? 1 : v; /* E of a tiny image exceeds 1; NaN draws as 0 */
}

/* A line through (x[t], y[t]); x NULL stands for t / 255. */
static void line(struct buf *b, int x0, const double *x, const double *y, const char *colour)
{
    buf_printf(b, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (int t = 0; t < METRIC_THRESHOLDS; t++)
        buf_printf(b, "%.2f,%.2f ", x0 + SIDE * (x ? clamp(x[t]) : t / 255.0), TOP + SIDE * (1 - clamp(y[t])));
    buf_puts(b, "\"/>\n");
}

static void begin(struct buf *b, int width, int height)
{
    buf_printf(b,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
               "font-size=\"12\">\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
               width, height, width, height);
}

static int end(struct buf *b, struct err *e)
{
    buf_puts(b, "</svg>\n");
    return b->failed ? err_set(e, ERR_NOMEM, "no memory for the plot") : 0;
}

static int plot_curves(const double (*c)[METRIC_THRESHOLDS], double max_f, double max_e, struct buf *out, struct err *e)
{
    int right = LEFT + SIDE + GAP;
    begin(out, WIDTH, HEIGHT);
    axes(out, LEFT, "Precision and recall", "recall", "precision", 1);
    line(out, LEFT, c[CURVE_RECALL], c[CURVE_PRECISION], "#1f77b4");
    axes(out, right, "F and E by threshold", "threshold", "value", 255);
    line(out, right, NULL, c[CURVE_F], "#d62728");
    line(out, right, NULL, c[CURVE_E], "#2ca02c");
    buf_printf(out,
               "<text x=\"%d\" y=\"%d\" fill=\"#d62728\">F, max %.4f</text>"
               "<text x=\"%d\" y=\"%d\" fill=\"#2ca02c\">E, max %.4f</text>\n",
               right + 10, TOP + SIDE - 28, max_f, right + 10, TOP + SIDE - 12, max_e);
    return end(out, e);
}

int evaluation_svg(const struct evaluation *ev, struct buf *out, struct err *e)
{
    return plot_curves((const double(*)[METRIC_THRESHOLDS])ev->overall.curve, ev->overall.value[METRIC_MAX_F],
                       ev->overall.value[METRIC_MAX_E], out, e);
}

/* null, where the tool gives NaN, draws as 0. */
static bool read_curve(const json_t *list, double *out)
{
    for (size_t t = 0; t < METRIC_THRESHOLDS; t++)
        out[t] = json_number_value(json_array_get(list, t));
    return json_array_size(list) == METRIC_THRESHOLDS;
}

int evaluate_plot_report(const char *report, size_t len, struct buf *out, struct err *e)
{
    static const char *const names[CURVES] = {
        [CURVE_PRECISION] = "precision", [CURVE_RECALL] = "recall", [CURVE_F] = "f", [CURVE_E] = "e"};
    double c[CURVES][METRIC_THRESHOLDS];
    json_t *doc = json_loadb(report, len, 0, NULL);
    const json_t *overall = json_object_get(doc, "overall");
    bool ok = doc != NULL;
    for (int k = 0; ok && k < CURVES; k++)
        ok = read_curve(json_object_get(json_object_get(doc, "curves"), names[k]), c[k]);
    int rc =
        ok ? plot_curves((const double(*)[METRIC_THRESHOLDS])c, json_number_value(json_object_get(overall, "max_f")),
                         json_number_value(json_object_get(overall, "max_e")), out, e)
           : err_set(e, ERR_INVALID, "the report has no curves");
    json_decref(doc);
    return rc;
}

/* ---- over time -------------------------------------------------------------------------------------------------------- */

enum { TREND_W = 560, TREND_H = 260, TREND_RIGHT = 150 };

struct range {
    double low, high;
};

/* The values with some air, at least a hundredth wide. */
static struct range value_range(const struct evaluate_trend *t, size_t n)
{
    struct range r = {INFINITY, -INFINITY};
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < t[k].n; i++) {
            if (!isfinite(t[k].value[i]))
                continue;
            r.low = fmin(r.low, t[k].value[i]);
            r.high = fmax(r.high, t[k].value[i]);
        }
    if (!isfinite(r.low))
        return (struct range){0, 1};
    double air = fmax((r.high - r.low) / 10, 0.005);
    return (struct range){r.low - air, r.high + air};
}

static double trend_x(size_t i, size_t n)
{
    return LEFT + (n > 1 ? TREND_W * (double)i / (double)(n - 1) : TREND_W / 2.0);
}

static double trend_y(double v, struct range r)
{
    return TOP + TREND_H * (1 - (v - r.low) / (r.high - r.low));
}

static void trend_axes(struct buf *b, struct range r, const char *from, const char *to)
{
    buf_printf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", LEFT, TOP,
               TREND_W, TREND_H);
    for (int i = 0; i <= 5; i++)
        buf_printf(b,
                   "<path d=\"M%d %dh%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.3f</text>\n",
                   LEFT, TOP + TREND_H - i * TREND_H / 5, TREND_W, LEFT - 6, TOP + TREND_H - i * TREND_H / 5 + 4,
                   r.low + (r.high - r.low) * i / 5);
    buf_printf(b, "<text x=\"%d\" y=\"%d\">%.40s</text><text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.40s</text>\n",
               LEFT, TOP + TREND_H + 18, from, LEFT + TREND_W, TOP + TREND_H + 18, to);
}

/* The last value that there is, or NaN. */
static double last_value(const struct evaluate_trend *t)
{
    for (size_t i = t->n; i > 0; i--)
        if (isfinite(t->value[i - 1]))
            return t->value[i - 1];
    return NAN;
}

/* Where the name of line k stands: beside its end, below the names of the lines that end higher. */
static double label_y(const struct evaluate_trend *t, size_t n, size_t k, struct range r)
{
    enum { LINE = 14 };
    double own = trend_y(last_value(&t[k]), r), y = own;
    size_t above = 0;
    for (size_t i = 0; i < n; i++) {
        double other = trend_y(last_value(&t[i]), r);
        above += other < own || (other == own && i < k);
    }
    for (size_t i = 0; i < n; i++) { /* a line that ends j places higher pushes this one j lines below it */
        double other = trend_y(last_value(&t[i]), r);
        size_t rank = 0;
        for (size_t j = 0; j < n; j++) {
            double third = trend_y(last_value(&t[j]), r);
            rank += third < other || (third == other && j < i);
        }
        if (rank < above)
            y = fmax(y, other + (double)(above - rank) * LINE);
    }
    return y;
}

static void trend_line(struct buf *b, const struct evaluate_trend *t, struct range r, double label, const char *colour)
{
    bool open = false;
    double last = last_value(t);
    buf_printf(b, "<g stroke=\"%s\" fill=\"%s\">", colour, colour);
    for (int pass = 0; pass < 2; pass++) { /* the line with gaps where there is no value, then the points */
        buf_puts(b, pass ? "\"/>" : "<path fill=\"none\" stroke-width=\"2\" d=\"");
        for (size_t i = 0; i < t->n; i++) {
            double x = trend_x(i, t->n), y = trend_y(t->value[i], r);
            if (isfinite(y) && pass == 0)
                buf_printf(b, "%c%.1f %.1f", open ? 'L' : 'M', x, y);
            else if (isfinite(y))
                buf_printf(b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>", x, y);
            open = isfinite(y);
        }
    }
    buf_puts(b, "</g>\n");
    if (isfinite(last))
        buf_printf(b, "<text x=\"%d\" y=\"%.1f\" fill=\"%s\">%s %.4f</text>\n", LEFT + TREND_W + 8, label + 4, colour,
                   t->metric, last);
}

int evaluate_plot_trend(const struct evaluate_trend *t, size_t n, const char *from, const char *to, struct buf *out,
                        struct err *e)
{
    static const char *const colours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"};
    struct range r = value_range(t, n);
    begin(out, LEFT + TREND_W + TREND_RIGHT, TOP + TREND_H + 30);
    trend_axes(out, r, from, to);
    for (size_t k = 0; k < n; k++)
        trend_line(out, &t[k], r, label_y(t, n, k, r), colours[k % (sizeof(colours) / sizeof(colours[0]))]);
    return end(out, e);
}
