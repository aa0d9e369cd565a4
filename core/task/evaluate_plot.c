/* The precision-recall curve and the F and E curves as one SVG, self-contained and small. */
#include "core/task/evaluate_internal.h"

#include <math.h>

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

int evaluation_svg(const struct evaluation *ev, struct buf *out, struct err *e)
{
    const double(*c)[METRIC_THRESHOLDS] = ev->overall.curve;
    int right = LEFT + SIDE + GAP;
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" "
               "font-size=\"12\">\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
               WIDTH, HEIGHT, WIDTH, HEIGHT);
    axes(out, LEFT, "Precision and recall", "recall", "precision", 1);
    line(out, LEFT, c[CURVE_RECALL], c[CURVE_PRECISION], "#1f77b4");
    axes(out, right, "F and E by threshold", "threshold", "value", 255);
    line(out, right, NULL, c[CURVE_F], "#d62728");
    line(out, right, NULL, c[CURVE_E], "#2ca02c");
    buf_printf(out,
               "<text x=\"%d\" y=\"%d\" fill=\"#d62728\">F, max %.4f</text>"
               "<text x=\"%d\" y=\"%d\" fill=\"#2ca02c\">E, max %.4f</text>\n</svg>\n",
               right + 10, TOP + SIDE - 28, ev->overall.value[METRIC_MAX_F], right + 10, TOP + SIDE - 12,
               ev->overall.value[METRIC_MAX_E]);
    return out->failed ? err_set(e, ERR_NOMEM, "no memory for the plot") : 0;
}
