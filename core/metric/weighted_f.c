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
 * its square, an integer, so B is a table; past d = 254 it is 2 but for the last bits. The plane is needed only within three
 * pixels of the foreground, hence only inside the foreground's bounding box grown by three.
 */
#include "core/metric/internal.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { TAPS = 7, MARGIN = TAPS / 2, FAR = 255, NEAR_SQ = 2 * MARGIN * MARGIN };

static double
    importance[FAR * FAR + 1]; /* B by squared distance; the last entry stands for all beyond, the first, 0, for
                                          * the foreground itself, whose error is counted elsewhere */
static double kernel[TAPS];    /* the Gaussian is its outer product with itself */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (int i = 0; i <= FAR * FAR; i++)
        importance[i] = 2 - exp(log(0.5) / 5 * sqrt(i));
    importance[FAR * FAR] = 2;
    importance[0] = 0;
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
    double error[2][LEVELS]; /* by ground truth and level: error of the foreground, 0 for background */
    bool has_zero;           /* the lowest level is an error of 0 to the background */
    double fp;               /* weighted error of the background so far */
};

/* Row of the last foreground pixel seen in each column, on the way down or up. */
METRIC_WIDE
static void carry(const uint8_t *g, const int32_t *prev, int n, int y, int32_t *out)
{
    for (int x = 0; x < n; x++)
        out[x] = g[x] ? y : prev[x];
}

/* Squared vertical distance to the nearest foreground pixel of each column, -1 where the column has none; its row goes to
 * `row`. At equal distance the smaller row. */
METRIC_WIDE
static void column_heights(const int32_t *above, const int32_t *below, int n, int y, int32_t *row, double *sq)
{
    for (int x = 0; x < n; x++) {
        int up = above[x], down = below[x];
        int use_down = (up < 0) | ((down >= 0) & (down - y < y - up));
        int r = use_down ? down : up;
        double d = r - y;
        row[x] = r;
        sq[x] = r < 0 ? -1 : d * d;
    }
}

/* Marks the columns whose parabola cannot be the lowest anywhere: those between two neighbours that are low enough, and
 * the inside of a run of foreground (0, 0, 0). */
METRIC_WIDE
static void mark_covered(const double *sq, int n, uint8_t *covered)
{
    covered[0] = sq[0] < 0;
    covered[n - 1] = sq[n - 1] < 0;
    for (int x = 1; x + 1 < n; x++) {
        double a = sq[x - 1], b = sq[x], c = sq[x + 1];
        int between = (a >= 0) & (c >= 0) & (2 * b - a - c >= 2), inside = (a == 0) & (b == 0) & (c == 0);
        covered[x] = (uint8_t)((b < 0) | between | inside);
    }
}

static int open_columns(const uint8_t *covered, int n, int32_t *out)
{
    int m = 0;
    for (int x = 0; x < n; x++) {
        out[m] = x;
        m += !covered[x];
    }
    return m;
}

/* The lower envelope of a row's parabolas (x - col)^2 + sq. Candidate k is the nearest for begin < x <= its successor's
 * begin: at a tie the smaller column wins. */
struct envelope {
    int n;
    int32_t *col, *row;
    double *sq, *offset, *begin; /* offset: col^2 + sq */
};

/* Two parabolas i < j meet at x = (offset_j - offset_i) / (2 (col_j - col_i)). All terms are integers below 2^53 and the
 * quotients only matter between integers, from which they differ by at least 1 / (2 (col_j - col_i)): rounding cannot
 * change the outcome. */
static void make_envelope(const struct view *v, const int32_t *candidate, int n, const int32_t *row, const double *sq,
                          struct envelope *e)
{
    int top = -1;
    for (int i = 0; i < n; i++) {
        int at = candidate[i], x = v->box.x0 + at;
        double s = sq[at], offset = (double)x * x + s;
        while (top >= 0 && offset - e->offset[top] <= 2 * e->begin[top] * (x - e->col[top]))
            top--;
        double begin = top < 0 ? -INFINITY : (offset - e->offset[top]) / (2.0 * (x - e->col[top]));
        if (begin >= v->w - 1)
            continue;
        top++;
        e->col[top] = x, e->row[top] = row[at];
        e->sq[top] = s, e->offset[top] = offset, e->begin[top] = begin;
    }
    e->n = top + 1;
}

static int first_column(const struct envelope *e, int k)
{
    return e->begin[k] < 0 ? 0 : (int)e->begin[k] + 1;
}

static int64_t nearness(int x, int col, int64_t sq)
{
    return (int64_t)(x - col) * (x - col) + sq;
}

/* Squared distances, at most FAR^2, of columns [a,b), whose nearest foreground is in column c at squared height sq. */
METRIC_WIDE
static void fill_near(int a, int b, int c, int64_t sq, uint16_t *out)
{
    int from = sq >= FAR * FAR ? b : c - FAR, to = sq >= FAR * FAR ? b : c + FAR + 1, x = a,
        height = (int)(sq % (FAR * FAR));
    from = from < a ? a : from < b ? from : b;
    to = to < from ? from : to < b ? to : b;
    for (; x < from; x++)
        out[x] = FAR * FAR;
    for (; x < to; x++) {
        int d = (x - c) * (x - c) + height;
        out[x] = (uint16_t)(d < FAR * FAR ? d : FAR * FAR);
    }
    for (; x < b; x++)
        out[x] = FAR * FAR;
}

METRIC_WIDE
static void clear_foreground(const uint8_t *g, int a, int b, uint16_t *near)
{
    for (int x = a; x < b; x++)
        near[x] = g[x] ? 0 : near[x];
}

/* Weighted error of the background in columns [a,b) of a row. Runs of eight pixels without error cost next to nothing. */
static double weigh(const struct sweep *w, const uint8_t *p, int a, int b)
{
    const double *cost = w->v->p;
    const uint16_t *near = w->s->near;
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    uint64_t eight, zeros = (uint64_t)w->v->pred_min * 0x0101010101010101;
    int x = a;
    for (; x + 8 <= b; x += 8) {
        memcpy(&eight, p + x, sizeof(eight));
        if (w->has_zero && eight == zeros)
            continue;
        for (int k = x; k < x + 8; k += 4) {
            s0 += cost[p[k]] * importance[near[k]];
            s1 += cost[p[k + 1]] * importance[near[k + 1]];
            s2 += cost[p[k + 2]] * importance[near[k + 2]];
            s3 += cost[p[k + 3]] * importance[near[k + 3]];
        }
    }
    for (; x < b; x++)
        s0 += cost[p[x]] * importance[near[x]];
    return (s0 + s1) + (s2 + s3);
}

/* Background pixels of columns [a,b) take the error of foreground pixel (c,r) where the Gaussian may read them. All
 * such pixels are inside the window. */
static void spread(struct sweep *w, const uint8_t *g, int a, int b, int c, int r, int64_t sq)
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
    for (int x = 0; x < n; x++)
        out[x] = kernel[0] * (in[x] + in[x + 6]) + kernel[1] * (in[x + 1] + in[x + 5]) +
                 kernel[2] * (in[x + 2] + in[x + 4]) + kernel[3] * in[x + 3];
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
        for (int x = v->box.x0; x <= v->box.x1; x++)
            line[MARGIN + x - w->x0] = w->error[g[x]][p[x]];
    }
    struct metric_scratch *m = w->s;
    struct envelope env = {
        .col = m->line[2], .row = m->line[3], .sq = m->line_d[1], .offset = m->line_d[2], .begin = m->line_d[3]};
    int first = 0, last = v->w; /* columns that have an error */
    while (first < last && v->p[p[first]] == 0)
        first++;
    while (first < last && v->p[p[last - 1]] == 0)
        last--;
    int span_fg = v->box.x1 - v->box.x0 + 1;
    column_heights(m->above + (size_t)y * (size_t)span_fg, m->line[0], span_fg, y, m->line[1], m->line_d[0]);
    mark_covered(m->line_d[0], span_fg, m->covered);
    make_envelope(v, m->line[4], open_columns(m->covered, span_fg, m->line[4]), m->line[1], m->line_d[0], &env);
    for (int k = 0; k < env.n; k++) {
        int a = first_column(&env, k), b = k + 1 < env.n ? first_column(&env, k + 1) : v->w;
        int64_t sq = (int64_t)env.sq[k];
        if (inside && sq <= NEAR_SQ)
            spread(w, g, a, b, env.col[k], env.row[k], sq);
        fill_near(a > first ? a : first, b < last ? b : last, env.col[k], sq, m->near);
    }
    clear_foreground(g, v->box.x0, v->box.x1 + 1, m->near); /* whose own columns may have been pruned */
    w->fp += weigh(w, p, first, last);
    if (inside)
        blur_line(w->s->line_f, span, w->s->blur + (size_t)(y - w->y0) * (size_t)span);
}

/* Rows upward: the nearest foreground below is carried, that above was stored on the way down. A row whose background
 * is all zero and that lies outside the window has nothing to give. */
static void sweep_up(struct sweep *w)
{
    const struct view *v = w->v;
    int32_t *below = w->s->line[0];
    int n = v->box.x1 - v->box.x0 + 1;
    memset(below, -1, (size_t)n * sizeof(*below));
    for (int y = v->h - 1; y >= 0; y--) {
        const uint8_t *g = v->gt + (size_t)y * (size_t)v->w, *p = v->pred + (size_t)y * (size_t)v->w;
        carry(g + v->box.x0, below, n, y, below);
        bool blank = v->p[p[0]] == 0 && memcmp(p, p + 1, (size_t)v->w - 1) == 0;
        if (!blank || (y >= w->y0 && y < w->y1))
            sweep_row(w, y);
    }
}

METRIC_WIDE
static void blur_column(const double *const in[TAPS], int n, double *out)
{
    for (int x = 0; x < n; x++)
        out[x] = kernel[0] * (in[0][x] + in[6][x]) + kernel[1] * (in[1][x] + in[5][x]) +
                 kernel[2] * (in[2][x] + in[4][x]) + kernel[3] * in[3][x];
}

/* The rows of the window around y; those outside it are zero. */
static void blur_rows(const struct sweep *w, int y, const double *zeros, const double *out[TAPS])
{
    for (int i = 0; i < TAPS; i++) {
        int row = y + i - MARGIN;
        bool inside = row >= w->y0 && row < w->y1;
        out[i] = inside ? w->s->blur + (size_t)(row - w->y0) * (size_t)(w->x1 - w->x0) : zeros;
    }
}

/* Sum over the foreground of the smaller of its error and the mean error around it. */
static double foreground_error(struct sweep *w)
{
    const struct view *v = w->v;
    double sum[4] = {0};
    double *zeros = w->s->line_f;
    memset(zeros, 0, (size_t)(w->x1 - w->x0) * sizeof(*zeros));
    for (int y = v->box.y0; y <= v->box.y1; y++) {
        const uint8_t *g = v->gt + (size_t)y * (size_t)v->w, *p = v->pred + (size_t)y * (size_t)v->w;
        const double *rows[TAPS], *mean = w->s->acc - w->x0;
        blur_rows(w, y, zeros, rows);
        blur_column(rows, w->x1 - w->x0, w->s->acc);
        for (int x = v->box.x0; x <= v->box.x1; x++) {
            double own = w->error[g[x]][p[x]]; /* 0 outside the foreground, and so is the smaller */
            sum[x & 3] += mean[x] < own ? mean[x] : own;
        }
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double metric_weighted_f(struct metric_scratch *s, const struct view *v)
{
    if (v->fg == 0)
        return 0;
    pthread_once(&tables_once, make_tables);
    struct sweep w = {.s = s, .v = v};
    w.x0 = v->box.x0 < MARGIN ? 0 : v->box.x0 - MARGIN;
    w.y0 = v->box.y0 < MARGIN ? 0 : v->box.y0 - MARGIN;
    w.x1 = v->box.x1 + MARGIN + 1 > v->w ? v->w : v->box.x1 + MARGIN + 1;
    w.y1 = v->box.y1 + MARGIN + 1 > v->h ? v->h : v->box.y1 + MARGIN + 1;
    int n = v->box.x1 - v->box.x0 + 1;
    memset(s->line[0], -1, (size_t)n * sizeof(*s->line[0]));
    for (int y = 0; y < v->h; y++) {
        int32_t *above = s->above + (size_t)y * (size_t)n;
        carry(v->gt + (size_t)y * (size_t)v->w + v->box.x0, y ? above - n : s->line[0], n, y, above);
    }
    for (int l = 0; l < LEVELS; l++)
        w.error[1][l] = 1 - v->p[l];
    w.has_zero = v->p[v->pred_min] == 0;
    sweep_up(&w);
    double fg = (double)v->fg, error = foreground_error(&w);
    double tp = fg - error, recall = 1 - error / fg;
    double precision = tp / (tp + w.fp + METRIC_EPS);
    return 2 * recall * precision / (recall + precision + METRIC_EPS);
}
