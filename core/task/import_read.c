/*
 * What an archive holds: which format it is, its sequences with their pictures and masks. Names come from outside; they
 * are compared and quoted, never used as paths.
 *
 * Folders are found wherever they begin: DAVIS-2017/JPEGImages/480p/SEQ/NAME.jpg counts like JPEGImages/SEQ/NAME.jpg.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/task/import_impl.h"

#define DOCUMENT_BYTES_MAX ((size_t)64 << 20)
enum { SEQUENCES_MAX = 10000, MASKS_MAX = 1000000 };

void import_fini(struct import *im)
{
    for (size_t i = 0; i < im->nseqs; i++) {
        struct import_seq *s = &im->seq[i];
        for (size_t k = 0; k < s->nmasks; k++)
            json_decref(s->mask[k].objects);
        free(s->mask);
        json_decref(s->index);
        entries_free(&s->pictures);
        clip_record_fini(&s->clip);
    }
    free(im->seq);
    json_decref(im->index);
    json_decref(im->document);
    json_decref(im->salient);
    unzip_close(im->zip);
    *im = (struct import){0};
}

/* ---- sequences and masks ---------------------------------------------------------------------------------------- */

/* Position of a name, or -1. */
static int64_t find(const json_t *index, const char *name)
{
    const json_t *at = json_object_get(index, name);
    return at ? json_integer_value(at) : -1;
}

/* Notes a name at a position; it must be UTF-8. */
static int note(json_t **index, const char *name, size_t position, struct err *e)
{
    if (!*index && !(*index = json_object()))
        return err_set(e, ERR_NOMEM, "no memory for the import");
    if (json_object_set_new(*index, name, json_integer((json_int_t)position)) == 0)
        return 0;
    return err_set(e, ERR_INVALID, "the archive has a name that is not UTF-8");
}

/* Copies a name; ERR_LIMIT when it is too long. */
static int copy_name(char *out, size_t size, const char *name, size_t len, struct err *e)
{
    if (len >= size)
        return err_set(e, ERR_LIMIT, "the name '%.40s...' is too long", name);
    memcpy(out, name, len);
    out[len] = '\0';
    return 0;
}

/* Room for one more item. */
static int grow(void **v, size_t n, size_t *cap, size_t size, size_t max, struct err *e)
{
    if (n == max)
        return err_set(e, ERR_LIMIT, "the archive has more than %zu sequences, or masks of one", max);
    if (n < *cap)
        return 0;
    size_t want = *cap ? 2 * *cap : 16;
    void *p = realloc(*v, want * size);
    if (!p)
        return err_set(e, ERR_NOMEM, "no memory for the import");
    *v = p;
    *cap = want;
    return 0;
}

struct import_seq *import_sequence(struct import *im, const char *dir, size_t len, struct err *e)
{
    char name[sizeof(im->seq->dir)];
    if (copy_name(name, sizeof(name), len ? dir : "clip", len ? len : strlen("clip"), e))
        return NULL;
    int64_t at = find(im->index, name);
    if (at >= 0)
        return &im->seq[at];
    void *v = im->seq;
    int rc = grow(&v, im->nseqs, &im->cap, sizeof(*im->seq), SEQUENCES_MAX, e);
    im->seq = v;
    if (rc == 0)
        rc = note(&im->index, name, im->nseqs, e);
    if (rc)
        return NULL;
    struct import_seq *s = &im->seq[im->nseqs++];
    *s = (struct import_seq){0};
    memcpy(s->dir, name, sizeof(s->dir));
    return s;
}

static struct import_mask *mask_of(struct import_seq *s, const char *picture, size_t len, struct err *e)
{
    char name[sizeof(s->mask->name)];
    if (copy_name(name, sizeof(name), picture, len, e))
        return NULL;
    int64_t at = find(s->index, name);
    if (at >= 0)
        return &s->mask[at];
    void *v = s->mask;
    int rc = grow(&v, s->nmasks, &s->cap, sizeof(*s->mask), MASKS_MAX, e);
    s->mask = v;
    if (rc == 0)
        rc = note(&s->index, name, s->nmasks, e);
    if (rc)
        return NULL;
    struct import_mask *m = &s->mask[s->nmasks++];
    *m = (struct import_mask){.entry = SIZE_MAX};
    memcpy(m->name, name, sizeof(m->name));
    return m;
}

/* "A/B/NAME.EXT": the folder and the name. */
static void split_path(const char *path, size_t *dir_len, const char **name, size_t *name_len)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    *dir_len = slash ? (size_t)(slash - path) : 0;
    const char *dot = strrchr(*name, '.');
    *name_len = dot && dot > *name ? (size_t)(dot - *name) : strlen(*name);
}

struct import_mask *import_mask_of(struct import *im, const char *picture, struct err *e)
{
    size_t dir_len, len;
    const char *name;
    split_path(picture, &dir_len, &name, &len);
    struct import_seq *s = import_sequence(im, picture, dir_len, e);
    return s ? mask_of(s, name, len, e) : NULL;
}

int import_pictures_index(const struct import_seq *s, json_t **index, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < s->pictures.n && rc == 0; i++) {
        size_t dir_len, len;
        const char *base;
        char name[sizeof(s->mask->name)];
        split_path(s->pictures.v[i].path, &dir_len, &base, &len);
        rc = copy_name(name, sizeof(name), base, len, e);
        if (rc == 0)
            rc = note(index, name, i, e);
    }
    return rc;
}

/* ---- entries ---------------------------------------------------------------------------------------------------- */

/* What comes after the folder "NAME/" in a path; NULL when it has none. */
static const char *below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        if (strncmp(p, folder, n) == 0 && p[n] == '/')
            return p + n + 1;
    return NULL;
}

/* Without the folder of a resolution: "480p/SEQ/NAME" is "SEQ/NAME". */
static const char *skip_resolution(const char *path)
{
    const char *first = strchr(path, '/'), *second = first ? strchr(first + 1, '/') : NULL;
    return second ? first + 1 : path;
}

static int add_picture(struct import *im, const char *path, size_t i, struct err *e)
{
    size_t dir_len, len;
    const char *name;
    split_path(path, &dir_len, &name, &len);
    struct import_seq *s = import_sequence(im, path, dir_len, e);
    return s ? entries_add(&s->pictures, unzip_entry(im->zip, i)->name, unzip_entry(im->zip, i)->size, i, e) : e->code;
}

static int add_png(struct import *im, const char *path, size_t i, struct err *e)
{
    const char *dot = strrchr(path, '.');
    if (!dot || strcasecmp(dot, ".png") != 0)
        return err_set(e, ERR_INVALID, "'%.200s' is no PNG", unzip_entry(im->zip, i)->name);
    struct import_mask *m = import_mask_of(im, path, e);
    if (!m)
        return e->code;
    if (m->entry != SIZE_MAX)
        return err_set(e, ERR_INVALID, "'%.200s' stands twice, in two resolutions", path);
    m->entry = i;
    return 0;
}

static int sort_entries(struct import *im, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < unzip_count(im->zip) && rc == 0; i++) {
        const char *path = unzip_entry(im->zip, i)->name, *rest;
        if (!entries_is_image(path))
            continue;
        if ((rest = below(path, "Annotations")))
            rc = add_png(im, skip_resolution(rest), i, e);
        else if ((rest = below(path, "JPEGImages")))
            rc = add_picture(im, skip_resolution(rest), i, e);
        else if ((rest = below(path, "images")))
            rc = add_picture(im, rest, i, e);
    }
    for (size_t i = 0; i < im->nseqs && rc == 0; i++)
        if (im->seq[i].pictures.n)
            rc = entries_finish(&im->seq[i].pictures, e);
    return rc;
}

int import_document(struct import *im, const char *name, struct buf *out, struct err *e)
{
    size_t best = SIZE_MAX, depth = SIZE_MAX;
    for (size_t i = 0; i < unzip_count(im->zip); i++) {
        const char *path = unzip_entry(im->zip, i)->name, *slash = strrchr(path, '/');
        size_t d = 0;
        for (const char *p = path; *p; p++)
            d += *p == '/';
        if (strcmp(slash ? slash + 1 : path, name) == 0 && d < depth) {
            best = i;
            depth = d;
        }
    }
    if (best == SIZE_MAX)
        return 0;
    if (unzip_entry(im->zip, best)->size > (int64_t)DOCUMENT_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "'%s' is larger than %zu bytes", name, DOCUMENT_BYTES_MAX);
    int rc = unzip_read(im->zip, best, out, e);
    return rc ? rc : 1;
}

/* ---- the format ------------------------------------------------------------------------------------------------- */

static bool has(const struct import *im, const char *folder, const char *name)
{
    for (size_t i = 0; i < unzip_count(im->zip); i++) {
        const char *path = unzip_entry(im->zip, i)->name, *slash = strrchr(path, '/');
        if (folder ? below(path, folder) != NULL : strcmp(slash ? slash + 1 : path, name) == 0)
            return true;
    }
    return false;
}

static int tell_format(const struct import *im, struct err *e)
{
    if (has(im, NULL, "annotations.xml"))
        return EXCHANGE_CVAT;
    if (has(im, "Annotations", NULL))
        return has(im, NULL, "meta.json") ? EXCHANGE_YOUTUBE_VOS : EXCHANGE_DAVIS;
    if (has(im, NULL, "annotations.json"))
        return EXCHANGE_COCO;
    return err_set(e, ERR_INVALID,
                   "the archive has none of Annotations/ (DAVIS, YouTube-VOS), annotations.json (COCO), "
                   "annotations.xml (CVAT)");
}

static json_t *parse_json(const struct buf *b, const char *name, struct err *e)
{
    json_error_t je;
    json_t *doc = json_loadb(b->data ? b->data : "", b->len, JSON_REJECT_DUPLICATES, &je);
    if (!doc)
        err_set(e, ERR_INVALID, "%s is not JSON: %s (line %d)", name, je.text, je.line);
    return doc;
}

static int read_json(struct import *im, const char *name, json_t **out, struct err *e)
{
    struct buf b = BUF_INIT;
    int rc = import_document(im, name, &b, e);
    if (rc == 1 && !(*out = parse_json(&b, name, e)))
        rc = e->code;
    buf_free(&b);
    return rc;
}

/* salient.json, or what annotations.json says in its place. */
static int read_salient(struct import *im, struct err *e)
{
    json_t *doc = NULL;
    if (im->document) {
        im->salient = json_incref(json_object_get(im->document, "salient"));
    } else {
        int rc = read_json(im, "salient.json", &doc, e);
        if (rc < 0)
            return rc;
        im->salient = json_incref(json_object_get(doc, "clips"));
        json_decref(doc);
    }
    return 0;
}

/* Hands each sequence its part; a clip of salient.json without any mask or picture is a sequence, too. */
static int spread_salient(struct import *im, struct err *e)
{
    for (size_t i = 0; i < json_array_size(im->salient); i++) {
        const json_t *clip = json_array_get(im->salient, i);
        const char *dir = json_string_value(json_object_get(clip, "dir"));
        struct import_seq *s = dir && *dir ? import_sequence(im, dir, strlen(dir), e) : NULL;
        if (dir && *dir && !s)
            return e->code;
        if (s)
            s->salient = clip;
    }
    return 0;
}

int import_read(struct import *im, enum exchange_format *format, struct err *e)
{
    static const struct unzip_limits limits = {.max_bytes = (int64_t)8 << 30};
    struct err own = {0};
    e = e ? e : &own;
    int rc = unzip_open(im->o->path, "the archive", &limits, &im->zip, e);
    if (rc)
        return rc;
    int f = im->o->format >= 0 ? im->o->format : tell_format(im, e);
    if (f < 0)
        return f;
    *format = (enum exchange_format)f;
    rc = sort_entries(im, e);
    if (rc == 0 && f == EXCHANGE_COCO) {
        rc = read_json(im, "annotations.json", &im->document, e);
        rc = rc == 0 ? err_set(e, ERR_INVALID, "the archive has no annotations.json") : rc < 0 ? rc : 0;
    }
    if (rc == 0)
        rc = read_salient(im, e);
    if (rc == 0 && f == EXCHANGE_COCO)
        rc = import_coco(im, e);
    if (rc == 0 && f == EXCHANGE_CVAT)
        rc = import_cvat(im, e);
    if (rc == 0)
        rc = spread_salient(im, e);
    if (rc == 0 && im->nseqs == 0)
        rc = err_set(e, ERR_INVALID, "the archive has no mask");
    return rc;
}
