/*
 * retrain: options, the snapshot and its split.
 *
 * The manifest is the snapshot: everything later is read from it and from content-addressed blobs, so an attempt that
 * goes on on another machine sees the same data whatever has happened to the project since. Its hash covers clips, masks
 * and provenance; members are sorted and clips come in the order of their ids, so equal content gives equal bytes.
 */
#include "core/task/retrain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/metric/metric.h"

/* ---- options ---------------------------------------------------------------------------------------------------- */

const char *const retrain_members[] = {
#define X(name, member, type, def, min, max, help) name,
    RETRAIN_OPTIONS(X)
#undef X
        "min",
    "max_drop", NULL};

static int read_number(const json_t *params, const char *name, bool whole, double min, double max, double def,
                       double *out, struct err *e)
{
    const json_t *v = json_object_get(params, name);
    *out = def;
    if (!v || json_is_null(v))
        return 0;
    *out = json_number_value(v);
    if (!json_is_number(v) || (whole && !json_is_integer(v)) || !(*out >= min && *out <= max))
        return err_set(e, ERR_INVALID, "'%s' must be a %snumber from %g to %g", name, whole ? "whole " : "", min, max);
    return 0;
}

/* {"s_measure": 0.8} as "s_measure=0.8". */
static int read_gates(const json_t *params, const char *name, const char *def, char *out, size_t size, struct err *e)
{
    const json_t *o = json_object_get(params, name);
    const char *metric;
    json_t *v;
    size_t n = 0;
    snprintf(out, size, "%s", def);
    if (!o || json_is_null(o))
        return 0;
    out[0] = '\0';
    if (!json_is_object(o))
        return err_set(e, ERR_INVALID, "'%s' must be an object of metric: number", name);
    json_object_foreach((json_t *)(uintptr_t)o, metric, v)
    {
        if (metric_find(metric, strlen(metric)) < 0)
            return err_set(e, ERR_INVALID, "'%s': there is no metric '%.40s'", name, metric);
        if (!json_is_number(v) || !(fabs(json_number_value(v)) <= 1))
            return err_set(e, ERR_INVALID, "'%s': the limit of %s must be a number up to 1", name, metric);
        if (n + strlen(metric) + 32 > size)
            return err_set(e, ERR_INVALID, "'%s' has too many metrics", name);
        n += (size_t)snprintf(out + n, size - n, "%s%s=%.9g", n ? "," : "", metric, json_number_value(v));
    }
    return 0;
}

int retrain_parse(const json_t *params, struct retrain_opts *out, struct err *e)
{
    static const bool whole_double = false, whole_int64_t = true;
    double v = 0;
    int rc = 0;
    *out = (struct retrain_opts){0};
#define X(name, member, type, def, min, max, help)                                \
    if (!rc)                                                                      \
        rc = read_number(params, name, whole_##type, (min), (max), (def), &v, e); \
    out->member = (type)v;
    RETRAIN_OPTIONS(X)
#undef X
    if (!rc && out->size && (out->size < 64 || out->size % 16))
        rc = err_set(e, ERR_INVALID, "'size' must be 0 or a multiple of 16 from 64");
    if (!rc)
        rc = read_gates(params, "min", "", out->min, sizeof(out->min), e);
    if (!rc)
        rc = read_gates(params, "max_drop", "max_f=0.02,mae=0.01", out->max_drop, sizeof(out->max_drop), e);
    return rc;
}

/* ---- the split -------------------------------------------------------------------------------------------------- */

struct draft_clip {
    json_t *doc; /* of the manifest */
    json_t *labels;
    uint64_t rank;
    size_t sure; /* labels that people made or accepted */
    bool held;
};

static bool is_sure(const json_t *label)
{
    return strcmp(json_string_value(json_object_get(label, "state")), "accepted") == 0;
}

static void set_part(json_t *label, const char *part)
{
    json_object_set_new(label, "part", json_string(part));
}

/* A whole clip: sure labels measure, the rest is left alone; or everything trains. */
static void split_whole(struct draft_clip *c)
{
    for (size_t i = 0; i < json_array_size(c->labels); i++) {
        json_t *l = json_array_get(c->labels, i);
        set_part(l, !c->held ? "train" : is_sure(l) ? "held_out" : "unused");
    }
}

/* The last `share` of the sure labels measures; pseudo-labels that know a keyframe from there are left alone. */
static void split_tail(struct draft_clip *c, double share)
{
    size_t tail = (size_t)lround((double)c->sure * share), seen = 0;
    tail = tail < 1 ? 1 : tail;
    if (c->sure < 2)
        tail = 0;
    json_int_t cut = INT64_MAX;
    for (size_t i = 0; i < json_array_size(c->labels); i++) {
        json_t *l = json_array_get(c->labels, i);
        if (is_sure(l) && ++seen == c->sure - tail + 1 && tail)
            cut = json_integer_value(json_object_get(l, "frame"));
    }
    for (size_t i = 0; i < json_array_size(c->labels); i++) {
        json_t *l = json_array_get(c->labels, i);
        bool late = json_integer_value(json_object_get(l, "frame")) >= cut;
        bool leaks = json_integer_value(json_object_get(l, "right")) >= cut;
        set_part(l, late ? (is_sure(l) ? "held_out" : "unused") : leaks ? "unused" : "train");
    }
}

static int by_rank(const void *a, const void *b)
{
    const struct draft_clip *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static int by_id(const void *a, const void *b)
{
    const struct draft_clip *x = a, *y = b;
    return strcmp(json_string_value(json_object_get(x->doc, "id")), json_string_value(json_object_get(y->doc, "id")));
}

static bool split(struct draft_clip *c, size_t n, double share)
{
    size_t usable = 0;
    for (size_t i = 0; i < n; i++)
        usable += c[i].sure > 0;
    bool by_clip = usable >= 3;
    size_t want = (size_t)lround((double)usable * share);
    want = want < 1 ? 1 : want;
    qsort(c, n, sizeof(*c), by_rank);
    for (size_t i = 0; i < n; i++) {
        if (by_clip && c[i].sure > 0 && want > 0) {
            c[i].held = true;
            want--;
        }
        if (by_clip)
            split_whole(&c[i]);
        else
            split_tail(&c[i], share);
    }
    qsort(c, n, sizeof(*c), by_id);
    return by_clip;
}

/* ---- the snapshot ----------------------------------------------------------------------------------------------- */

struct draft {
    struct draft_clip *clips;
    size_t n, cap;
    double min_confidence;
};

static bool counts(const struct draft *d, const struct label_record *l)
{
    if (!l->sha256 || strcmp(l->state, "rejected") == 0)
        return false;
    if (strcmp(l->state, "accepted") == 0)
        return true;
    return strcmp(l->source, "pseudo") == 0 && !l->stale && l->confidence >= d->min_confidence;
}

static json_t *label_doc(const struct label_record *l)
{
    return json_pack("{s:I, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:s?, s:s?, s:s?}", "frame", (json_int_t)l->frame,
                     "source", l->source, "state", l->state, "sha256", l->sha256, "confidence", l->confidence, "left",
                     (json_int_t)l->left_frame, "right", (json_int_t)l->right_frame, "left_version",
                     (json_int_t)l->left_version, "right_version", (json_int_t)l->right_version, "model", l->model,
                     "model_sha256", l->model_sha256, "flow", l->flow);
}

static int draft_clip(struct store *s, const char *project_id, const struct clip_record *clip, struct draft *d,
                      struct err *e)
{
    struct label_filter f = {.clip_id = clip->id, .masks_only = true};
    struct label_list l = {0};
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 16;
        void *p = realloc(d->clips, cap * sizeof(*d->clips));
        if (!p)
            return err_set(e, ERR_NOMEM, "out of memory for a snapshot");
        d->clips = p;
        d->cap = cap;
    }
    int rc = label_list(s, project_id, &f, &l, e);
    struct draft_clip c = {.labels = json_array()};
    for (size_t i = 0; !rc && i < l.n; i++) {
        if (!counts(d, &l.items[i]))
            continue;
        c.sure += strcmp(l.items[i].state, "accepted") == 0;
        json_array_append_new(c.labels, label_doc(&l.items[i]));
    }
    label_list_fini(&l);
    if (rc || json_array_size(c.labels) == 0) {
        json_decref(c.labels);
        return rc;
    }
    c.rank = strtoull((char[17]){clip->sha256[0], clip->sha256[1], clip->sha256[2], clip->sha256[3], clip->sha256[4],
                                 clip->sha256[5], clip->sha256[6], clip->sha256[7], clip->sha256[8], clip->sha256[9],
                                 clip->sha256[10], clip->sha256[11], 0},
                      NULL, 16);
    c.doc = json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "id", clip->id, "sha256", clip->sha256, "frames",
                      (json_int_t)clip->frames, "width", (json_int_t)clip->width, "height", (json_int_t)clip->height,
                      "labels", c.labels);
    if (!c.doc)
        return err_set(e, ERR_NOMEM, "out of memory for a snapshot");
    d->clips[d->n++] = c;
    return 0;
}

static int draft_project(struct store *s, const char *project_id, struct draft *d, struct err *e)
{
    char cursor[ID_SIZE] = "";
    int rc = 0;
    for (bool more = true; more && !rc;) {
        struct clip_list l = {0};
        rc = project_clip_list(s, project_id, cursor[0] ? cursor : NULL, 1000, &l, e);
        for (size_t i = 0; !rc && i < l.n; i++)
            rc = draft_clip(s, project_id, &l.items[i], d, e);
        more = !rc && l.next_cursor;
        snprintf(cursor, sizeof(cursor), "%s", more ? l.next_cursor : "");
        clip_list_fini(&l);
    }
    return rc;
}

static int write_manifest(struct draft *d, bool by_clip, struct buf *manifest, struct err *e)
{
    json_t *clips = json_array();
    for (size_t i = 0; i < d->n; i++)
        json_array_append(clips, d->clips[i].doc);
    json_t *doc =
        json_pack("{s:i, s:s, s:o}", "format", 1, "held_out", by_clip ? "clips" : "intervals", "clips", clips);
    char *text = doc ? json_dumps(doc, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (text)
        buf_puts(manifest, text);
    free(text);
    json_decref(doc);
    return text && !manifest->failed ? 0 : err_set(e, ERR_NOMEM, "out of memory for a snapshot");
}

int retrain_snapshot(struct store *s, const char *project_id, const struct retrain_opts *o, struct buf *manifest,
                     struct err *e)
{
    struct draft d = {.min_confidence = o->min_confidence};
    struct retrain_set set = {0};
    int rc = draft_project(s, project_id, &d, e);
    if (!rc) {
        bool by_clip = d.n > 0 && split(d.clips, d.n, o->holdout);
        rc = write_manifest(&d, by_clip, manifest, e);
    }
    for (size_t i = 0; i < d.n; i++)
        json_decref(d.clips[i].doc);
    free(d.clips);
    if (!rc)
        rc = retrain_load(manifest, &set, e);
    if (!rc && (set.n_train < 1 || set.n_held < 1))
        rc = err_set(e, ERR_INVALID,
                     "too few labels: %lld to train on and %lld to measure with; mask more keyframes or accept more "
                     "labels",
                     (long long)set.n_train, (long long)set.n_held);
    retrain_set_free(&set);
    return rc;
}

/* ---- reading it back -------------------------------------------------------------------------------------------- */

static int load_label(const json_t *doc, struct retrain_label *l, struct err *e)
{
    const char *part = json_string_value(json_object_get(doc, "part"));
    *l = (struct retrain_label){.frame = json_integer_value(json_object_get(doc, "frame")),
                                .sha256 = json_string_value(json_object_get(doc, "sha256")),
                                .source = json_string_value(json_object_get(doc, "source")),
                                .state = json_string_value(json_object_get(doc, "state")),
                                .confidence = json_number_value(json_object_get(doc, "confidence"))};
    if (!l->sha256 || !l->source || !l->state || !part || l->frame < 0)
        return err_set(e, ERR_CORRUPT, "the snapshot holds a label that is not one");
    l->part = strcmp(part, "train") == 0      ? RETRAIN_TRAIN
              : strcmp(part, "held_out") == 0 ? RETRAIN_HELD_OUT
                                              : RETRAIN_UNUSED;
    return 0;
}

static int load_clip(const json_t *doc, struct retrain_clip *c, struct err *e)
{
    const json_t *labels = json_object_get(doc, "labels");
    *c = (struct retrain_clip){.id = json_string_value(json_object_get(doc, "id")),
                               .sha256 = json_string_value(json_object_get(doc, "sha256"))};
    if (!c->id || !id_valid(c->id) || !c->sha256)
        return err_set(e, ERR_CORRUPT, "the snapshot holds a clip that is not one");
    c->labels = calloc(json_array_size(labels) + 1, sizeof(*c->labels));
    if (!c->labels)
        return err_set(e, ERR_NOMEM, "out of memory for a snapshot");
    for (size_t i = 0; i < json_array_size(labels); i++) {
        int rc = load_label(json_array_get(labels, i), &c->labels[c->n], e);
        if (rc)
            return rc;
        c->n_train += c->labels[c->n].part == RETRAIN_TRAIN;
        c->n_held += c->labels[c->n].part == RETRAIN_HELD_OUT;
        c->n++;
    }
    return 0;
}

int retrain_load(const struct buf *manifest, struct retrain_set *out, struct err *e)
{
    json_error_t je;
    *out = (struct retrain_set){.doc = json_loadb(manifest->data ? manifest->data : "", manifest->len, 0, &je)};
    const json_t *clips = json_object_get(out->doc, "clips");
    const char *held = json_string_value(json_object_get(out->doc, "held_out"));
    int rc = json_is_array(clips) && held ? 0 : err_set(e, ERR_CORRUPT, "the snapshot is not a manifest");
    if (!rc && !(out->clips = calloc(json_array_size(clips) + 1, sizeof(*out->clips))))
        rc = err_set(e, ERR_NOMEM, "out of memory for a snapshot");
    out->by_clip = held && strcmp(held, "clips") == 0;
    for (size_t i = 0; !rc && i < json_array_size(clips); i++) {
        rc = load_clip(json_array_get(clips, i), &out->clips[out->n++], e);
        out->n_train += (int64_t)out->clips[out->n - 1].n_train;
        out->n_held += (int64_t)out->clips[out->n - 1].n_held;
    }
    if (rc)
        retrain_set_free(out);
    return rc;
}

void retrain_set_free(struct retrain_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        free(set->clips[i].labels);
    free(set->clips);
    json_decref(set->doc);
    *set = (struct retrain_set){0};
}
