/*
 * Entries become files with a side, a sequence and a stem; sorted by sequence, stem and side, a picture stands directly
 * before its mask, so one pass pairs them and finds what is wrong.
 */
#include "core/task/labelled.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/fs.h"
#include "core/task/layout.h"

enum { SIDE_PICTURE, SIDE_MASK };

struct part {
    char *dir;     /* what stood before and after the word, joined: prefix "/" suffix */
    char *stem;    /* points into the entry's copy */
    size_t prefix; /* length of the part of dir before the word */
    size_t entry;
    int side;
};

struct labelled {
    struct unzip *zip;
    const char *label;
    struct part *parts;
    size_t n_parts;
    struct labelled_frame *frames;
    struct labelled_sequence *sequences;
    size_t n_frames, n_sequences, n_masks;
};

/* ---- what an entry is -------------------------------------------------------------------------------------------------- */

static const char *const picture_words[] = {"JPEGImages", "images", "image", "imgs", "img", "frames", "rgb", NULL};
static const char *const mask_words[] = {
    "Annotations",  "masks",           "mask", "gt",         "ground-truth",      "groundtruth",
    "ground_truth", "GT_object_level", "gts",  "annotation", "GT_instance_level", NULL};

/* The side that the first telling component of a path gives, and where that component begins and its rest does. */
static int find_side(const char *path, size_t *at, const char **rest)
{
    for (const char *p = path; strchr(p, '/'); p = *rest) {
        size_t n = layout_component(p, rest);
        *at = (size_t)(p - path);
        if (layout_find(p, n, picture_words) >= 0)
            return SIDE_PICTURE;
        if (layout_find(p, n, mask_words) >= 0)
            return SIDE_MASK;
    }
    return -1;
}

static int add_part(struct labelled *l, size_t entry, struct err *e)
{
    const char *path = unzip_entry(l->zip, entry)->name, *rest, *stem;
    size_t at = 0;
    if (layout_is_litter(path))
        return 0;
    int side = find_side(path, &at, &rest);
    if (side < 0)
        return 0;
    if (layout_is_other_image(path))
        return err_set(e, ERR_UNSUPPORTED, "%s: %s is not a PNG or JPEG", l->label, path);
    if (!layout_is_map(path))
        return 0;
    const char *below, *slash = strrchr(path, '/');
    size_t n = layout_component(rest, &below), stem_bytes = fs_stem(path, &stem);
    if (rest <= slash && layout_find(rest, n, layout_resolutions) >= 0)
        rest = below;
    size_t suffix = slash > rest ? (size_t)(slash - rest) : 0;
    struct part *p = &l->parts[l->n_parts];
    *p = (struct part){.entry = entry, .side = side, .prefix = at ? at - 1 : 0};
    p->dir = calloc(1, p->prefix + suffix + 2);
    p->stem = strndup(stem, stem_bytes);
    l->n_parts++;
    if (!p->dir || !p->stem)
        return err_set(e, ERR_NOMEM, "no memory to list %s", l->label);
    memcpy(p->dir, path, p->prefix);
    size_t joint = p->prefix && suffix;
    p->dir[p->prefix] = joint ? '/' : '\0';
    memcpy(p->dir + p->prefix + joint, rest, suffix);
    return 0;
}

/* ---- sequences --------------------------------------------------------------------------------------------------------- */

/* Bytes of leading components that the prefixes of all parts share, with the slash behind them. */
static size_t shared_prefix(const struct labelled *l)
{
    size_t shared = l->parts[0].prefix;
    const char *first = l->parts[0].dir;
    for (size_t i = 1; i < l->n_parts; i++) {
        const struct part *p = &l->parts[i];
        size_t n = 0, whole = 0;
        while (n < shared && n < p->prefix && p->dir[n] == first[n])
            if (first[n++] == '/')
                whole = n - 1;
        bool ends_here = (n == p->prefix || p->dir[n] == '/') && (n == l->parts[0].prefix || first[n] == '/');
        shared = ends_here ? n : whole;
    }
    return shared;
}

static void drop_prefix(struct labelled *l)
{
    size_t shared = shared_prefix(l);
    for (size_t i = 0; i < l->n_parts; i++) {
        char *dir = l->parts[i].dir;
        const char *keep = dir + shared + (dir[shared] == '/');
        memmove(dir, keep, strlen(keep) + 1);
    }
}

static int cmp_text(const char *a, const char *b)
{
    int c = fs_natural_cmp(a, b);
    return c ? c : strcmp(a, b);
}

static int cmp_frame(const struct part *x, const struct part *y)
{
    int c = cmp_text(x->dir, y->dir);
    c = c ? c : cmp_text(x->stem, y->stem);
    return c ? c : x->side - y->side;
}

static int cmp_part(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int c = cmp_frame(x, y);
    return c ? c : (x->entry > y->entry) - (x->entry < y->entry);
}

static const char *entry_name(const struct labelled *l, const struct part *p)
{
    return unzip_entry(l->zip, p->entry)->name;
}

static struct labelled_sequence *sequence_of(struct labelled *l, const struct part *p)
{
    struct labelled_sequence *last = l->n_sequences ? &l->sequences[l->n_sequences - 1] : NULL;
    if (last && strcmp(last->name, p->dir) == 0)
        return last;
    last = &l->sequences[l->n_sequences++];
    *last = (struct labelled_sequence){.name = p->dir, .first = l->n_frames};
    return last;
}

static int refuse_doubles(const struct labelled *l, struct err *e)
{
    for (size_t i = 1; i < l->n_parts; i++)
        if (cmp_frame(&l->parts[i - 1], &l->parts[i]) == 0)
            return err_set(e, ERR_INVALID, "%s: two files for one frame: %s and %s", l->label,
                           entry_name(l, &l->parts[i - 1]), entry_name(l, &l->parts[i]));
    return 0;
}

static int pair_parts(struct labelled *l, struct err *e)
{
    for (size_t i = 0; i < l->n_parts; i++) {
        const struct part *p = &l->parts[i], *q = i + 1 < l->n_parts ? p + 1 : NULL;
        bool same = q && strcmp(p->dir, q->dir) == 0 && strcmp(p->stem, q->stem) == 0;
        if (p->side == SIDE_MASK)
            return err_set(e, ERR_INVALID, "%s: mask %s has no picture", l->label, entry_name(l, p));
        struct labelled_sequence *s = sequence_of(l, p);
        l->frames[l->n_frames++] =
            (struct labelled_frame){.stem = p->stem, .picture = p->entry, .mask = same ? q->entry : LABELLED_NONE};
        s->n++;
        s->masks += same;
        l->n_masks += same;
        i += same;
    }
    return 0;
}

/* ---- the set ----------------------------------------------------------------------------------------------------------- */

static int build(struct labelled *l, struct err *e)
{
    size_t n = unzip_count(l->zip);
    l->parts = calloc(n + 1, sizeof(*l->parts));
    l->frames = calloc(n + 1, sizeof(*l->frames));
    l->sequences = calloc(n + 1, sizeof(*l->sequences));
    int rc = l->parts && l->frames && l->sequences ? 0 : err_set(e, ERR_NOMEM, "no memory to list %s", l->label);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = add_part(l, i, e);
    if (rc == 0 && l->n_parts == 0)
        rc = err_set(e, ERR_INVALID,
                     "%s: no pictures and masks found; expected JPEGImages/ and Annotations/, or images/ and masks/",
                     l->label);
    if (rc)
        return rc;
    drop_prefix(l);
    qsort(l->parts, l->n_parts, sizeof(*l->parts), cmp_part);
    rc = refuse_doubles(l, e);
    if (rc == 0)
        rc = pair_parts(l, e);
    if (rc == 0 && l->n_masks == 0)
        rc = err_set(e, ERR_INVALID, "%s: %zu pictures, but no masks (Annotations/ or masks/)", l->label, l->n_frames);
    return rc;
}

int labelled_open(const char *zip, const char *label, const struct unzip_limits *limits, struct labelled **out,
                  struct err *e)
{
    struct labelled *l = calloc(1, sizeof(*l));
    *out = NULL;
    if (!l)
        return err_set(e, ERR_NOMEM, "no memory");
    l->label = label;
    int rc = unzip_open(zip, label, limits, &l->zip, e);
    if (rc == 0)
        rc = build(l, e);
    if (rc)
        labelled_close(l);
    else
        *out = l;
    return rc;
}

void labelled_close(struct labelled *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->n_parts; i++) {
        free(l->parts[i].dir);
        free(l->parts[i].stem);
    }
    free(l->parts);
    free(l->frames);
    free(l->sequences);
    unzip_close(l->zip);
    free(l);
}

size_t labelled_sequences(const struct labelled *l, const struct labelled_sequence **out)
{
    *out = l->sequences;
    return l->n_sequences;
}

size_t labelled_frames(const struct labelled *l, const struct labelled_frame **out)
{
    *out = l->frames;
    return l->n_frames;
}

size_t labelled_masks(const struct labelled *l)
{
    return l->n_masks;
}

int labelled_extract(const struct labelled *l, size_t entry, const char *path, struct err *e)
{
    struct buf b = BUF_INIT;
    int rc = unzip_read(l->zip, entry, &b, e);
    if (rc == 0)
        rc = fs_write(path, b.data, b.len, e);
    buf_free(&b);
    return rc;
}

const char *labelled_extension(const struct labelled *l, size_t entry)
{
    return strrchr(unzip_entry(l->zip, entry)->name, '.');
}
