/*
 * Export: a step writes one frame, its picture and its mask; the documents come at the end, from what was noted on the
 * way. Memory: the rows of the project's labels, and what the documents say.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/task/exchange_impl.h"

#define MASK_BYTES_MAX ((size_t)64 << 20)

static const struct layout {
    const char *name, *picture, *mask; /* mask NULL: masks stand in a document */
    bool all;                          /* usually all pictures, not only those with masks */
} layouts[EXCHANGE_FORMATS] = {
    [EXCHANGE_DAVIS] = {"davis", "JPEGImages/480p/%s/%s.jpg", "Annotations/480p/%s/%s.png", false},
    [EXCHANGE_COCO] = {"coco", "images/%s/%s.jpg", NULL, false},
    [EXCHANGE_YOUTUBE_VOS] = {"youtube-vos", "JPEGImages/%s/%s.jpg", "Annotations/%s/%s.png", true},
    [EXCHANGE_CVAT] = {"cvat", "images/%s/%s.jpg", NULL, true},
};

const char *exchange_format_name(enum exchange_format f)
{
    return layouts[f].name;
}

int exchange_format_parse(const char *name)
{
    for (int f = 0; f < EXCHANGE_FORMATS; f++)
        if (strcmp(layouts[f].name, name) == 0)
            return f;
    return ERR_INVALID;
}

struct export_clip {
    struct clip_record clip;
    char dir[EXCHANGE_DIR_SIZE];
};

struct export
{
    struct export_opts o;
    char project_id[ID_SIZE];
    bool all;
    struct zip_writer *zip;
    struct export_docs docs;
    struct export_clip *clips;
    size_t nclips, at;
    struct label_list labels; /* of the clip that is written; those that are not wanted have no sha256 */
    size_t label;
    struct exchange_frames frames;
    bool open, done;
    int64_t frame, position;
    struct buf bytes;
};

/* ---- what there is to write ------------------------------------------------------------------------------------- */

static bool dir_taken(const struct export *x, size_t n, const char *dir)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(x->clips[i].dir, dir) == 0)
            return true;
    return false;
}

static int add_clips(struct export *x, struct clip_list *l, struct err *e)
{
    struct export_clip *v = realloc(x->clips, (x->nclips + l->n + 1) * sizeof(*v));
    if (!v)
        return err_set(e, ERR_NOMEM, "no memory for the export");
    x->clips = v;
    for (size_t i = 0; i < l->n; i++) {
        struct export_clip *c = &v[x->nclips];
        char base[EXCHANGE_DIR_SIZE];
        c->clip = l->items[i];
        l->items[i] = (struct clip_record){0}; /* its strings are ours now */
        exchange_dir(&c->clip, base);
        memcpy(c->dir, base, sizeof(base));
        for (int k = 2; dir_taken(x, x->nclips, c->dir); k++)
            snprintf(c->dir, sizeof(c->dir), "%.70s-%d", base, k);
        x->nclips++;
    }
    return 0;
}

static int list_clips(struct export *x, struct err *e)
{
    struct project_record p;
    int rc = project_get(x->o.store, x->project_id, &p, e);
    project_record_fini(&p);
    char *cursor = NULL;
    do {
        struct clip_list l = {0};
        if (rc == 0)
            rc = project_clip_list(x->o.store, x->project_id, cursor, 1000, &l, e);
        free(cursor);
        cursor = l.next_cursor;
        l.next_cursor = NULL;
        if (rc == 0)
            rc = add_clips(x, &l, e);
        clip_list_fini(&l);
    } while (rc == 0 && cursor);
    free(cursor);
    return rc;
}

static bool wanted(const struct export *x, const struct label_record *l)
{
    int source = label_source_parse(l->source), state = label_state_parse(l->state);
    return l->sha256 &&
           (source == LABEL_MANUAL || (source == LABEL_PSEUDO && state >= 0 && (x->o.states >> state & 1)));
}

int export_open(const struct export_opts *o, zip_write_fn fn, void *arg, struct export **out, struct err *e)
{
    struct export *x = calloc(1, sizeof(*x));
    if (!x)
        return err_set(e, ERR_NOMEM, "no memory for the export");
    x->o = *o;
    snprintf(x->project_id, sizeof(x->project_id), "%s", o->project_id);
    x->all = o->pictures == EXPORT_ALL || (o->pictures == EXPORT_USUAL && layouts[o->format].all);
    x->zip = zip_writer_new(fn, arg);
    int rc = x->zip ? export_docs_init(&x->docs, o->format, e) : err_set(e, ERR_NOMEM, "no memory for the export");
    if (rc == 0)
        rc = list_clips(x, e);
    if (rc)
        export_close(x);
    else
        *out = x;
    return rc;
}

static void end_clip(struct export *x)
{
    exchange_frames_close(&x->frames);
    label_list_fini(&x->labels);
    x->open = false;
}

void export_close(struct export *x)
{
    if (!x)
        return;
    end_clip(x);
    for (size_t i = 0; i < x->nclips; i++)
        clip_record_fini(&x->clips[i].clip);
    free(x->clips);
    export_docs_fini(&x->docs);
    zip_writer_free(x->zip);
    buf_free(&x->bytes);
    free(x);
}

/* ---- steps ------------------------------------------------------------------------------------------------------ */

/* A clip with nothing to export is passed over. */
static int begin_clip(struct export *x, struct err *e)
{
    const struct export_clip *c = &x->clips[x->at];
    const struct label_filter f = {.clip_id = c->clip.id, .masks_only = true};
    int rc = label_list(x->o.store, x->project_id, &f, &x->labels, e);
    size_t n = 0;
    for (size_t i = 0; rc == 0 && i < x->labels.n; i++) {
        if (wanted(x, &x->labels.items[i])) {
            struct label_record swap = x->labels.items[n];
            x->labels.items[n++] = x->labels.items[i];
            x->labels.items[i] = swap;
        }
    }
    while (rc == 0 && x->labels.n > n)
        label_record_fini(&x->labels.items[--x->labels.n]);
    x->frame = x->position = 0;
    x->label = 0;
    if (rc || (!x->all && n == 0)) {
        label_list_fini(&x->labels);
        x->at++;
        return rc;
    }
    rc = exchange_frames_open(&x->frames, x->o.blobs, &c->clip, e);
    if (rc == 0)
        rc = export_docs_clip(&x->docs, &c->clip, c->dir, x->all ? c->clip.frames : (int64_t)n, e);
    x->open = rc == 0;
    return rc ? err_wrap(e, "clip %s", c->clip.id) : 0;
}

static int add_entry(struct export *x, const char *format, const char *dir, const char *name, struct err *e)
{
    char path[EXCHANGE_DIR_SIZE + EXCHANGE_NAME_SIZE + 64];
    const char *first = strstr(format, "%s"), *second = strstr(first + 2, "%s"); /* "A%sB%sC" */
    snprintf(path, sizeof(path), "%.*s%s%.*s%s%s", (int)(first - format), format, dir, (int)(second - first - 2),
             first + 2, name, second + 2);
    return x->bytes.failed ? err_set(e, ERR_NOMEM, "no memory for %s", path)
                           : zip_add(x->zip, path, x->bytes.data, x->bytes.len, e);
}

static int read_mask(struct export *x, const struct label_record *l, const struct clip_record *c, struct labelmap *m,
                     struct err *e)
{
    char key[MASK_KEY_SIZE];
    mask_key(l->sha256, key);
    buf_reset(&x->bytes);
    int rc = blob_get(x->o.blobs, key, MASK_BYTES_MAX, &x->bytes, e);
    if (rc == 0)
        rc = labelmap_decode(x->bytes.data, x->bytes.len, (int)c->width, (int)c->height, m, e);
    return rc ? err_wrap(e, "the mask of frame %lld", (long long)l->frame) : 0;
}

static int write_frame(struct export *x, const struct label_record *l, struct err *e)
{
    const struct export_clip *c = &x->clips[x->at];
    const struct layout *lay = &layouts[x->o.format];
    char name[EXCHANGE_NAME_SIZE];
    struct labelmap m = {0};
    struct export_frame f = {.dir = c->dir,
                             .name = exchange_frames_name(&x->frames, x->frame, name),
                             .clip = &c->clip,
                             .label = l,
                             .mask = &m,
                             .ordinal = x->frame,
                             .position = x->position++};
    buf_reset(&x->bytes);
    int rc = exchange_frames_jpeg(&x->frames, x->frame, &x->bytes, e);
    if (rc == 0)
        rc = add_entry(x, lay->picture, c->dir, name, e);
    if (rc == 0 && l)
        rc = read_mask(x, l, &c->clip, &m, e);
    if (rc == 0 && l && lay->mask) {
        buf_reset(&x->bytes);
        rc = labelmap_encode(m.labels, &x->bytes, e);
        if (rc == 0)
            rc = add_entry(x, lay->mask, c->dir, name, e);
    }
    if (rc == 0)
        rc = export_docs_frame(&x->docs, &f, e);
    labelmap_fini(&m);
    return rc;
}

/* The next frame of the clip; the clip ends after its last. */
static int step_frame(struct export *x, struct err *e)
{
    const struct clip_record *c = &x->clips[x->at].clip;
    const struct label_record *l = x->label < x->labels.n ? &x->labels.items[x->label] : NULL;
    if (!x->all && l)
        x->frame = l->frame;
    if (x->frame >= c->frames || (!x->all && !l)) {
        end_clip(x);
        x->at++;
        return 0;
    }
    bool has = l && l->frame == x->frame;
    int rc = write_frame(x, has ? l : NULL, e);
    x->label += has;
    x->frame++;
    return rc ? err_wrap(e, "clip %s", c->id) : 0;
}

int export_step(struct export *x, struct err *e)
{
    if (x->done)
        return 0;
    if (x->at < x->nclips) {
        int rc = x->open ? step_frame(x, e) : begin_clip(x, e);
        return rc < 0 ? rc : 1;
    }
    int rc = export_docs_write(&x->docs, x->zip, e);
    if (rc == 0)
        rc = zip_finish(x->zip, e);
    x->done = rc == 0;
    return rc < 0 ? rc : 1;
}
