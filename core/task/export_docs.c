/*
 * The documents of an archive: what is said about masks (coco, cvat), which sequences and objects there are (davis,
 * youtube-vos), and where labels came from (salient.json). Noted frame by frame, written at the end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/task/exchange_impl.h"

enum { CATEGORY = 1 };

static int no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, "no memory for the export");
}

int export_docs_init(struct export_docs *d, enum exchange_format f, struct err *e)
{
    *d = (struct export_docs){.format = f,
                              .salient = json_array(),
                              .images = json_array(),
                              .annotations = json_array(),
                              .videos = json_array(),
                              .tracks = json_array(),
                              .sequences = json_object()};
    return d->salient && d->images && d->annotations && d->videos && d->tracks && d->sequences ? 0 : no_memory(e);
}

void export_docs_fini(struct export_docs *d)
{
    json_t *all[] = {d->salient, d->images, d->annotations, d->videos, d->tracks, d->sequences};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        json_decref(all[i]);
    buf_free(&d->xml);
    buf_free(&d->sets);
}

int export_docs_clip(struct export_docs *d, const struct clip_record *c, const char *dir, int64_t pictures,
                     struct err *e)
{
    json_t *clip = json_pack("{s:s, s:s?, s:s, s:I, s:I, s:I, s:f, s:[]}", "dir", dir, "name", c->name, "sha256",
                             c->sha256, "frames", (json_int_t)c->frames, "width", (json_int_t)c->width, "height",
                             (json_int_t)c->height, "fps", c->fps, "labels");
    json_t *video = json_pack("{s:I, s:s, s:I, s:I, s:I, s:[]}", "id", (json_int_t)json_array_size(d->videos) + 1,
                              "name", dir, "width", (json_int_t)c->width, "height", (json_int_t)c->height, "length",
                              (json_int_t)pictures, "file_names");
    memset(d->open_tracks, 0, sizeof(d->open_tracks));
    buf_printf(&d->sets, "%s\n", dir);
    json_object_set_new(d->sequences, dir, json_pack("{s:{}}", "objects"));
    int rc = json_array_append_new(d->salient, clip) | json_array_append_new(d->videos, video);
    return rc || d->sets.failed ? no_memory(e) : 0;
}

/* ---- frames ----------------------------------------------------------------------------------------------------- */

static json_t *last_of(const json_t *array)
{
    return json_array_get(array, json_array_size(array) - 1);
}

static json_t *frame_or_null(int64_t frame)
{
    return frame >= 0 ? json_integer(frame) : json_null();
}

static int note_provenance(struct export_docs *d, const struct export_frame *f)
{
    const struct label_record *l = f->label;
    json_t *doc = json_pack("{s:s, s:I, s:s, s:s, s:f, s:o, s:o, s:s?, s:s?, s:s?}", "name", f->name, "frame",
                            (json_int_t)f->ordinal, "source", l->source, "state", l->state, "confidence", l->confidence,
                            "left", frame_or_null(l->left_frame), "right", frame_or_null(l->right_frame), "model",
                            l->model, "model_sha256", l->model_sha256, "flow", l->flow);
    return json_array_append_new(json_object_get(last_of(d->salient), "labels"), doc);
}

static int note_sequence(struct export_docs *d, const struct export_frame *f)
{
    json_t *objects = json_object_get(json_object_get(d->sequences, f->dir), "objects");
    int rc = 0;
    for (int v = 1; v < 256 && rc == 0; v++) {
        char number[8];
        snprintf(number, sizeof(number), "%d", v);
        if (!f->mask->present[v])
            continue;
        if (!json_object_get(objects, number))
            json_object_set_new(objects, number, json_pack("{s:s, s:[]}", "category", "object", "frames"));
        rc = json_array_append_new(json_object_get(json_object_get(objects, number), "frames"), json_string(f->name));
    }
    return rc;
}

/* The track of an object in the clip that is being written; a new one has nothing in the frames before. */
static json_t *track_of(struct export_docs *d, const struct export_frame *f, int label)
{
    if (d->open_tracks[label])
        return d->open_tracks[label];
    json_t *t = json_pack("{s:I, s:I, s:i, s:i, s:i, s:I, s:I, s:I, s:[], s:[], s:[]}", "id", (json_int_t)++d->ntracks,
                          "video_id", (json_int_t)json_array_size(d->videos), "category_id", CATEGORY, "label", label,
                          "iscrowd", 0, "width", (json_int_t)f->clip->width, "height", (json_int_t)f->clip->height,
                          "length", json_integer_value(json_object_get(last_of(d->videos), "length")), "segmentations",
                          "bboxes", "areas");
    for (int64_t i = 0; t && i < f->position; i++) {
        json_array_append_new(json_object_get(t, "segmentations"), json_null());
        json_array_append_new(json_object_get(t, "bboxes"), json_null());
        json_array_append_new(json_object_get(t, "areas"), json_null());
    }
    if (!t || json_array_append_new(d->tracks, t))
        return NULL;
    return d->open_tracks[label] = t;
}

static int note_object(struct export_docs *d, const struct export_frame *f, int label, int64_t image)
{
    struct rle_box b = rle_bounds(f->mask->labels, label);
    struct buf counts = BUF_INIT;
    rle_coco_encode(f->mask->labels, label, &counts);
    json_t *t = track_of(d, f, label);
    json_t *rle = json_pack("{s:[i,i], s:s}", "size", f->mask->labels->height_px, f->mask->labels->width_px, "counts",
                            counts.data ? counts.data : ""),
           *box = json_pack("[i,i,i,i]", b.x0, b.y0, b.x1 - b.x0 + 1, b.y1 - b.y0 + 1), *area = json_integer(b.area);
    json_t *a =
        t ? json_pack("{s:I, s:I, s:i, s:O, s:i, s:i, s:O, s:O, s:O}", "id", (json_int_t)++d->nannotations, "image_id",
                      (json_int_t)image, "category_id", CATEGORY, "track_id", json_object_get(t, "id"), "label", label,
                      "iscrowd", 0, "area", area, "bbox", box, "segmentation", rle)
          : NULL;
    int rc = counts.failed || !a ? -1 : json_array_append(d->annotations, a);
    if (rc == 0 && !json_object_get(t, "image_id")) { /* so that readers of images can load the file of tracks, too */
        json_object_set_new(t, "image_id", json_integer(image));
        json_object_set(t, "segmentation", rle);
        json_object_set(t, "bbox", box);
        json_object_set(t, "area", area);
    }
    if (rc == 0)
        rc = json_array_append(json_object_get(t, "segmentations"), rle) |
             json_array_append(json_object_get(t, "bboxes"), box) |
             json_array_append(json_object_get(t, "areas"), area);
    json_decref(a);
    json_decref(rle);
    json_decref(box);
    json_decref(area);
    buf_free(&counts);
    return rc;
}

static int note_coco(struct export_docs *d, const struct export_frame *f)
{
    json_t *file = json_sprintf("%s/%s.jpg", f->dir, f->name), *video = last_of(d->videos);
    int64_t id = ++d->nimages;
    json_t *image = json_pack("{s:I, s:O, s:I, s:I, s:O, s:I}", "id", (json_int_t)id, "file_name", file, "width",
                              (json_int_t)f->clip->width, "height", (json_int_t)f->clip->height, "video_id",
                              json_object_get(video, "id"), "frame_id", (json_int_t)f->ordinal);
    int rc = json_array_append_new(json_object_get(video, "file_names"), file);
    rc |= json_array_append_new(d->images, image);
    for (int v = 1; v < 256 && rc == 0; v++) {
        if (f->mask->present[v])
            rc = note_object(d, f, v, id);
        else if (d->open_tracks[v])
            rc = json_array_append_new(json_object_get(d->open_tracks[v], "segmentations"), json_null()) |
                 json_array_append_new(json_object_get(d->open_tracks[v], "bboxes"), json_null()) |
                 json_array_append_new(json_object_get(d->open_tracks[v], "areas"), json_null());
    }
    return rc;
}

static int note_cvat(struct export_docs *d, const struct export_frame *f)
{
    buf_printf(&d->xml, "  <image id=\"%lld\" name=\"%s/%s.jpg\" width=\"%lld\" height=\"%lld\">\n",
               (long long)d->nimages++, f->dir, f->name, (long long)f->clip->width, (long long)f->clip->height);
    for (int v = 1; v < 256; v++) {
        if (!f->mask->present[v])
            continue;
        struct rle_box b = rle_bounds(f->mask->labels, v);
        const char *source = strcmp(f->label->source, "manual") == 0 ? "manual" : "semi-auto";
        buf_printf(&d->xml, "    <mask label=\"object_%d\" source=\"%s\" occluded=\"0\" rle=\"", v, source);
        rle_cvat_encode(f->mask->labels, v, &b, &d->xml);
        buf_printf(&d->xml, "\" left=\"%d\" top=\"%d\" width=\"%d\" height=\"%d\" z_order=\"0\">\n    </mask>\n", b.x0,
                   b.y0, b.x1 - b.x0 + 1, b.y1 - b.y0 + 1);
        d->objects[v] = true;
    }
    buf_puts(&d->xml, "  </image>\n");
    return d->xml.failed ? -1 : 0;
}

int export_docs_frame(struct export_docs *d, const struct export_frame *f, struct err *e)
{
    int rc = 0;
    if (d->format == EXCHANGE_COCO)
        rc = note_coco(d, f);
    else if (d->format == EXCHANGE_CVAT)
        rc = note_cvat(d, f);
    else if (d->format == EXCHANGE_YOUTUBE_VOS && f->label)
        rc = note_sequence(d, f);
    if (rc == 0 && f->label)
        rc = note_provenance(d, f);
    return rc ? no_memory(e) : 0;
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

/* Takes the reference. */
static int add_json(struct zip_writer *zip, const char *name, json_t *doc, struct err *e)
{
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    int rc = text ? zip_add(zip, name, text, strlen(text), e) : no_memory(e);
    free(text);
    return rc;
}

static int add_text(struct zip_writer *zip, const char *name, const struct buf *b, struct err *e)
{
    return b->failed ? no_memory(e) : zip_add(zip, name, b->data ? b->data : "", b->len, e);
}

static int write_coco(struct export_docs *d, struct zip_writer *zip, struct err *e)
{
    json_t *info = json_pack("{s:s, s:s}", "description", "Exported by salient", "version", "1"),
           *categories = json_pack("[{s:i, s:s, s:s}]", "id", CATEGORY, "name", "object", "supercategory", "object");
    int rc =
        add_json(zip, "annotations.json",
                 json_pack("{s:O, s:O, s:O, s:O, s:O, s:O}", "info", info, "videos", d->videos, "images", d->images,
                           "annotations", d->annotations, "categories", categories, "salient", d->salient),
                 e);
    if (rc == 0)
        rc = add_json(zip, "ytvis.json",
                      json_pack("{s:O, s:O, s:O, s:O, s:O}", "info", info, "videos", d->videos, "images", d->images,
                                "annotations", d->tracks, "categories", categories),
                      e);
    json_decref(info);
    json_decref(categories);
    return rc;
}

static int write_cvat(struct export_docs *d, struct zip_writer *zip, struct err *e)
{
    struct buf b = BUF_INIT;
    buf_printf(&b,
               "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n"
               "    <task>\n      <name>salient</name>\n      <size>%lld</size>\n      <mode>annotation</mode>\n"
               "      <labels>\n",
               (long long)d->nimages);
    for (int v = 1; v < 256; v++)
        if (d->objects[v])
            buf_printf(&b,
                       "        <label>\n          <name>object_%d</name>\n          <type>mask</type>\n"
                       "          <attributes>\n          </attributes>\n        </label>\n",
                       v);
    buf_puts(&b, "      </labels>\n    </task>\n  </meta>\n");
    buf_append(&b, d->xml.data ? d->xml.data : "", d->xml.len);
    buf_puts(&b, "</annotations>\n");
    int rc = add_text(zip, "annotations.xml", &b, e);
    buf_free(&b);
    return rc;
}

int export_docs_write(struct export_docs *d, struct zip_writer *zip, struct err *e)
{
    int rc = 0;
    if (d->format == EXCHANGE_COCO)
        return write_coco(d, zip, e);
    if (d->format == EXCHANGE_DAVIS) {
        rc = add_text(zip, "ImageSets/2017/train.txt", &d->sets, e);
        rc = rc ? rc : add_text(zip, "ImageSets/2017/val.txt", &d->sets, e);
    } else if (d->format == EXCHANGE_YOUTUBE_VOS) {
        rc = add_json(zip, "meta.json", json_pack("{s:O}", "videos", d->sequences), e);
    } else {
        rc = write_cvat(d, zip, e);
    }
    return rc ? rc
              : add_json(zip, "salient.json",
                         json_pack("{s:i, s:s, s:O}", "version", 1, "format", exchange_format_name(d->format), "clips",
                                   d->salient),
                         e);
}
