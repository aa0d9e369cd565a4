/*
 * Temporal stability: tracing the longest contour, shape contexts, matching. See metric.h for the definition.
 *
 * Contours run along pixel edges with the foreground on their right; foreground pixels that touch at a corner are
 * connected. Every upward step has the west edge of a foreground pixel on its right, and each such edge belongs to
 * exactly one contour, so marking them makes the search linear in pixels plus edges.
 */
#include "core/metric/internal.h"

#include <math.h>
#include <string.h>

enum { MARK = 2, POINTS = METRIC_CONTOUR_POINTS, ANGLES = 12, RADII = 5, BINS = ANGLES * RADII, LANES = 8 };

/* ---- tracing --------------------------------------------------------------------------------------------------------
 */

struct walk {
    uint8_t *bin;
    int w, h;
    int x, y, dx, dy; /* lattice point and heading */
};

static uint8_t *pixel(const struct walk *k, int x, int y)
{
    return x < 0 || y < 0 || x >= k->w || y >= k->h ? NULL : k->bin + (size_t)y * (size_t)k->w + (size_t)x;
}

static bool filled(const struct walk *k, int x, int y)
{
    const uint8_t *p = pixel(k, x, y);
    return p && *p;
}

/* One edge further, then turns to the next heading. The pixels ahead of lattice point (x,y), by heading:
 * left ahead is (x + (dx+dy-1)/2, y + (dy-dx-1)/2), right ahead (x + (dx-dy-1)/2, y + (dy+dx-1)/2). */
static void step(struct walk *k)
{
    if (k->dy < 0)
        *pixel(k, k->x, k->y - 1) |= MARK;
    k->x += k->dx;
    k->y += k->dy;
    int dx = k->dx, dy = k->dy;
    if (filled(k, k->x + (dx + dy - 1) / 2, k->y + (dy - dx - 1) / 2)) {
        k->dx = dy; /* left */
        k->dy = -dx;
    } else if (!filled(k, k->x + (dx - dy - 1) / 2, k->y + (dy + dx - 1) / 2)) {
        k->dx = -dy; /* right */
        k->dy = dx;
    }
}

static struct walk walk_from(uint8_t *bin, int w, int h, int px, int py)
{
    return (struct walk){.bin = bin, .w = w, .h = h, .x = px, .y = py + 1, .dx = 0, .dy = -1};
}

static int64_t trace(struct walk k)
{
    int sx = k.x, sy = k.y;
    int64_t n = 0;
    do {
        step(&k);
        n++;
    } while (k.x != sx || k.y != sy || k.dx != 0 || k.dy != -1);
    return n;
}

/* Points at equal distances along the contour's edges. */
static void sample(struct walk k, int64_t length, struct metric_contour *out)
{
    int64_t at = 0;
    for (int i = 0; i < POINTS; i++) {
        int64_t num = length * i;
        for (; at < num / POINTS; at++)
            step(&k);
        float part = (float)(num % POINTS) / POINTS;
        out->xy[i][0] = (float)k.x + part * (float)k.dx;
        out->xy[i][1] = (float)k.y + part * (float)k.dy;
    }
    out->n = POINTS;
}

/* First foreground pixel in [x,w), or w. */
static int next_filled(const uint8_t *row, int x, int w)
{
    uint64_t eight;
    for (; x + 8 <= w; x += 8) {
        memcpy(&eight, row + x, sizeof(eight));
        if (eight)
            break;
    }
    while (x < w && !row[x])
        x++;
    return x;
}

void metric_contour(uint8_t *bin, const struct view *v, struct metric_contour *out)
{
    int64_t longest = 0;
    struct walk best = {0};
    int w = v->w, h = v->h;
    out->n = 0;
    for (int y = v->bin_box.y0; y <= v->bin_box.y1; y++) {
        const uint8_t *row = bin + (size_t)y * (size_t)w;
        for (int x = next_filled(row, 0, w); x < w; x = next_filled(row, x, w)) { /* each run's first pixel */
            if (!(row[x] & MARK)) {
                struct walk k = walk_from(bin, w, h, x, y);
                int64_t n = trace(k);
                if (n > longest) {
                    longest = n;
                    best = k;
                }
            }
            const uint8_t *end = memchr(row + x, 0, (size_t)(w - x));
            x = end ? (int)(end - row) : w;
        }
    }
    if (longest)
        sample(best, longest, out);
}

/* ---- shape contexts
 * -------------------------------------------------------------------------------------------------- */

/* Which twelfth of the circle the direction (dx,dy) lies in, its lower end included; (0,0) counts as angle 0. */
static int sector(float dx, float dy)
{
    const float tan30 = 0.57735027f, tan60 = 1.7320508f;
    int quarter = 0;
    while (!(dx > 0 && dy >= 0) && !(dx == 0 && dy == 0)) { /* turn by -90 degrees into [0,90) */
        float t = dx;
        dx = dy;
        dy = -t;
        quarter++;
    }
    int third = dy < dx * tan30 || (dx == 0 && dy == 0) ? 0 : dy < dx * tan60 ? 1 : 2;
    return (quarter * 3 + third) % ANGLES;
}

/* Ring of distance d / mean: edges 1/8, 1/4, 1/2, 1, 2; -1 outside. */
static int ring(float r)
{
    if (r >= 2)
        return -1;
    return r < 0.125f ? 4 : r < 0.25f ? 3 : r < 0.5f ? 2 : r < 1 ? 1 : 0;
}

void metric_shape(const struct metric_contour *c, struct metric_shape *out)
{
    memset(out, 0, sizeof(*out));
    if (c->n == 0)
        return;
    float dist[POINTS][POINTS];
    double sum = 0;
    for (int i = 0; i < POINTS; i++)
        for (int j = 0; j < POINTS; j++) {
            float dx = c->xy[j][0] - c->xy[i][0], dy = c->xy[j][1] - c->xy[i][1];
            dist[i][j] = sqrtf(dx * dx + dy * dy);
            sum += (double)dist[i][j];
        }
    float scale = (float)(POINTS * POINTS / sum); /* a contour has at least four corners, so sum > 0 */
    for (int i = 0; i < POINTS; i++) {
        float n = 0;
        for (int j = 0; j < POINTS; j++) {
            int k = ring(dist[i][j] * scale);
            if (k < 0)
                continue;
            out->bin[i][k * ANGLES + sector(c->xy[j][0] - c->xy[i][0], c->xy[j][1] - c->xy[i][1])] += 1;
            n++;
        }
        for (int b = 0; b < BINS; b++)
            out->bin[i][b] /= n; /* the point itself is in the innermost ring */
    }
    out->n = POINTS;
}

/* ---- matching
 * -------------------------------------------------------------------------------------------------------- */

static inline float chi_square(const float *a, const float *b)
{
    float part[LANES] = {0};
    for (int i = 0; i < BINS; i += LANES) /* the last lanes are padding, zero on both sides */
        for (int k = 0; k < LANES; k++) {
            float d = a[i + k] - b[i + k], s = a[i + k] + b[i + k];
            part[k] += d * d / (s + 2.2204e-16f);
        }
    return 0.5f * (((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7])));
}

METRIC_WIDE
static void all_costs(const struct metric_shape *a, const struct metric_shape *b, float (*cost)[POINTS])
{
    for (int i = 0; i < POINTS; i++)
        for (int j = 0; j < POINTS; j++)
            cost[i][j] = chi_square(a->bin[i], b->bin[j]);
}

struct pair {
    int a, b;
};

/* Cheapest monotone path through the costs, from (oa,ob) once around both contours; returns its length. */
static int warp(float (*cost)[POINTS], int oa, int ob, struct pair path[2 * POINTS])
{
    float best[POINTS][POINTS];
    uint8_t from[POINTS][POINTS];
    for (int i = 0; i < POINTS; i++)
        for (int j = 0; j < POINTS; j++) {
            float here = cost[(i + oa) % POINTS][(j + ob) % POINTS], prev = i || j ? INFINITY : 0;
            int way = 0;
            if (i && j && best[i - 1][j - 1] < prev)
                prev = best[i - 1][j - 1], way = 3;
            if (i && best[i - 1][j] < prev)
                prev = best[i - 1][j], way = 1;
            if (j && best[i][j - 1] < prev)
                prev = best[i][j - 1], way = 2;
            best[i][j] = prev + here;
            from[i][j] = (uint8_t)way;
        }
    int n = 0, i = POINTS - 1, j = POINTS - 1;
    for (;;) {
        path[n++] = (struct pair){(i + oa) % POINTS, (j + ob) % POINTS};
        int way = from[i][j];
        if (way == 0)
            return n;
        i -= way & 1;
        j -= way >> 1;
    }
}

/* Of the pairs that share a point of one side, only the cheapest stays; first by the points of a, then of b. */
static int one_to_one(float (*cost)[POINTS], struct pair *path, int n)
{
    for (int side = 0; side < 2; side++) {
        int keep[POINTS];
        memset(keep, -1, sizeof(keep));
        for (int i = 0; i < n; i++) {
            int *k = &keep[side ? path[i].b : path[i].a];
            if (*k < 0 || cost[path[i].a][path[i].b] < cost[path[*k].a][path[*k].b])
                *k = i;
        }
        int m = 0;
        for (int i = 0; i < n; i++)
            if (keep[side ? path[i].b : path[i].a] == i)
                path[m++] =
                    path[i]; /* m <= i: what is read later is not yet overwritten, but keep[] holds old places */
        n = m;
    }
    return n;
}

double metric_shape_cost(const struct metric_shape *a, const struct metric_shape *b)
{
    if (a->n == 0 || b->n == 0)
        return NAN;
    float cost[POINTS][POINTS];
    all_costs(a, b, cost);
    struct pair path[2 * POINTS];
    int n = warp(cost, 0, 0, path), low = 0;
    for (int i = 1; i < n; i++)
        if (cost[path[i].a][path[i].b] < cost[path[low].a][path[low].b])
            low = i;
    n = one_to_one(cost, path, warp(cost, path[low].a, path[low].b, path));
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)cost[path[i].a][path[i].b];
    return sum / n;
}
