/*
 * Weighted F-measure (Margolin et al., 2014), in one sweep of the rows.
 *
 * Background errors count more the farther they lie from the foreground: B = 2 - exp(ln(.5)/5 d), d the exact Euclidean
 * distance. Foreground errors are the smaller of their own and a 7x7 Gaussian mean (sigma 5, zeros outside) of a plane
 * in which every background pixel takes the error of its nearest foreground pixel; of equally near ones that with the
 * smallest column, then the smallest row.
 *
 * Nearest foreground pixels come from the two-step transform of Meijster, Roerdink and Hesselink (2000): nearest in the
 * column, then the lower envelope of the row's parabolas, in integers, linear in the pixels. A distance enters only as
 * its square, an integer, so B is a table; past d = 260 it is 2 to the last bit. The plane is needed only within three
 * pixels of the foreground, hence only inside the foreground's bounding box grown by three.
 */
#include "core/metric/internal.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { TAPS = 7, MARGIN = TAPS / 2, FAR = 260, NEAR_SQ = 2 * MARGIN * MARGIN };

static double importance[FAR * FAR + 1]; /* B by squared distance; the last entry stands for all beyond */
static double kernel[TAPS];              /* the Gaussian is its outer product with itself */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (int i = 0; i <= FAR * FAR; i++)
        importance[i] = 2 - exp(log(0.5) / 5 * sqrt(i));
    importance[FAR * FAR] = 2;
    double sum = 0;
    for (int i = 0; i < TAPS; i++)
        sum += kernel[i] = exp(-(i - MARGIN) * (i - MARGIN) / 50.0);
    for (int i = 0; i < TAPS; i++)
        kernel[i] /= sum;
}

/* What the sweep carries. The window [x0,x1) x [y0,y1) is the bounding box grown by the margin, inside the image. */
struct sweep {
    struct metric_scratch *s;
    const struct view *v;
    int x0, x1, y0, y1;
    double cost[2][LEVELS]; /* error of a background pixel by its level; 0 for foreground */
    double fp;              /* weighted error of the background so far */
};

METRIC_WIDE
static void sweep_down(const uint8_t *g, const int32_t *prev, int w, int y, int32_t *above)
{
    for (int x = 0; x < w; x++)
        above[x] = g[x] ? y : prev ? prev[x] : -1;
}

/* Columns whose nearest foreground pixel can be nearest in this row, with its row and squared vertical distance. The
 * inside of a run of foreground can be nearest to no background pixel. */
static int candidates(struct sweep *w, int y)
{
    const struct view *v = w->v;
    const uint8_t *g = v->gt + (size_t)y * (size_t)v->w;
    const int32_t *above = w->s->above + (size_t)y * (size_t)v->w, *below = w->s->line[0];
    int32_t *col = w->s->line[1], *sq = w->s->line[2], *row = w->s->line[4];
    int n = 0;
    for (int x = v->x0; x <= v->x1; x++) {
        if (g[x] && x > v->x0 && x < v->x1 && g[x - 1] && g[x + 1])
            continue;
        int up = above[x], down = below[x];
        if (up < 0 && down < 0)
            continue;
        int r = up < 0 || (down >= 0 && down - y < y - up) ? down : up; /* at equal distance the smaller row */
        col[n] = x;
        row[n] = r;
        sq[n++] = (r - y) * (r - y);
    }
    return n;
}

static int64_t nearness(int x, int col, int sq)
{
    return (int64_t)(x - col) * (x - col) + sq;
}

/* First column where candidate (cj,sj) is nearer than (ci,si), ci < cj: at a tie the smaller column wins. Not negative
 * here. The quotient is exact enough: both terms are integers below 2^53, so it rounds across no integer. */
static int64_t first_nearer(int ci, int si, int cj, int sj)
{
    double num = (double)((int64_t)cj * cj - (int64_t)ci * ci + sj - si);
    return (int64_t)(num / (2.0 * (cj - ci))) + 1;
}

/* Lower envelope: keeps, in place, the candidates that are nearest somewhere in [0,w); start[k] is where the k-th
 * begins. Returns their number. */
static int envelope(struct sweep *w, int n)
{
    int32_t *col = w->s->line[1], *sq = w->s->line[2], *start = w->s->line[3], *row = w->s->line[4];
    int top = -1;
    for (int j = 0; j < n; j++) {
        while (top >= 0 && nearness(start[top], col[j], sq[j]) < nearness(start[top], col[top], sq[top]))
            top--;
        int64_t from = top < 0 ? 0 : first_nearer(col[top], sq[top], col[j], sq[j]);
        if (from >= w->v->w)
            continue;
        top++;
        start[top] = (int32_t)from;
        col[top] = col[j], sq[top] = sq[j], row[top] = row[j];
    }
    return top + 1;
}

/* Weighted error of the background in columns [a,b), whose nearest foreground is in column c at squared height sq. */
static double weigh(const struct sweep *w, const uint8_t *g, const uint8_t *p, int a, int b, int c, int sq)
{
    double even = 0, odd = 0;
    int x = a;
    for (; x + 2 <= b; x += 2) {
        int64_t d0 = nearness(x, c, sq), d1 = nearness(x + 1, c, sq);
        even += w->cost[g[x]][p[x]] * importance[d0 < FAR * FAR ? d0 : FAR * FAR];
        odd += w->cost[g[x + 1]][p[x + 1]] * importance[d1 < FAR * FAR ? d1 : FAR * FAR];
    }
    if (x < b) {
        int64_t d = nearness(x, c, sq);
        even += w->cost[g[x]][p[x]] * importance[d < FAR * FAR ? d : FAR * FAR];
    }
    return even + odd;
}

/* Background pixels of columns [a,b) take the error of foreground pixel (c,r) where the Gaussian may read them. All
 * such pixels are inside the window. */
static void spread(struct sweep *w, const uint8_t *g, int a, int b, int c, int r, int sq)
{
    const struct view *v = w->v;
    double err = 1 - v->p[v->pred[(size_t)r * (size_t)v->w + (size_t)c]];
    a = a > c - MARGIN - 1 ? a : c - MARGIN - 1;
    b = b < c + MARGIN + 2 ? b : c + MARGIN + 2;
    for (int x = a; x < b; x++)
        if (!g[x] && nearness(x, c, sq) <= NEAR_SQ)
            w->s->line_f[MARGIN + x - w->x0] = err;
}

METRIC_WIDE
static void blur_line(const double *in, int n, double *out)
{
    for (int x = 0; x < n; x++) {
        double sum = 0;
        for (int i = 0; i < TAPS; i++)
            sum += kernel[i] * in[x + i];
        out[x] = sum;
    }
}

static void sweep_row(struct sweep *w, int y)
{
    const struct view *v = w->v;
    const uint8_t *g = v->gt + (size_t)y * (size_t)v->w, *p = v->pred + (size_t)y * (size_t)v->w;
    int span = w->x1 - w->x0;
    bool inside = y >= w->y0 && y < w->y1;
    if (inside) {
        double *line = w->s->line_f;
        memset(line, 0, (size_t)(span + 2 * MARGIN) * sizeof(*line));
        for (int x = v->x0; x <= v->x1; x++)
            if (g[x])
                line[MARGIN + x - w->x0] = 1 - v->p[p[x]];
    }
    int n = envelope(w, candidates(w, y)), first = 0, last = v->w; /* columns that have an error */
    while (first < last && w->cost[g[first]][p[first]] == 0)
        first++;
    while (first < last && w->cost[g[last - 1]][p[last - 1]] == 0)
        last--;
    const int32_t *col = w->s->line[1], *sq = w->s->line[2], *start = w->s->line[3], *row = w->s->line[4];
    for (int k = 0; k < n; k++) {
        int a = start[k], b = k + 1 < n ? start[k + 1] : v->w;
        if (inside && sq[k] <= NEAR_SQ)
            spread(w, g, a, b, col[k], row[k], sq[k]);
        w->fp += weigh(w, g, p, a > first ? a : first, b < last ? b : last, col[k], sq[k]);
    }
    if (inside)
        blur_line(w->s->line_f, span, w->s->blur + (size_t)(y - w->y0) * (size_t)span);
}

/* Rows upward: the nearest foreground below is carried, that above was stored on the way down. A row whose background
 * is all zero and that lies outside the window has nothing to give. */
static void sweep_up(struct sweep *w)
{
    const struct view *v = w->v;
    int32_t *below = w->s->line[0];
    for (int x = 0; x < v->w; x++)
        below[x] = -1;
    for (int y = v->h - 1; y >= 0; y--) {
        const uint8_t *g = v->gt + (size_t)y * (size_t)v->w, *p = v->pred + (size_t)y * (size_t)v->w;
        for (int x = v->x0; x <= v->x1; x++)
            below[x] = g[x] ? y : below[x];
        bool blank = v->p[p[0]] == 0 && memcmp(p, p + 1, (size_t)v->w - 1) == 0;
        if (!blank || (y >= w->y0 && y < w->y1))
            sweep_row(w, y);
    }
}

METRIC_WIDE
static void blur_column(const double *plane, int span, int first, int last, int y, double *out)
{
    memset(out, 0, (size_t)span * sizeof(*out));
    for (int i = 0; i < TAPS; i++) {
        int row = y + i - MARGIN;
        if (row < first || row >= last)
            continue;
        const double *in = plane + (size_t)(row - first) * (size_t)span;
        double k = kernel[i];
        for (int x = 0; x < span; x++)
            out[x] += k * in[x];
    }
}

/* Sum over the foreground of the smaller of its error and the mean error around it. */
static double foreground_error(struct sweep *w)
{
    const struct view *v = w->v;
    double sum = 0;
    for (int y = v->y0; y <= v->y1; y++) {
        const uint8_t *g = v->gt + (size_t)y * (size_t)v->w, *p = v->pred + (size_t)y * (size_t)v->w;
        blur_column(w->s->blur, w->x1 - w->x0, w->y0, w->y1, y, w->s->acc);
        const double *mean = w->s->acc - w->x0;
        for (int x = v->x0; x <= v->x1; x++) {
            if (!g[x])
                continue;
            double own = 1 - v->p[p[x]];
            sum += mean[x] < own ? mean[x] : own;
        }
    }
    return sum;
}

double metric_weighted_f(struct metric_scratch *s, const struct view *v)
{
    if (v->fg == 0)
        return 0;
    pthread_once(&tables_once, make_tables);
    struct sweep w = {.s = s, .v = v};
    w.x0 = v->x0 < MARGIN ? 0 : v->x0 - MARGIN;
    w.y0 = v->y0 < MARGIN ? 0 : v->y0 - MARGIN;
    w.x1 = v->x1 + MARGIN + 1 > v->w ? v->w : v->x1 + MARGIN + 1;
    w.y1 = v->y1 + MARGIN + 1 > v->h ? v->h : v->y1 + MARGIN + 1;
    for (int y = 0; y < v->h; y++) {
        size_t at = (size_t)y * (size_t)v->w;
        sweep_down(v->gt + at, y ? s->above + at - v->w : NULL, v->w, y, s->above + at);
    }
    memcpy(w.cost[0], v->p, sizeof(w.cost[0]));
    sweep_up(&w);
    double fg = (double)v->fg, error = foreground_error(&w);
    double tp = fg - error, recall = 1 - error / fg;
    double precision = tp / (tp + w.fp + METRIC_EPS);
    return 2 * recall * precision / (recall + precision + METRIC_EPS);
}
