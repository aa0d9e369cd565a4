/*
 * Region similarity J and boundary F as davis2017-evaluation, and the statistics of a sequence.
 *
 * A pixel is a boundary where the mask differs from its east, south or south-east neighbour (the last row compares east
 * only, the last column south only). A boundary pixel matches when a pixel of the other boundary lies in a disk
 * x^2 + y^2 <= r^2 around it. In place of dilating by the disk: the vertical distance to the other boundary, found in
 * two sweeps, is compared with the disk's half height in the 2r + 1 columns around each boundary pixel.
 */
#include "core/metric/internal.h"

#include <math.h>
#include <string.h>

enum { REACH_MAX = 65535 };

METRIC_WIDE
static void edge_row(const uint8_t *m, const uint8_t *south, int w, uint8_t *out)
{
    for (int x = 0; x + 1 < w; x++)
        out[x] = (uint8_t)((m[x] ^ m[x + 1]) | (m[x] ^ south[x]) | (m[x] ^ south[x + 1]));
}

/* Of the w x h pixels at m, whose lines are `stride` apart. */
static void edges(const uint8_t *m, int stride, int w, int h, uint8_t *out)
{
    for (int y = 0; y + 1 < h; y++, m += stride, out += w) {
        edge_row(m, m + stride, w, out);
        out[w - 1] = m[w - 1] ^ m[stride + w - 1];
    }
    for (int x = 0; x + 1 < w; x++)
        out[x] = m[x] ^ m[x + 1];
    out[w - 1] = 0;
}

METRIC_WIDE
static void reach_row(const uint8_t *edge, const uint16_t *prev, int w, uint16_t *out)
{
    for (int x = 0; x < w; x++) {
        uint16_t next = prev[x] == REACH_MAX ? REACH_MAX : (uint16_t)(prev[x] + 1);
        out[x] = edge[x] ? 0 : next;
    }
}

METRIC_WIDE
static void reach_back(const uint16_t *prev, int w, uint16_t *out)
{
    for (int x = 0; x < w; x++) {
        uint16_t next = prev[x] == REACH_MAX ? REACH_MAX : (uint16_t)(prev[x] + 1);
        out[x] = out[x] < next ? out[x] : next;
    }
}

/* Vertical distance to the nearest boundary pixel of the column, REACH_MAX where there is none in reach. */
static void vertical_reach(const uint8_t *edge, int w, int h, uint16_t *out)
{
    for (int x = 0; x < w; x++)
        out[x] = edge[x] ? 0 : REACH_MAX;
    for (int y = 1; y < h; y++) {
        size_t at = (size_t)y * (size_t)w;
        reach_row(edge + at, out + at - w, w, out + at);
    }
    for (int y = h - 2; y >= 0; y--) {
        size_t at = (size_t)y * (size_t)w;
        reach_back(out + at + w, w, out + at);
    }
}

/* Whether column distances `reach` of one row have a boundary pixel within the disk around column x. */
static bool in_disk(const uint16_t *reach, int w, int x, int r)
{
    if (reach[x] <= r)
        return true;
    for (int d = 1; d <= r; d++) {
        int64_t room = (int64_t)r * r - (int64_t)d * d;
        int64_t left = x - d >= 0 ? reach[x - d] : REACH_MAX, right = x + d < w ? reach[x + d] : REACH_MAX;
        int64_t best = left < right ? left : right;
        if (best != REACH_MAX && best * best <= room)
            return true;
    }
    return false;
}

/* Boundary pixels of `edge`, and how many of them have one of the other boundary within r. */
static void match(const uint8_t *edge, const uint16_t *reach, int w, int h, int r, int64_t *total, int64_t *matched)
{
    *total = *matched = 0;
    for (int y = 0; y < h; y++, edge += w, reach += w)
        for (const uint8_t *at = edge; (at = memchr(at, 1, (size_t)(edge + w - at))); at++) {
            ++*total;
            *matched += in_disk(reach, w, (int)(at - edge), r);
        }
}

static int lower(int a, int b)
{
    return a < b ? a : b;
}

static int higher(int a, int b)
{
    return a > b ? a : b;
}

/* Both foregrounds and a pixel around them, as far as the image goes: outside there is no boundary, and on its last line
 * and column, all zero unless they are the image's, the rules of the image's last ones find none. */
static struct box window(const struct view *v)
{
    struct box a = v->box, b = v->bin_box;
    if (a.y1 < a.y0)
        a = b;
    if (b.y1 < b.y0)
        b = a;
    return (struct box){higher(lower(a.x0, b.x0) - 1, 0), lower(higher(a.x1, b.x1) + 1, v->w - 1),
                        higher(lower(a.y0, b.y0) - 1, 0), lower(higher(a.y1, b.y1) + 1, v->h - 1)};
}

static double boundary_f(struct metric_scratch *s, const struct view *v, double tolerance)
{
    double pixels = tolerance >= 1 ? tolerance : ceil(tolerance * sqrt((double)v->w * v->w + (double)v->h * v->h));
    int r = pixels < REACH_MAX - 1 ? (int)pixels : REACH_MAX - 1;
    int64_t n_pred, n_gt, hit_pred, hit_gt;
    struct box b = window(v);
    int w = b.x1 - b.x0 + 1, h = b.y1 - b.y0 + 1;
    size_t at = (size_t)b.y0 * (size_t)v->w + (size_t)b.x0;
    edges(s->bin + at, v->w, w, h, s->edge[0]);
    edges(s->gt + at, v->w, w, h, s->edge[1]);
    vertical_reach(s->edge[1], w, h, s->reach);
    match(s->edge[0], s->reach, w, h, r, &n_pred, &hit_pred);
    vertical_reach(s->edge[0], w, h, s->reach);
    match(s->edge[1], s->reach, w, h, r, &n_gt, &hit_gt);
    if (n_pred == 0 || n_gt == 0)
        return n_pred == n_gt ? 1 : 0;
    double precision = (double)hit_pred / (double)n_pred, recall = (double)hit_gt / (double)n_gt;
    return precision + recall == 0 ? 0 : 2 * precision * recall / (precision + recall);
}

void metric_regions(struct metric_scratch *s, const struct view *v, const struct metric_opts *o,
                    struct metric_frame *out)
{
    int64_t both = 0, any = v->fg;
    for (int l = o->pred_from; l < LEVELS; l++) {
        both += v->count[1][l];
        any += v->count[0][l];
    }
    out->j = any ? (double)both / (double)any : 1;
    out->boundary_f = boundary_f(s, v, o->boundary_tolerance);
}

/* ---- sequences ------------------------------------------------------------------------------------------------------
 */

static double mean_known(const double *v, size_t first, size_t last)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = first; i <= last; i++) {
        if (isnan(v[i]))
            continue;
        sum += v[i];
        n++;
    }
    return sum / (double)n; /* NaN when nothing is known */
}

struct metric_stats metric_stats(const double *v, size_t n)
{
    if (n == 0)
        return (struct metric_stats){NAN, NAN, NAN};
    size_t over = 0, bin[5];
    for (size_t i = 0; i < n; i++)
        over += v[i] > 0.5;
    for (size_t i = 0; i < 5; i++) /* ends of four bins, 1-based positions rounded half to even, as numpy.linspace */
        bin[i] = (size_t)rint((i == 4 ? (double)n : 1 + (double)i * ((double)(n - 1) / 4)) + 1e-10) - 1;
    return (struct metric_stats){.mean = mean_known(v, 0, n - 1),
                                 .recall = (double)over / (double)n,
                                 .decay = mean_known(v, bin[0], bin[1]) - mean_known(v, bin[3], bin[4])};
}
