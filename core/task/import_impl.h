/* import_impl.h: what the files of the import share. */
#ifndef CORE_TASK_IMPORT_IMPL_H
#define CORE_TASK_IMPORT_IMPL_H

#include "core/task/exchange_impl.h"

struct import_mask {                   /* a mask of the archive */
    char name[EXCHANGE_NAME_SIZE * 4]; /* of its picture, without folder and extension */
    size_t entry;                      /* of its PNG; SIZE_MAX: painted from objects */
    json_t *objects;                   /* array of {label, and how it is drawn: see paint}; owned */
    int64_t width_px, height_px;       /* that the document claims; 0: none */
    int64_t ordinal;                   /* in its clip, once that is known */
    char sha256[SHA256_HEX_SIZE];      /* once it is stored */
    int64_t nobjects;
};

struct import_seq { /* a clip to be */
    char dir[EXCHANGE_NAME_SIZE * 4];
    struct import_mask *mask;
    size_t nmasks, cap;
    struct entries pictures; /* entry.position: in the zip */
    const json_t *salient;   /* what salient.json says of it; borrowed, or NULL */
    json_t *index;           /* name of a mask -> its position */
    struct clip_record clip;
    bool made;          /* the clip is new */
    bool from_pictures; /* the clip is that of the pictures, in their order */
};

struct import {
    const struct import_opts *o;
    struct unzip *zip;
    struct import_seq *seq;
    size_t nseqs, cap;
    json_t *index;    /* name of a sequence -> its position */
    json_t *document; /* coco: annotations.json */
    json_t *salient;  /* array of clips, or NULL */
    /* Draws an object of a mask that has no PNG. */
    int (*paint)(const json_t *object, struct frame *labels, struct err *e);
};

/* Opens the archive and fills `im`; import_fini either way. */
int import_read(struct import *im, enum exchange_format *format, struct err *e);
void import_fini(struct import *im);
/* The sequence, made when it is not there; NULL with the error set. Names: "" is "clip". */
struct import_seq *import_sequence(struct import *im, const char *dir, size_t len, struct err *e);
/* The mask of the picture DIR/NAME.EXT, made when it is not there; NULL with the error set. */
struct import_mask *import_mask_of(struct import *im, const char *picture, struct err *e);
/* Name -> position of the sequence's pictures, into *index (NULL before; json_decref it). */
int import_pictures_index(const struct import_seq *s, json_t **index, struct err *e);
/* The entry of this base name nearest to the archive's top: 1 and its bytes appended, 0 none. */
int import_document(struct import *im, const char *name, struct buf *out, struct err *e);

/* Fill the sequences with masks; the pictures are there. */
int import_coco(struct import *im, struct err *e);
int import_cvat(struct import *im, struct err *e);

#endif
