/* exchange_impl.h: what export and import share. */
#ifndef CORE_TASK_EXCHANGE_IMPL_H
#define CORE_TASK_EXCHANGE_IMPL_H

#include <jansson.h>

#include "core/base/buf.h"
#include "core/media/entries.h"
#include "core/media/labelmap.h"
#include "core/media/unzip.h"
#include "core/task/exchange.h"

/* ---- masks as run lengths (exchange_rle.c) */

struct rle_box {        /* of one object */
    int x0, y0, x1, y1; /* inclusive; x1 < x0: empty */
    int64_t area;
};
struct rle_box rle_bounds(const struct frame *labels, int label);
/* COCO: columns first, counts packed as in maskApi.c. The text ends with NUL. */
void rle_coco_encode(const struct frame *labels, int label, struct buf *out);
/* Paints `label` where the runs say; the sum of the runs must be width x height. ERR_CORRUPT. */
int rle_coco_decode(const char *counts, struct frame *labels, int label, struct err *e);
int rle_counts_paint(const json_t *counts, struct frame *labels, int label, struct err *e); /* not packed */
/* CVAT: rows first, inside the bounding box, "3, 5, 2". */
void rle_cvat_encode(const struct frame *labels, int label, const struct rle_box *box, struct buf *out);
int rle_cvat_decode(const char *text, const struct rle_box *box, struct frame *labels, int label, struct err *e);

/* ---- pictures of a stored clip as JPEG (exchange_frames.c) */

struct exchange_frames {
    char path[FS_PATH_MAX];
    bool copy; /* remove the file at the end */
    struct unzip *zip;
    struct entries entries;
    bool own_names; /* the entries' names are numbers of one length */
    struct clip *clip;
    int64_t next; /* frame that clip_next gives */
};
int exchange_frames_open(struct exchange_frames *f, struct blobs *b, const struct clip_record *c, struct err *e);
/* The n-th picture, appended. Calls in rising order are quick. */
int exchange_frames_jpeg(struct exchange_frames *f, int64_t n, struct buf *out, struct err *e);
#define EXCHANGE_NAME_SIZE 32
const char *exchange_frames_name(const struct exchange_frames *f, int64_t n, char out[EXCHANGE_NAME_SIZE]);
/* The frame of that name among the clip's, or -1. */
int64_t exchange_frames_find(const struct exchange_frames *f, const char *name, int64_t frames);
void exchange_frames_close(struct exchange_frames *f);

/* A name for a sequence's folder from the clip's: letters, digits, '.', '_' and '-'. */
#define EXCHANGE_DIR_SIZE 80
void exchange_dir(const struct clip_record *c, char out[EXCHANGE_DIR_SIZE]);

/* ---- documents (export_docs.c) */

struct export_docs {
    enum exchange_format format;
    json_t *salient;              /* array of clips */
    json_t *images, *annotations; /* coco */
    json_t *videos, *tracks;      /* ytvis */
    json_t *sequences;            /* youtube-vos: name -> {objects} */
    struct buf xml, sets;         /* cvat; davis */
    int64_t nannotations, nimages, ntracks;
    bool objects[256];        /* cvat: labels that occur */
    json_t *open_tracks[256]; /* of the clip that is being written, borrowed; by label */
};
struct export_frame { /* what is said about a frame */
    const char *dir, *name;
    const struct clip_record *clip;
    const struct label_record *label; /* NULL: none */
    const struct labelmap *mask;
    int64_t ordinal, position; /* among the clip's frames; among those in the archive */
};
int export_docs_init(struct export_docs *d, enum exchange_format f, struct err *e);
void export_docs_fini(struct export_docs *d);
/* pictures: frames of the clip in the archive. */
int export_docs_clip(struct export_docs *d, const struct clip_record *c, const char *dir, int64_t pictures,
                     struct err *e);
int export_docs_frame(struct export_docs *d, const struct export_frame *f, struct err *e);
/* Writes the documents into the archive. */
int export_docs_write(struct export_docs *d, struct zip_writer *zip, struct err *e);

#endif
