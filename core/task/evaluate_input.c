/*
 * The two sides of an evaluation: listing, layouts, pairing, reading.
 *
 * A file's key is (sequence, stem). The sequence is its folder, after layouts that datasets use are recognised
 * (Annotations/480p/SEQUENCE; SEQUENCE/ground-truth) and folders that all files of a side share are dropped as far as
 * that makes the two sides agree. Pairing merges two sorted lists, so what is missing or extra is found on the way.
 */
#include "core/task/evaluate_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/media/image.h"
#include "core/media/unzip.h"
#include "core/task/layout.h"

enum { DEPTH_MAX = 12, FILES_MAX = 2000000, NAMES_SHOWN = 5 };
#define FILE_BYTES_MAX ((size_t)256 << 20)
#define PIXELS_DEFAULT ((int64_t)40 * 1000 * 1000)
#define ZIP_BYTES_DEFAULT ((int64_t)16 << 30)

struct file {
    char *path; /* below the side's root */
    char *dir;  /* its sequence, once the layout is known */
    char *stem;
    size_t entry; /* of the zip */
};

struct side {
    const char *what; /* "ground truth", "prediction" */
    char *root;
    const char *label; /* the root's name in messages */
    struct unzip *zip; /* or NULL for a folder */
    struct file *v;
    size_t n, cap, ignored;
};

struct eval_input {
    struct side pred, gt;
    struct eval_frame *frames;
    size_t n_frames, n_extra;
    struct eval_sequence *sequences;
    size_t n_sequences;
    int resize;
    int64_t max_pixels;
    char note[160];
};

/* ---- listing ---------------------------------------------------------------------------------------------------------- */

static void free_file(struct file *f)
{
    free(f->path);
    free(f->dir);
    free(f->stem);
}

static int add_file(struct side *s, const char *path, size_t entry, struct err *e)
{
    if (layout_is_litter(path))
        return 0;
    if (layout_is_other_image(path))
        return err_set(e, ERR_UNSUPPORTED, "%s %s/%s: not a PNG or JPEG", s->what, s->label, path);
    if (!layout_is_map(path)) {
        s->ignored++;
        return 0;
    }
    if (s->n == FILES_MAX)
        return err_set(e, ERR_LIMIT, "%s %s: more than %d files", s->what, s->label, FILES_MAX);
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 256;
        struct file *v = realloc(s->v, cap * sizeof(*v));
        if (!v)
            return err_set(e, ERR_NOMEM, "no memory to list %s", s->label);
        s->v = v;
        s->cap = cap;
    }
    const char *stem, *slash = strrchr(path, '/');
    size_t len = fs_stem(path, &stem);
    struct file f = {.path = strdup(path), .stem = strndup(stem, len), .entry = entry};
    f.dir = strndup(path, slash ? (size_t)(slash - path) : 0);
    if (!f.path || !f.stem || !f.dir) {
        free_file(&f);
        return err_set(e, ERR_NOMEM, "no memory to list %s", s->label);
    }
    s->v[s->n++] = f;
    return 0;
}

static int list_folder(struct side *s, const char *below, int depth, struct err *e)
{
    char path[FS_PATH_MAX], sub[FS_PATH_MAX];
    struct fs_list l = {0};
    if (depth > DEPTH_MAX)
        return err_set(e, ERR_LIMIT, "%s %s/%s: folders nested more than %d deep", s->what, s->label, below, DEPTH_MAX);
    int rc = *below ? fs_join(path, s->root, below, e) : 0;
    if (rc == 0)
        rc = fs_list(*below ? path : s->root, &l, e);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        if (*below)
            rc = fs_join(sub, below, l.names[i], e);
        else if (snprintf(sub, sizeof(sub), "%s", l.names[i]) >= (int)sizeof(sub))
            rc = err_set(e, ERR_LIMIT, "%s %s: a name is too long", s->what, s->label);
        if (rc || layout_is_litter(sub) || (rc = fs_join(path, s->root, sub, e)))
            continue;
        rc = fs_is_dir(path) ? list_folder(s, sub, depth + 1, e) : add_file(s, sub, 0, e);
    }
    fs_list_free(&l);
    return rc;
}

static int list_zip(struct side *s, const struct evaluate_opts *o, struct err *e)
{
    struct unzip_limits limits = {.max_entry_bytes = (int64_t)FILE_BYTES_MAX,
                                  .max_bytes = o->max_zip_bytes ? o->max_zip_bytes : ZIP_BYTES_DEFAULT};
    int rc = unzip_open(s->root, s->label, &limits, &s->zip, e);
    for (size_t i = 0; rc == 0 && i < unzip_count(s->zip); i++)
        rc = add_file(s, unzip_entry(s->zip, i)->name, i, e);
    return rc;
}

static int list_side(struct side *s, const char *what, const char *root, const char *label,
                     const struct evaluate_opts *o, struct err *e)
{
    s->what = what;
    if (!(s->root = strdup(root)))
        return err_set(e, ERR_NOMEM, "no memory to list %s", what);
    s->label = label ? label : s->root;
    for (size_t n = strlen(s->root); n > 1 && s->root[n - 1] == '/'; n--)
        s->root[n - 1] = 0;
    if (!fs_exists(root))
        return err_set(e, ERR_NOTFOUND, "%s: no such file or folder (%s)", s->label, what);
    int rc = 0;
    if (fs_is_dir(root))
        rc = list_folder(s, "", 0, e);
    else if (unzip_sniff(root))
        rc = list_zip(s, o, e);
    else
        rc = err_set(e, ERR_UNSUPPORTED, "%s: neither a folder nor a zip (%s)", s->label, what);
    if (rc == 0 && s->n == 0)
        rc = err_set(e, ERR_INVALID, "%s: no PNG or JPEG images (%s)", s->label, what);
    return rc;
}

/* ---- layouts ---------------------------------------------------------------------------------------------------------- */

/* The part of `dir` below a component `word`, or NULL. */
static const char *below_component(const char *dir, const char *word)
{
    while (*dir) {
        const char *rest;
        size_t n = layout_component(dir, &rest);
        if (layout_is(dir, n, word))
            return rest;
        dir = rest;
    }
    return NULL;
}

static void drop_front(char *s, const char *keep)
{
    memmove(s, keep, strlen(keep) + 1);
}

/* Keeps the files for which `keep` finds a sequence name (a part of dir), unless it finds none for any. */
static void narrow(struct side *s, bool (*keep)(char *dir))
{
    bool any = false;
    for (size_t i = 0; i < s->n && !any; i++) {
        char *copy = strdup(s->v[i].dir);
        any = copy && keep(copy);
        free(copy);
    }
    size_t n = 0;
    for (size_t i = 0; any && i < s->n; i++) {
        if (keep(s->v[i].dir))
            s->v[n++] = s->v[i];
        else
            free_file(&s->v[i]);
    }
    if (any)
        s->n = n;
}

static bool keep_annotations(char *dir)
{
    const char *rest = below_component(dir, "Annotations");
    if (rest)
        drop_front(dir, rest);
    return rest != NULL;
}

static bool keep_ground_truth(char *dir)
{
    static const char *const words[] = {"ground-truth", "groundtruth", "ground_truth", "GT", "GT_object_level", NULL};
    char *slash = strrchr(dir, '/'), *last = slash ? slash + 1 : dir;
    if (layout_find(last, strlen(last), words) < 0)
        return false;
    *(slash ? slash : dir) = 0;
    return true;
}

/* DAVIS has one folder a resolution; two at once would be two answers. */
static int drop_resolution(struct side *s, struct err *e)
{
    const char *const *words = layout_resolutions;
    int found = -1;
    for (size_t i = 0; i < s->n; i++) {
        const char *rest;
        size_t n = layout_component(s->v[i].dir, &rest); /* NOLINT(clang-analyzer-unix.Malloc): those kept only */
        int is = layout_find(s->v[i].dir, n, words);
        if (is < 0)
            return 0; /* not that layout */
        if (found >= 0 && is != found)
            return err_set(e, ERR_INVALID, "%s %s: both Annotations/%s and Annotations/%s; name one of them", s->what,
                           s->label, words[found], words[is]);
        found = is;
    }
    for (size_t i = 0; i < s->n; i++) {
        const char *rest;
        layout_component(s->v[i].dir, &rest);
        drop_front(s->v[i].dir, rest);
    }
    return 0;
}

static int recognise(struct side *s, bool is_gt, struct err *e)
{
    narrow(s, keep_annotations);
    int rc = drop_resolution(s, e);
    if (rc == 0 && is_gt)
        narrow(s, keep_ground_truth);
    return rc;
}

/* ---- agreement of folders --------------------------------------------------------------------------------------------- */

static const char *skip_components(const char *dir, int n)
{
    while (n-- > 0)
        layout_component(dir, &dir);
    return dir;
}

static int cmp_text(const char *a, const char *b)
{
    int c = fs_natural_cmp(a, b);
    return c ? c : strcmp(a, b);
}

static int cmp_file(const void *a, const void *b)
{
    const struct file *x = a, *y = b;
    int c = cmp_text(x->dir, y->dir);
    return c ? c : cmp_text(x->stem, y->stem);
}

static int cmp_string(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* Leading components that every folder of the side has in common. */
static int shared_components(const struct side *s)
{
    int shared = DEPTH_MAX;
    for (size_t i = 0; i < s->n; i++) {
        const char *a = s->v[0].dir, *b = s->v[i].dir;
        int k = 0;
        while (k < shared && *a && *b) {
            const char *ra, *rb;
            size_t na = layout_component(a, &ra), nb = layout_component(b, &rb);
            if (na != nb || memcmp(a, b, na) != 0)
                break;
            a = ra, b = rb;
            k++;
        }
        shared = k;
    }
    return shared;
}

/* Distinct folders of a side, sorted; pointers into its files. */
static const char **folders(const struct side *s, size_t *n)
{
    const char **v = malloc(s->n * sizeof(*v));
    size_t m = 0;
    if (!v)
        return NULL;
    for (size_t i = 0; i < s->n; i++)
        v[i] = s->v[i].dir;
    qsort(v, s->n, sizeof(*v), cmp_string);
    for (size_t i = 0; i < s->n; i++)
        if (m == 0 || strcmp(v[m - 1], v[i]) != 0)
            v[m++] = v[i];
    *n = m;
    return v;
}

/* How many folders the sides share when a and b lose their first ka and kb components. Dropping what all have in common
 * keeps the order. */
static size_t common_folders(const char **a, size_t na, int ka, const char **b, size_t nb, int kb)
{
    size_t n = 0;
    for (size_t i = 0, j = 0; i < na && j < nb;) {
        int c = strcmp(skip_components(a[i], ka), skip_components(b[j], kb));
        n += c == 0;
        i += c <= 0;
        j += c >= 0;
    }
    return n;
}

static int agree(struct side *a, struct side *b, struct err *e)
{
    size_t na, nb, best = 0;
    int ka = 0, kb = 0, sa = shared_components(a), sb = shared_components(b);
    const char **fa = folders(a, &na), **fb = folders(b, &nb);
    bool ok = fa && fb;
    for (int i = 0; ok && i <= sa; i++)
        for (int j = 0; j <= sb; j++) {
            size_t n = common_folders(fa, na, i, fb, nb, j);
            if (n > best || (n == best && n && i + j < ka + kb)) {
                best = n;
                ka = i;
                kb = j;
            }
        }
    free(fa);
    free(fb);
    for (size_t i = 0; ok && i < a->n; i++)
        drop_front(a->v[i].dir, skip_components(a->v[i].dir, ka));
    for (size_t i = 0; ok && i < b->n; i++)
        drop_front(b->v[i].dir, skip_components(b->v[i].dir, kb));
    return ok ? 0 : err_set(e, ERR_NOMEM, "no memory to pair %zu files", a->n + b->n);
}

/* ---- pairing ---------------------------------------------------------------------------------------------------------- */

static int sort_side(struct side *s, struct err *e)
{
    qsort(s->v, s->n, sizeof(*s->v), cmp_file);
    for (size_t i = 1; i < s->n; i++)
        if (cmp_file(&s->v[i - 1], &s->v[i]) == 0)
            return err_set(e, ERR_INVALID, "%s %s: two files for one frame: %s and %s", s->what, s->label,
                           s->v[i - 1].path, s->v[i].path);
    return 0;
}

/* Frames on one side only: the first few names, and how many. */
struct unmatched {
    size_t n;
    struct buf names;
};

static void unmatched_add(struct unmatched *u, const struct file *f)
{
    if (u->n++ < NAMES_SHOWN)
        buf_printf(&u->names, "%s%s%s%s", u->n > 1 ? ", " : "", f->dir, *f->dir ? "/" : "", f->stem);
}

static void unmatched_say(const struct unmatched *u, const char *what, struct buf *out)
{
    if (u->n == 0)
        return;
    buf_printf(out, "%s%zu frame%s %s: %.300s%s", out->len ? "; " : "", u->n, u->n > 1 ? "s" : "", what, u->names.data,
               u->n > NAMES_SHOWN ? ", ..." : "");
}

static int complain(const struct unmatched *missing, const struct unmatched *extra, struct err *e)
{
    struct buf b = BUF_INIT;
    unmatched_say(missing, "of the ground truth without a prediction", &b);
    unmatched_say(extra, "of the prediction without ground truth", &b);
    int rc = b.failed ? err_set(e, ERR_NOMEM, "no memory") : err_set(e, ERR_INVALID, "%s", b.data);
    buf_free(&b);
    return rc;
}

static int pair(struct eval_input *in, bool allow_extra, struct err *e)
{
    struct unmatched missing = {0}, extra = {0};
    if (!(in->frames = malloc(in->gt.n * sizeof(*in->frames))))
        return err_set(e, ERR_NOMEM, "no memory to pair %zu frames", in->gt.n);
    size_t i = 0, j = 0;
    while (i < in->gt.n || j < in->pred.n) {
        const struct file *g = i < in->gt.n ? &in->gt.v[i] : NULL, *p = j < in->pred.n ? &in->pred.v[j] : NULL;
        int c = !g ? 1 : !p ? -1 : cmp_file(g, p);
        if (c < 0)
            unmatched_add(&missing, g);
        else if (c > 0)
            unmatched_add(&extra, p);
        else
            in->frames[in->n_frames++] = (struct eval_frame){.stem = g->stem, .gt = i, .pred = j};
        i += c <= 0;
        j += c >= 0;
    }
    in->n_extra = extra.n;
    int rc = missing.n || (extra.n && !allow_extra) ? complain(&missing, &extra, e) : 0;
    buf_free(&missing.names);
    buf_free(&extra.names);
    return rc;
}

static int find_sequences(struct eval_input *in, struct err *e)
{
    if (!(in->sequences = malloc(in->n_frames * sizeof(*in->sequences))))
        return err_set(e, ERR_NOMEM, "no memory to pair %zu frames", in->n_frames);
    for (size_t i = 0; i < in->n_frames; i++) {
        const char *dir = in->gt.v[in->frames[i].gt].dir;
        struct eval_sequence *last = in->n_sequences ? &in->sequences[in->n_sequences - 1] : NULL;
        if (last && strcmp(last->name, dir) == 0)
            last->n++;
        else
            in->sequences[in->n_sequences++] = (struct eval_sequence){.name = dir, .first = i, .n = 1};
    }
    return 0;
}

int eval_input_open(const struct evaluate_opts *o, const struct protocol *p, struct eval_input **out, struct err *e)
{
    struct eval_input *in = calloc(1, sizeof(*in));
    *out = in;
    if (!in)
        return err_set(e, ERR_NOMEM, "no memory");
    in->resize = (int)p->value[CHOICE_RESIZE];
    in->max_pixels = o->max_pixels ? o->max_pixels : PIXELS_DEFAULT;
    int rc = list_side(&in->gt, "ground truth", o->gt, o->gt_label, o, e);
    if (rc || (rc = list_side(&in->pred, "prediction", o->pred, o->pred_label, o, e)))
        return rc;
    if ((rc = recognise(&in->gt, true, e)) || (rc = recognise(&in->pred, false, e)) ||
        (rc = agree(&in->gt, &in->pred, e)))
        return rc;
    if ((rc = sort_side(&in->gt, e)) || (rc = sort_side(&in->pred, e)) ||
        (rc = pair(in, p->value[CHOICE_EXTRA] != 0, e)))
        return rc;
    size_t ignored = in->gt.ignored + in->pred.ignored;
    int at = 0;
    if (ignored)
        at = snprintf(in->note, sizeof(in->note), "%zu files that are not images were left out. ", ignored);
    if (in->n_extra)
        snprintf(in->note + at, sizeof(in->note) - (size_t)at, "%zu predictions without ground truth were left out.",
                 in->n_extra);
    return find_sequences(in, e);
}

static void close_side(struct side *s)
{
    for (size_t i = 0; i < s->n; i++)
        free_file(&s->v[i]);
    free(s->v);
    free(s->root);
    unzip_close(s->zip);
}

void eval_input_close(struct eval_input *in)
{
    if (!in)
        return;
    close_side(&in->pred);
    close_side(&in->gt);
    free(in->frames);
    free(in->sequences);
    free(in);
}

size_t eval_input_frames(const struct eval_input *in, const struct eval_frame **out)
{
    *out = in->frames;
    return in->n_frames;
}

size_t eval_input_sequences(const struct eval_input *in, const struct eval_sequence **out)
{
    *out = in->sequences;
    return in->n_sequences;
}

const char *eval_input_note(const struct eval_input *in)
{
    return in->note[0] ? in->note : NULL;
}

/* ---- reading ---------------------------------------------------------------------------------------------------------- */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A PNG whose palette has a colour: its indices are labels. A palette of greys is only a way to store grey. */
static bool is_label_png(const uint8_t *d, size_t len)
{
    enum { TYPE_AT = 25, FIRST_CHUNK = 8, PALETTE = 3 };
    if (image_sniff(d, len) != IMAGE_PNG || len <= TYPE_AT || d[TYPE_AT] != PALETTE)
        return false;
    for (size_t at = FIRST_CHUNK; len - at >= 12;) {
        size_t n = be32(d + at), room = len - at - 12;
        if (n > room || memcmp(d + at + 4, "IDAT", 4) == 0)
            return false;
        const uint8_t *c = d + at + 8;
        if (memcmp(d + at + 4, "PLTE", 4) == 0) {
            for (size_t i = 0; i + 3 <= n; i += 3)
                if (c[i] != c[i + 1] || c[i] != c[i + 2])
                    return true;
            return false;
        }
        at += 12 + n;
    }
    return false;
}

/* Labels to 0 and 255. */
static int binarise_labels(struct frame *f, struct err *e)
{
    for (int y = 0; y < f->height_px; y++) {
        uint8_t *row = f->data + (ptrdiff_t)y * f->stride_bytes;
        for (int x = 0; x < f->width_px; x++) {
            if (row[x] == 255)
                return err_set(e, ERR_UNSUPPORTED, "has void pixels (label 255), which no protocol here leaves out");
            row[x] = row[x] ? 255 : 0;
        }
    }
    return 0;
}

static int read_file(const struct side *s, const struct file *f, int64_t max_pixels, struct frame **out, struct err *e)
{
    struct buf b = BUF_INIT;
    char path[FS_PATH_MAX];
    int rc = 0;
    *out = NULL;
    if (s->zip)
        rc = unzip_read(s->zip, f->entry, &b, e);
    else if ((rc = fs_join(path, s->root, f->path, e)) == 0)
        rc = fs_read(path, FILE_BYTES_MAX, &b, e);
    if (rc == 0) {
        bool labels = is_label_png((const uint8_t *)b.data, b.len);
        rc = image_decode(b.data, b.len, labels ? IMAGE_INDEX : IMAGE_GRAY, max_pixels, out, e);
        if (rc == 0 && labels)
            rc = binarise_labels(*out, e);
        if (rc)
            err_wrap(e, "%s %s", s->what, f->path);
    }
    buf_free(&b);
    if (rc) {
        frame_unref(*out);
        *out = NULL;
    }
    return rc;
}

static uint8_t nearest(const struct frame *f, double x, double y)
{
    return f->data[(ptrdiff_t)y * f->stride_bytes + (ptrdiff_t)x];
}

/* Bilinear between pixel centres, clamped at the border, rounded half up. */
static uint8_t bilinear(const struct frame *f, double x, double y)
{
    double fx = x - 0.5, fy = y - 0.5;
    fx = fx < 0 ? 0 : fx > f->width_px - 1 ? f->width_px - 1 : fx;
    fy = fy < 0 ? 0 : fy > f->height_px - 1 ? f->height_px - 1 : fy;
    int x0 = (int)fx, y0 = (int)fy;
    int x1 = x0 + 1 < f->width_px ? x0 + 1 : x0, y1 = y0 + 1 < f->height_px ? y0 + 1 : y0;
    const uint8_t *a = f->data + (ptrdiff_t)y0 * f->stride_bytes, *b = f->data + (ptrdiff_t)y1 * f->stride_bytes;
    double u = fx - x0, v = fy - y0;
    return (uint8_t)((a[x0] * (1 - u) + a[x1] * u) * (1 - v) + (b[x0] * (1 - u) + b[x1] * u) * v + 0.5);
}

static int resize_to(struct frame **f, int w, int h, int how, struct err *e)
{
    struct frame *to, *from = *f;
    int rc = frame_new(FRAME_GRAY8, w, h, &to, e);
    if (rc)
        return rc;
    double sx = (double)from->width_px / w, sy = (double)from->height_px / h;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double px = (x + 0.5) * sx, py = (y + 0.5) * sy;
            to->data[(ptrdiff_t)y * to->stride_bytes + x] =
                how == RESIZE_NEAREST ? nearest(from, px, py) : bilinear(from, px, py);
        }
    frame_unref(from);
    *f = to;
    return 0;
}

int eval_input_read(const struct eval_input *in, const struct eval_frame *f, struct frame **pred, struct frame **gt,
                    struct err *e)
{
    const struct file *pf = &in->pred.v[f->pred], *gf = &in->gt.v[f->gt];
    *pred = *gt = NULL;
    int rc = read_file(&in->gt, gf, in->max_pixels, gt, e);
    if (rc == 0)
        rc = read_file(&in->pred, pf, in->max_pixels, pred, e);
    if (rc == 0 && ((*pred)->width_px != (*gt)->width_px || (*pred)->height_px != (*gt)->height_px)) {
        if (in->resize == RESIZE_NONE)
            rc = err_set(e, ERR_INVALID, "prediction %s is %d x %d, its ground truth %s is %d x %d", pf->path,
                         (*pred)->width_px, (*pred)->height_px, gf->path, (*gt)->width_px, (*gt)->height_px);
        else
            rc = resize_to(pred, (*gt)->width_px, (*gt)->height_px, in->resize, e);
    }
    if (rc) {
        frame_unref(*pred);
        frame_unref(*gt);
        *pred = *gt = NULL;
    }
    return rc;
}
