/*
 * Import: what the archive says is read first (import_read.c: sequences, their pictures and masks), then every sequence
 * gets its clip, every mask is checked against that clip and stored as a blob, and one transaction adds all of it to the
 * project. A failure before that leaves blobs without a row, which the sweep removes, and clips, which are removed here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/task/import_impl.h"

#define MASK_BYTES_MAX ((size_t)64 << 20)
#define SIDE_MAX 32768

/* ---- clips ------------------------------------------------------------------------------------------------------ */

static int write_file(void *arg, const void *data, size_t len, struct err *e)
{
    return fwrite(data, 1, len, arg) == len ? 0 : err_errno(e, "storing the pictures");
}

/* The pictures of a sequence as an archive of their own, under their own names. */
static int pack_pictures(struct import *im, const struct import_seq *s, const char *path, struct err *e)
{
    FILE *f = fopen(path, "wb");
    struct zip_writer *zip = f ? zip_writer_new(write_file, f) : NULL;
    struct buf bytes = BUF_INIT;
    int rc = !f ? err_errno(e, "storing the pictures") : zip ? 0 : err_set(e, ERR_NOMEM, "no memory for the pictures");
    for (size_t i = 0; i < s->pictures.n && rc == 0; i++) {
        const char *base = strrchr(s->pictures.v[i].path, '/');
        buf_reset(&bytes);
        rc = unzip_read(im->zip, s->pictures.v[i].position, &bytes, e);
        if (rc == 0)
            rc = zip_add(zip, base ? base + 1 : s->pictures.v[i].path, bytes.data, bytes.len, e);
    }
    if (rc == 0)
        rc = zip_finish(zip, e);
    zip_writer_free(zip);
    if (f && fclose(f) != 0 && rc == 0)
        rc = err_errno(e, "storing the pictures");
    buf_free(&bytes);
    return rc;
}

static int make_clip(struct import *im, struct import_seq *s, struct err *e)
{
    const struct import_opts *o = im->o;
    char path[FS_PATH_MAX], name[EXCHANGE_DIR_SIZE + 80];
    struct clip_info info = {0};
    bool existed = false;
    int rc = blobs_temp(o->blobs, path, e);
    if (rc)
        return rc;
    rc = pack_pictures(im, s, path, e);
    if (rc == 0)
        rc = o->probe(o->probe_arg, path, &info, e);
    if (rc == 0 && info.frames != (int64_t)s->pictures.n)
        rc = err_set(e, ERR_CORRUPT, "%lld of its %zu pictures can be read", (long long)info.frames, s->pictures.n);
    snprintf(name, sizeof(name), "%s.zip", s->dir);
    const struct clip_record c = {.tenant = (char *)(uintptr_t)o->tenant,
                                  .name = name,
                                  .frames = info.frames,
                                  .width = info.width_px,
                                  .height = info.height_px,
                                  .fps = json_number_value(json_object_get(s->salient, "fps")),
                                  .codec = info.codec};
    if (rc == 0)
        rc = clip_add(o->store, o->blobs, path, true, &c, &s->clip, &existed, e);
    s->made = rc == 0 && !existed;
    if (rc)
        unlink(path);
    return rc;
}

/* 1: the stored clip that the archive was made from. */
static int find_original(struct import *im, struct import_seq *s, struct err *e)
{
    const char *sha256 = json_string_value(json_object_get(s->salient, "sha256"));
    int rc = sha256 && strlen(sha256) == SHA256_HEX_SIZE - 1
                 ? clip_find(im->o->store, im->o->tenant, sha256, &s->clip, e)
                 : 0;
    if (rc != 1 || s->clip.frames == json_integer_value(json_object_get(s->salient, "frames")))
        return rc;
    clip_record_fini(&s->clip);
    return 0;
}

/* 1: the only clip of the project that an export would call so. */
static int find_by_name(struct import *im, struct import_seq *s, struct err *e)
{
    struct clip_list l;
    int found = 0;
    int rc = project_clip_list(im->o->store, im->o->project_id, NULL, 1000, &l, e);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        char dir[EXCHANGE_DIR_SIZE];
        exchange_dir(&l.items[i], dir);
        if (strcmp(dir, s->dir) != 0)
            continue;
        clip_record_fini(&s->clip);
        s->clip = l.items[i];
        l.items[i] = (struct clip_record){0};
        found++;
    }
    clip_list_fini(&l);
    return rc ? rc : found == 1;
}

static int give_clip(struct import *im, struct import_seq *s, struct err *e)
{
    int rc = find_original(im, s, e);
    if (rc == 0 && s->pictures.n > 0) {
        rc = make_clip(im, s, e);
        s->from_pictures = rc == 0;
        rc = rc ? rc : 1;
    }
    if (rc == 0)
        rc = find_by_name(im, s, e);
    if (rc == 0)
        rc = err_set(e, ERR_INVALID, "there are no pictures of it, and the project has no clip of that name");
    return rc < 0 ? err_wrap(e, "sequence '%.100s'", s->dir) : 0;
}

/* ---- masks ------------------------------------------------------------------------------------------------------ */

/* Which frame of the clip a picture's name means. */
static int find_ordinals(struct import *im, struct import_seq *s, struct err *e)
{
    struct exchange_frames f = {0};
    json_t *index = NULL;
    int rc =
        s->from_pictures ? import_pictures_index(s, &index, e) : exchange_frames_open(&f, im->o->blobs, &s->clip, e);
    for (size_t i = 0; i < s->nmasks && rc == 0; i++) {
        struct import_mask *m = &s->mask[i];
        const json_t *at = json_object_get(index, m->name);
        m->ordinal = !s->from_pictures ? exchange_frames_find(&f, m->name, s->clip.frames)
                     : at              ? json_integer_value(at)
                                       : -1;
        if (m->ordinal < 0)
            rc = err_set(e, ERR_INVALID, "sequence '%.100s' has no picture '%.100s' for its mask", s->dir, m->name);
    }
    json_decref(index);
    exchange_frames_close(&f);
    return rc;
}

static int paint_mask(struct import *im, const struct import_mask *m, const struct clip_record *c, struct labelmap *out,
                      struct err *e)
{
    *out = (struct labelmap){0};
    if (m->width_px != c->width || m->height_px != c->height)
        return err_set(e, ERR_INVALID, "the mask is %lld x %lld, its frame %lld x %lld", (long long)m->width_px,
                       (long long)m->height_px, (long long)c->width, (long long)c->height);
    int rc = frame_new(FRAME_GRAY8, (int)c->width, (int)c->height, &out->labels, e);
    if (rc)
        return rc;
    memset(out->labels->data, 0, (size_t)out->labels->stride_bytes * (size_t)c->height);
    for (size_t i = 0; i < json_array_size(m->objects) && rc == 0; i++)
        rc = im->paint(json_array_get(m->objects, i), out->labels, e);
    labelmap_count(out);
    return rc;
}

static int read_mask(struct import *im, const struct import_mask *m, const struct clip_record *c, struct labelmap *out,
                     struct err *e)
{
    if (m->entry == SIZE_MAX)
        return paint_mask(im, m, c, out, e);
    struct buf png = BUF_INIT;
    *out = (struct labelmap){0};
    int rc = unzip_entry(im->zip, m->entry)->size > (int64_t)MASK_BYTES_MAX
                 ? err_set(e, ERR_LIMIT, "the mask is larger than %zu bytes", MASK_BYTES_MAX)
                 : unzip_read(im->zip, m->entry, &png, e);
    if (rc == 0)
        rc = labelmap_decode(png.data, png.len, (int)c->width, (int)c->height, out, e);
    buf_free(&png);
    return rc;
}

/* The stored mask of the frame says the same, in whatever form: 1 and its hash. */
static int same_as_stored(struct import *im, const struct import_seq *s, struct import_mask *m,
                          const struct labelmap *now, struct err *e)
{
    struct label_record l;
    struct labelmap was = {0};
    struct buf png = BUF_INIT;
    char key[MASK_KEY_SIZE];
    bool same = false;
    int rc = label_get(im->o->store, im->o->project_id, s->clip.id, m->ordinal, &l, NULL);
    if (rc == 0 && l.sha256) {
        mask_key(l.sha256, key);
        rc = blob_get(im->o->blobs, key, MASK_BYTES_MAX, &png, e);
        if (rc == 0)
            rc = labelmap_decode(png.data, png.len, (int)s->clip.width, (int)s->clip.height, &was, e);
        same = rc == 0;
        for (int y = 0; same && y < s->clip.height; y++)
            same = memcmp(was.labels->data + (ptrdiff_t)y * was.labels->stride_bytes,
                          now->labels->data + (ptrdiff_t)y * now->labels->stride_bytes, (size_t)s->clip.width) == 0;
        if (same)
            memcpy(m->sha256, l.sha256, sizeof(m->sha256));
    }
    labelmap_fini(&was);
    buf_free(&png);
    label_record_fini(&l);
    return rc == ERR_NOTFOUND || rc == 0 ? same : rc;
}

static int store_mask(struct import *im, const struct import_seq *s, struct import_mask *m, struct err *e)
{
    struct labelmap map = {0};
    struct buf png = BUF_INIT;
    int rc = read_mask(im, m, &s->clip, &map, e);
    if (rc == 0) {
        m->nobjects = map.objects;
        rc = same_as_stored(im, s, m, &map, e);
    }
    if (rc == 0) {
        rc = labelmap_encode(map.labels, &png, e);
        if (rc == 0)
            rc = mask_store(im->o->store, im->o->blobs, png.data, png.len, m->sha256, e);
    }
    labelmap_fini(&map);
    buf_free(&png);
    return rc < 0 ? err_wrap(e, "sequence '%.100s', mask '%.100s'", s->dir, m->name) : 0;
}

/* ---- provenance ------------------------------------------------------------------------------------------------- */

static const char *short_text(const json_t *doc, const char *name)
{
    const char *text = json_string_value(json_object_get(doc, name));
    return text && strlen(text) <= 200 ? text : NULL;
}

static int64_t frame_of(const json_t *doc, const char *name, int64_t frames)
{
    const json_t *v = json_object_get(doc, name);
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < frames ? json_integer_value(v)
                                                                                              : -1;
}

/* Name of a mask -> what salient.json says of it. */
static json_t *provenance(const struct import_seq *s)
{
    const json_t *labels = json_object_get(s->salient, "labels");
    json_t *index = json_object();
    for (size_t i = 0; i < json_array_size(labels); i++) {
        json_t *l = json_array_get(labels, i);
        const char *name = json_string_value(json_object_get(l, "name"));
        if (name)
            json_object_set(index, name, l);
    }
    return index;
}

static struct import_item item_of(const struct import_seq *s, const struct import_mask *m, const json_t *known)
{
    const json_t *doc = json_object_get(known, m->name);
    const char *source = short_text(doc, "source"), *state = short_text(doc, "state");
    double confidence = json_number_value(json_object_get(doc, "confidence"));
    struct import_item it = {.clip_id = s->clip.id,
                             .objects = m->nobjects,
                             .label = {.frame = m->ordinal,
                                       .source = LABEL_MANUAL,
                                       .confidence = 1,
                                       .left = -1,
                                       .right = -1,
                                       .sha256 = m->sha256}};
    if (!source || label_source_parse(source) != LABEL_PSEUDO)
        return it;
    int st = state ? label_state_parse(state) : ERR_INVALID;
    it.state = st < 0 ? LABEL_STATE_PROPOSED : (enum label_state)st;
    it.label.source = LABEL_PSEUDO;
    it.label.confidence = confidence >= 0 && confidence <= 1 ? confidence : 0;
    it.label.left = frame_of(doc, "left", s->clip.frames);
    it.label.right = frame_of(doc, "right", s->clip.frames);
    it.label.model = short_text(doc, "model");
    it.label.model_sha256 = short_text(doc, "model_sha256");
    it.label.flow = short_text(doc, "flow");
    return it;
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */

static int add_to_project(struct import *im, struct import_result *out, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < im->nseqs; i++)
        n += im->seq[i].nmasks;
    struct import_item *items = calloc(n + 1, sizeof(*items));
    const char **clips = calloc(im->nseqs + 1, sizeof(*clips));
    int rc = items && clips ? 0 : err_set(e, ERR_NOMEM, "no memory for the import");
    n = 0;
    for (size_t i = 0; rc == 0 && i < im->nseqs; i++) {
        json_t *known = provenance(&im->seq[i]);
        clips[i] = im->seq[i].clip.id;
        for (size_t k = 0; k < im->seq[i].nmasks; k++) {
            items[n] = item_of(&im->seq[i], &im->seq[i].mask[k], known);
            out->keyframes += items[n].label.source == LABEL_MANUAL;
            out->labels += items[n].label.source != LABEL_MANUAL;
            n++;
        }
        json_decref(known); /* the strings in items are the document's */
    }
    out->clips = (int64_t)im->nseqs;
    if (rc == 0)
        rc = project_import(im->o->store, im->o->project_id, clips, im->nseqs, items, n, &im->o->actor, e);
    free(items);
    free(clips);
    return rc;
}

static int import_sequences(struct import *im, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < im->nseqs && rc == 0; i++) {
        struct import_seq *s = &im->seq[i];
        rc = give_clip(im, s, e);
        if (rc == 0 && (s->clip.width > SIDE_MAX || s->clip.height > SIDE_MAX))
            rc = err_set(e, ERR_LIMIT, "sequence '%.100s': its pictures are too large", s->dir);
        if (rc == 0)
            rc = find_ordinals(im, s, e);
        for (size_t k = 0; k < s->nmasks && rc == 0; k++)
            rc = store_mask(im, s, &s->mask[k], e);
    }
    return rc;
}

int import_run(const struct import_opts *o, struct import_result *out, struct err *e)
{
    struct import im = {.o = o};
    *out = (struct import_result){0};
    int rc = import_read(&im, &out->format, e);
    if (rc == 0)
        rc = import_sequences(&im, e);
    if (rc == 0)
        rc = add_to_project(&im, out, e);
    for (size_t i = 0; i < im.nseqs && rc < 0; i++)
        if (im.seq[i].made)
            clip_delete(o->store, im.seq[i].clip.id, NULL);
    import_fini(&im);
    return rc;
}
