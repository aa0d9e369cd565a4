/*
 * Masks as run lengths. COCO (maskApi.c of cocoapi): columns first, runs of 0 and 1 in turn, each run from the third on
 * as its difference to the one two before, in groups of 5 bits with a continuation bit, offset by 48. CVAT: rows first,
 * inside the object's bounding box, in decimal.
 */
#include "core/task/exchange_impl.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *at(const struct frame *f, int x, int y)
{
    return f->data + (ptrdiff_t)y * f->stride_bytes + x;
}

struct rle_box rle_bounds(const struct frame *labels, int label)
{
    struct rle_box b = {labels->width_px, labels->height_px, -1, -1, 0};
    for (int y = 0; y < labels->height_px; y++)
        for (int x = 0; x < labels->width_px; x++)
            if (*at(labels, x, y) == label) {
                b.x0 = x < b.x0 ? x : b.x0;
                b.x1 = x > b.x1 ? x : b.x1;
                b.y0 = y < b.y0 ? y : b.y0;
                b.y1 = y;
                b.area++;
            }
    return b;
}

/* ---- COCO ------------------------------------------------------------------------------------------------------- */

static void put_packed(struct buf *out, int64_t v)
{
    bool more = true;
    while (more) {
        int c = (int)(v & 0x1f);
        v >>= 5;
        more = (c & 0x10) ? v != -1 : v != 0;
        buf_putc(out, (char)((more ? c | 0x20 : c) + 48));
    }
}

struct packer {
    struct buf *out;
    int64_t before[2]; /* the runs one and two before */
    int64_t n;
};

static void put_run(struct packer *p, int64_t run)
{
    put_packed(p->out, p->n > 2 ? run - p->before[1] : run);
    p->before[1] = p->before[0];
    p->before[0] = run;
    p->n++;
}

void rle_coco_encode(const struct frame *labels, int label, struct buf *out)
{
    struct packer p = {.out = out};
    int64_t run = 0;
    bool inside = false;
    for (int x = 0; x < labels->width_px; x++)
        for (int y = 0; y < labels->height_px; y++) {
            if ((*at(labels, x, y) == label) != inside) {
                put_run(&p, run);
                run = 0;
                inside = !inside;
            }
            run++;
        }
    put_run(&p, run);
}

/* Paints runs of background and object in turn, columns first. */
struct painter {
    struct frame *labels;
    int label;
    int64_t pos;
    bool inside;
};

static int paint_run(struct painter *p, int64_t run, struct err *e)
{
    int64_t h = p->labels->height_px, end = p->pos + run, all = h * p->labels->width_px;
    if (run < 0 || run > all || end > all)
        return err_set(e, ERR_CORRUPT, "the runs of a mask do not fit its %d x %d pixels", p->labels->width_px,
                       p->labels->height_px);
    for (; p->pos < end; p->pos++)
        if (p->inside)
            *at(p->labels, (int)(p->pos / h), (int)(p->pos % h)) = (uint8_t)p->label;
    p->inside = !p->inside;
    return 0;
}

static int paint_end(const struct painter *p, struct err *e)
{
    return p->pos == (int64_t)p->labels->width_px * p->labels->height_px
               ? 0
               : err_set(e, ERR_CORRUPT, "the runs of a mask end before its %d x %d pixels do", p->labels->width_px,
                         p->labels->height_px);
}

/* One number; false when the text is none. */
static bool take_packed(const char **s, int64_t *out)
{
    int64_t v = 0;
    for (int shift = 0; shift < 40; shift += 5) {
        int c = (unsigned char)**s - 48;
        if (c < 0 || c > 63)
            return false;
        ++*s;
        v |= (int64_t)(c & 0x1f) << shift;
        if (!(c & 0x20)) {
            *out = c & 0x10 ? v - ((int64_t)1 << (shift + 5)) : v;
            return true;
        }
    }
    return false;
}

int rle_coco_decode(const char *counts, struct frame *labels, int label, struct err *e)
{
    struct painter p = {.labels = labels, .label = label};
    int64_t before[2] = {0, 0};
    int rc = 0;
    for (int64_t n = 0; *counts && rc == 0; n++) {
        int64_t run;
        if (!take_packed(&counts, &run))
            return err_set(e, ERR_CORRUPT, "the counts of a mask are damaged");
        run += n > 2 ? before[1] : 0;
        rc = paint_run(&p, run, e);
        before[1] = before[0];
        before[0] = run;
    }
    return rc ? rc : paint_end(&p, e);
}

int rle_counts_paint(const json_t *counts, struct frame *labels, int label, struct err *e)
{
    struct painter p = {.labels = labels, .label = label};
    int rc = 0;
    for (size_t i = 0; i < json_array_size(counts) && rc == 0; i++) {
        const json_t *v = json_array_get(counts, i);
        rc = json_is_integer(v) ? paint_run(&p, json_integer_value(v), e)
                                : err_set(e, ERR_CORRUPT, "the counts of a mask are not whole numbers");
    }
    return rc ? rc : paint_end(&p, e);
}

/* ---- CVAT ------------------------------------------------------------------------------------------------------- */

void rle_cvat_encode(const struct frame *labels, int label, const struct rle_box *box, struct buf *out)
{
    int64_t run = 0;
    bool inside = false, first = true;
    for (int y = box->y0; y <= box->y1; y++)
        for (int x = box->x0; x <= box->x1; x++) {
            if ((*at(labels, x, y) == label) != inside) {
                buf_printf(out, first ? "%lld" : ", %lld", (long long)run);
                first = false;
                run = 0;
                inside = !inside;
            }
            run++;
        }
    buf_printf(out, first ? "%lld" : ", %lld", (long long)run);
}

int rle_cvat_decode(const char *text, const struct rle_box *box, struct frame *labels, int label, struct err *e)
{
    int64_t w = (int64_t)box->x1 - box->x0 + 1, all = w * ((int64_t)box->y1 - box->y0 + 1), pos = 0;
    bool inside = false;
    for (const char *s = text + strspn(text, ", "); *s; s += strspn(s, ", ")) {
        char *end;
        long long run = isdigit((unsigned char)*s) ? strtoll(s, &end, 10) : -1;
        if (run < 0 || run > all - pos)
            return err_set(e, ERR_CORRUPT, "the runs of a mask do not fit its box");
        for (int64_t stop = pos + run; pos < stop; pos++)
            if (inside)
                *at(labels, box->x0 + (int)(pos % w), box->y0 + (int)(pos / w)) = (uint8_t)label;
        inside = !inside;
        s = end;
    }
    return pos == all ? 0 : err_set(e, ERR_CORRUPT, "the runs of a mask end before its box does");
}
