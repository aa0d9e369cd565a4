/*
 * One frame: masks, bounding box, centroid and histograms in two passes, then each metric from what it needs.
 * Invariants: s->gt and s->bin are packed w*h planes of 0 and 1 when a metric starts.
 */
#include "core/metric/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/kernel/hist.h"

const struct metric_opts metric_opts_default = {
    .gt_above = 128, .pred_from = 128, .minmax = true, .cut = METRIC_CUT_U8, .boundary_tolerance = 0.008};

enum { LOWER, HIGHER };
static const struct {
    const char *name, *what;
    int better;
} names[METRIC_COUNT] = {
#define METRIC(id, name, better, what) [METRIC_##id] = {#name, what, better},
#include "core/metric/metric.def"
#undef METRIC
};

const char *metric_name(enum metric_id id)
{
    return names[id].name;
}

const char *metric_what(enum metric_id id)
{
    return names[id].what;
}

bool metric_lower_is_better(enum metric_id id)
{
    return names[id].better == LOWER;
}

int metric_find(const char *name, size_t len)
{
    for (int i = 0; i < METRIC_COUNT; i++)
        if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0)
            return i;
    return -1;
}

enum { PIECES_MAX = 24 };

/* ---- working memory ------------------------------------------------------------------------------------------------
 */

struct metric_scratch *metric_scratch_new(void)
{
    return calloc(1, sizeof(struct metric_scratch));
}

/* Every piece of the working memory with its size: the one list that allocation and release share. */
struct piece {
    void *at; /* the pointer's place; accessed by memcpy, for its type varies */
    size_t bytes;
};

static size_t pieces(struct metric_scratch *s, size_t n, size_t lines, struct piece out[PIECES_MAX])
{
    const struct piece planes[] = {
        {&s->pred, n},
        {&s->gt, n},
        {&s->bin, n},
        {&s->edge[0], n},
        {&s->edge[1], n},
        {&s->reach, n * sizeof(*s->reach)},
        {&s->above, n * sizeof(*s->above)},
        {&s->blur, n * sizeof(*s->blur)},
        {&s->covered, lines},
        {&s->near, lines * sizeof(*s->near)},
        {&s->line_f, lines * sizeof(double)},
        {&s->acc, lines * sizeof(double)},
    };
    size_t k = sizeof(planes) / sizeof(planes[0]);
    memcpy(out, planes, sizeof(planes));
    for (size_t i = 0; i < sizeof(s->line) / sizeof(s->line[0]); i++)
        out[k++] = (struct piece){&s->line[i], lines * sizeof(int32_t)};
    for (size_t i = 0; i < sizeof(s->line_d) / sizeof(s->line_d[0]); i++)
        out[k++] = (struct piece){&s->line_d[i], lines * sizeof(double)};
    BUG_ON(k > PIECES_MAX);
    return k;
}

static void scratch_clear(struct metric_scratch *s)
{
    struct piece all[PIECES_MAX];
    for (size_t i = 0, k = pieces(s, 0, 0, all); i < k; i++) {
        void *p;
        memcpy(&p, all[i].at, sizeof(p));
        free(p);
    }
    memset(s, 0, sizeof(*s));
}

void metric_scratch_free(struct metric_scratch *s)
{
    if (!s)
        return;
    scratch_clear(s);
    free(s);
}

/* Room for w * h pixels; lines have a margin. */
static int scratch_fit(struct metric_scratch *s, int w, int h, struct err *e)
{
    size_t n = (size_t)w * (size_t)h, lines = (size_t)w + 16;
    if (n <= s->cap && lines <= s->line_cap)
        return 0;
    scratch_clear(s);
    struct piece all[PIECES_MAX];
    size_t k = pieces(s, n, lines, all);
    for (size_t i = 0; i < k; i++) {
        void *p = calloc(1, all[i].bytes);
        memcpy(all[i].at, &p, sizeof(p));
        if (!p) {
            scratch_clear(s);
            return err_set(e, ERR_NOMEM, "no memory to measure a frame of %d x %d", w, h);
        }
    }
    s->cap = n;
    s->line_cap = lines;
    return 0;
}

/* ---- passes --------------------------------------------------------------------------------------------------------
 */

METRIC_WIDE
static void binarise(const uint8_t *in, int w, int from, uint8_t *out, int *lo, int *hi)
{
    uint8_t mn = 255, mx = 0;
    for (int x = 0; x < w; x++) {
        out[x] = in[x] >= from;
        mn = in[x] < mn ? in[x] : mn;
        mx = in[x] > mx ? in[x] : mx;
    }
    *lo = mn;
    *hi = mx;
}

/* Foreground pixels of a row and the sum of their columns, in pieces whose sums fit 32 bits. */
METRIC_WIDE
static void row_moments(const uint8_t *g, int w, int *count, int64_t *sum_x)
{
    enum { PIECE = 32768 };
    *count = 0;
    *sum_x = 0;
    for (int x0 = 0; x0 < w; x0 += PIECE) {
        int n = w - x0 < PIECE ? w - x0 : PIECE;
        uint32_t c = 0, sum = 0;
        for (int x = 0; x < n; x++) {
            c += g[x0 + x];
            sum += (uint32_t)x & -(uint32_t)g[x0 + x];
        }
        *count += (int)c;
        *sum_x += (int64_t)sum + (int64_t)x0 * c;
    }
}

/* Takes row y of a mask into its box; false when it has no foreground. */
static bool extend_box(struct box *b, const uint8_t *row, int w, int y)
{
    const uint8_t *first = memchr(row, 1, (size_t)w);
    if (!first)
        return false;
    const uint8_t *last = memrchr(row, 1, (size_t)w);
    int x0 = (int)(first - row), x1 = (int)(last - row);
    bool empty = b->y1 < b->y0;
    b->x0 = empty || x0 < b->x0 ? x0 : b->x0;
    b->x1 = empty || x1 > b->x1 ? x1 : b->x1;
    b->y0 = empty ? y : b->y0;
    b->y1 = y;
    return true;
}

static void add_row(struct view *v, const uint8_t *g, int y)
{
    int count;
    int64_t sum_x;
    if (!extend_box(&v->box, g, v->w, y))
        return;
    row_moments(g, v->w, &count, &sum_x);
    v->fg += count;
    v->sum_x += sum_x;
    v->sum_y += (int64_t)count * y;
}

/* Masks, extremes, moments. */
static void pass_masks(struct metric_scratch *s, const struct metric_image *gt, const struct metric_opts *o,
                       struct view *v, struct metric_frame *out)
{
    v->pred_min = 255;
    v->box = v->bin_box = (struct box){.y1 = -1};
    for (int y = 0; y < v->h; y++) {
        int lo, hi;
        uint8_t *g = s->gt + (size_t)y * (size_t)v->w;
        binarise(gt->data + (ptrdiff_t)y * gt->stride_bytes, v->w, o->gt_above + 1, g, &lo, &hi);
        out->gt_max = hi > out->gt_max ? hi : out->gt_max;
        add_row(v, g, y);
        uint8_t *b = s->bin + (size_t)y * (size_t)v->w;
        binarise(v->pred + (size_t)y * (size_t)v->w, v->w, o->pred_from, b, &lo, &hi);
        extend_box(&v->bin_box, b, v->w, y);
        v->pred_min = lo < v->pred_min ? lo : v->pred_min;
        v->pred_max = hi > v->pred_max ? hi : v->pred_max;
    }
}

/* The quadrants meet behind the centroid: the 0-based mean, halves to even, is the last column of the left ones. */
static void split_quadrants(struct view *v)
{
    v->cx = v->fg ? (int)rint((double)v->sum_x / (double)v->fg) + 1 : v->w;
    v->cy = v->fg ? (int)rint((double)v->sum_y / (double)v->fg) + 1 : v->h;
}

/* Four tables in turn, so that runs of one level do not wait for their own counter. */
static void count_run(const uint8_t *p, const uint8_t *g, int n, uint32_t (*table)[2 * LEVELS])
{
    int x = 0;
    for (; x + 4 <= n; x += 4) {
        table[0][hist_bin(p[x], g[x])]++;
        table[1][hist_bin(p[x + 1], g[x + 1])]++;
        table[2][hist_bin(p[x + 2], g[x + 2])]++;
        table[3][hist_bin(p[x + 3], g[x + 3])]++;
    }
    for (; x < n; x++)
        table[0][hist_bin(p[x], g[x])]++;
}

static void pass_histograms(struct view *v)
{
    for (int half = 0; half < 2; half++) {
        uint32_t table[2][4][2 * LEVELS];
        memset(table, 0, sizeof(table));
        int y0 = half ? v->cy : 0, y1 = half ? v->h : v->cy;
        for (int y = y0; y < y1; y++) {
            const uint8_t *p = v->pred + (size_t)y * (size_t)v->w, *g = v->gt + (size_t)y * (size_t)v->w;
            count_run(p, g, v->cx, table[0]);
            count_run(p + v->cx, g + v->cx, v->w - v->cx, table[1]);
        }
        for (int side = 0; side < 2; side++)
            for (int i = 0; i < 2 * LEVELS; i++)
                v->hist[2 * half + side][i >> 8][i & 255] =
                    table[side][0][i] + table[side][1][i] + table[side][2][i] + table[side][3][i];
    }
    for (int g = 0; g < 2; g++)
        for (int l = 0; l < LEVELS; l++)
            for (int q = 0; q < QUADRANTS; q++)
                v->count[g][l] += v->hist[q][g][l];
}

/* x / 255 and the stretch exactly as written: multiplying by reciprocals would move values across thresholds. */
static void normalise(struct view *v, bool minmax)
{
    double mn = v->pred_min / 255.0, mx = v->pred_max / 255.0;
    for (int l = 0; l < LEVELS; l++) {
        v->p[l] = l / 255.0;
        if (minmax && v->pred_max != v->pred_min)
            v->p[l] = (v->p[l] - mn) / (mx - mn);
    }
}

static const uint8_t *packed(struct metric_scratch *s, const struct metric_image *in)
{
    if (in->stride_bytes == in->width_px)
        return in->data;
    size_t w = (size_t)in->width_px;
    for (int y = 0; y < in->height_px; y++)
        memcpy(s->pred + (size_t)y * w, in->data + (ptrdiff_t)y * in->stride_bytes, w);
    return s->pred;
}

int metric_frame(struct metric_scratch *s, const struct metric_image *pred, const struct metric_image *gt,
                 const struct metric_opts *o, struct metric_frame *out, struct err *e)
{
    if (pred->width_px != gt->width_px || pred->height_px != gt->height_px)
        return err_set(e, ERR_INVALID, "the prediction is %d x %d, the ground truth %d x %d", pred->width_px,
                       pred->height_px, gt->width_px, gt->height_px);
    if (gt->width_px < 1 || gt->height_px < 1)
        return err_set(e, ERR_INVALID, "an image without pixels");
    int rc = scratch_fit(s, gt->width_px, gt->height_px, e);
    if (rc)
        return rc;
    memset(out, 0, sizeof(*out));
    struct view v = {.w = gt->width_px,
                     .h = gt->height_px,
                     .n = (int64_t)gt->width_px * gt->height_px,
                     .pred = packed(s, pred),
                     .gt = s->gt};
    pass_masks(s, gt, o, &v, out);
    split_quadrants(&v);
    pass_histograms(&v);
    normalise(&v, o->minmax);
    out->pred_max = v.pred_max;
    out->gt_pixels = v.fg;
    metric_saliency(&v, o, out);
    out->weighted_f = metric_weighted_f(s, &v);
    metric_regions(s, &v, o, out);
    metric_contour(s->bin, &v, &out->contour);
    return 0;
}
