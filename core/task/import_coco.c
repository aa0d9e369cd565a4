/*
 * COCO in: annotations of images (`image_id`, `segmentation`) or of tracks (`video_id`, `segmentations`, as YTVIS), as
 * run lengths, packed or not. A mask's label is what we wrote as `label`, else the number of its track within the
 * sequence, else of the object within its picture. Objects are drawn in the order of the document.
 */
#include <stdlib.h>
#include <string.h>

#include "core/task/import_impl.h"

enum { LABEL_MAX = 255 };

struct coco {
    struct import *im;
    json_t *images, *videos; /* id as text -> document */
    json_t *tracks;          /* "sequence/track" -> label, and "sequence" -> how many */
};

static int id_text(const json_t *v, char out[24])
{
    if (!json_is_integer(v))
        return ERR_INVALID;
    snprintf(out, 24, "%lld", (long long)json_integer_value(v));
    return 0;
}

static json_t *index_by_id(const json_t *array)
{
    json_t *index = json_object();
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *doc = json_array_get(array, i);
        char id[24];
        if (id_text(json_object_get(doc, "id"), id) == 0)
            json_object_set(index, id, doc);
    }
    return index;
}

/* Its own label, or the number of its track in the sequence; 0: neither. */
static int label_of(struct coco *c, const json_t *a, const char *dir, size_t dir_len, struct err *e)
{
    const json_t *own = json_object_get(a, "label"), *track = json_object_get(a, "track_id");
    char id[24], key[400];
    if (json_is_integer(own) && json_integer_value(own) >= 1 && json_integer_value(own) <= LABEL_MAX)
        return (int)json_integer_value(own);
    if (!track)
        track = json_object_get(a, "instance_id");
    if (json_object_get(a, "segmentations"))
        track = json_object_get(a, "id");
    if (!track || id_text(track, id))
        return 0;
    snprintf(key, sizeof(key), "%.*s/%s", (int)(dir_len < 300 ? dir_len : 300), dir, id);
    json_t *known = json_object_get(c->tracks, key);
    if (known)
        return (int)json_integer_value(known);
    char count[310];
    snprintf(count, sizeof(count), "%.*s", (int)(dir_len < 300 ? dir_len : 300), dir);
    json_int_t n = json_integer_value(json_object_get(c->tracks, count)) + 1;
    if (n > LABEL_MAX)
        return err_set(e, ERR_LIMIT, "a sequence has more than %d objects", LABEL_MAX);
    json_object_set_new(c->tracks, count, json_integer(n));
    json_object_set_new(c->tracks, key, json_integer(n));
    return (int)n;
}

/* Notes one object of a picture. */
static int add_object(struct coco *c, const char *picture, const json_t *a, json_t *segmentation, int64_t width,
                      int64_t height, struct err *e)
{
    const char *slash = strrchr(picture, '/');
    int label = label_of(c, a, picture, slash ? (size_t)(slash - picture) : 0, e);
    struct import_mask *m = label < 0 ? NULL : import_mask_of(c->im, picture, e);
    if (!m)
        return e->code;
    if (!m->objects) {
        m->objects = json_array();
        m->width_px = width;
        m->height_px = height;
    }
    if (label == 0)
        label = (int)json_array_size(m->objects) + 1;
    if (label > LABEL_MAX)
        return err_set(e, ERR_LIMIT, "'%.200s' has more than %d objects", picture, LABEL_MAX);
    return json_array_append_new(m->objects, json_pack("{s:i, s:O}", "label", label, "segmentation", segmentation))
               ? err_set(e, ERR_NOMEM, "no memory for the import")
               : 0;
}

static int64_t side(const json_t *doc, const char *name)
{
    return json_integer_value(json_object_get(doc, name));
}

static int bad_reference(size_t i, struct err *e)
{
    return err_set(e, ERR_INVALID, "annotations.json: annotation %zu names no image or video of the document", i);
}

static int read_image_object(struct coco *c, size_t i, const json_t *a, struct err *e)
{
    char id[24];
    const json_t *image = id_text(json_object_get(a, "image_id"), id) == 0 ? json_object_get(c->images, id) : NULL;
    const char *file = json_string_value(json_object_get(image, "file_name"));
    json_t *segmentation = json_object_get(a, "segmentation");
    if (!file || !segmentation)
        return bad_reference(i, e);
    return add_object(c, file, a, segmentation, side(image, "width"), side(image, "height"), e);
}

static int read_track(struct coco *c, size_t i, const json_t *a, struct err *e)
{
    char id[24];
    const json_t *video = id_text(json_object_get(a, "video_id"), id) == 0 ? json_object_get(c->videos, id) : NULL;
    const json_t *files = json_object_get(video, "file_names"), *parts = json_object_get(a, "segmentations");
    if (!files || json_array_size(files) < json_array_size(parts))
        return bad_reference(i, e);
    int rc = 0;
    for (size_t k = 0; k < json_array_size(parts) && rc == 0; k++) {
        json_t *part = json_array_get(parts, k);
        const char *file = json_string_value(json_array_get(files, k));
        if (json_is_null(part))
            continue;
        rc = file ? add_object(c, file, a, part, side(video, "width"), side(video, "height"), e) : bad_reference(i, e);
    }
    return rc;
}

static int paint(const json_t *object, struct frame *labels, struct err *e)
{
    const json_t *s = json_object_get(object, "segmentation"), *counts = json_object_get(s, "counts"),
                 *size = json_object_get(s, "size");
    int label = (int)json_integer_value(json_object_get(object, "label"));
    if (!json_is_object(s) || !counts)
        return err_set(e, ERR_UNSUPPORTED, "polygons are no masks; convert them to run lengths");
    if (json_integer_value(json_array_get(size, 0)) != labels->height_px ||
        json_integer_value(json_array_get(size, 1)) != labels->width_px)
        return err_set(e, ERR_INVALID, "the mask's size is not that of its picture, %d x %d", labels->width_px,
                       labels->height_px);
    return json_is_string(counts) ? rle_coco_decode(json_string_value(counts), labels, label, e)
                                  : rle_counts_paint(counts, labels, label, e);
}

int import_coco(struct import *im, struct err *e)
{
    const json_t *annotations = json_object_get(im->document, "annotations");
    struct coco c = {.im = im,
                     .images = index_by_id(json_object_get(im->document, "images")),
                     .videos = index_by_id(json_object_get(im->document, "videos")),
                     .tracks = json_object()};
    im->paint = paint;
    int rc = json_is_array(annotations) ? 0 : err_set(e, ERR_INVALID, "annotations.json has no list of annotations");
    for (size_t i = 0; i < json_array_size(annotations) && rc == 0; i++) {
        const json_t *a = json_array_get(annotations, i);
        rc = json_object_get(a, "segmentations") ? read_track(&c, i, a, e) : read_image_object(&c, i, a, e);
    }
    json_decref(c.images);
    json_decref(c.videos);
    json_decref(c.tracks);
    return rc;
}
