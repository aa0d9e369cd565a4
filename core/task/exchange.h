/*
 * Labelled clips out to, and in from, the formats of other tools. An archive is a zip:
 *   davis        JPEGImages/480p/SEQ/NAME.jpg, Annotations/480p/SEQ/NAME.png (palette), ImageSets/2017/{train,val}.txt
 *   youtube-vos  JPEGImages/SEQ/NAME.jpg, Annotations/SEQ/NAME.png (palette), meta.json
 *   coco         images/SEQ/NAME.jpg, annotations.json (an annotation for each object and image, with compressed RLE and a track_id)
 *                and ytvis.json (the same as tracks, with `segmentations`)
 *   cvat         images/SEQ/NAME.jpg, annotations.xml (CVAT for images 1.1, masks)
 * SEQ is the clip's name, NAME the frame's number (for clips of images whose names are numbers of one length: that name).
 * Where labels came from, their review and the clip's identity stand in salient.json, for coco in annotations.json: other tools
 * ignore it, an import reads it. Without it every mask is a keyframe.
 *
 * The same project gives the same bytes. Pictures are JPEG: those of an archive of JPEGs as they are, others encoded.
 */
#ifndef CORE_TASK_EXCHANGE_H
#define CORE_TASK_EXCHANGE_H

#include <stdbool.h>

#include "core/media/clip.h"
#include "core/media/zip.h"
#include "core/store/project.h"

enum exchange_format { EXCHANGE_DAVIS, EXCHANGE_COCO, EXCHANGE_YOUTUBE_VOS, EXCHANGE_CVAT, EXCHANGE_FORMATS };
const char *exchange_format_name(enum exchange_format f);
int exchange_format_parse(const char *name); /* or ERR_INVALID */

/* ---- export */

enum export_pictures {
    EXPORT_USUAL,    /* davis and coco: labelled; the others: all */
    EXPORT_LABELLED, /* frames that have a mask in the archive */
    EXPORT_ALL
};

struct export_opts {
    struct store *store; /* borrowed, like blobs */
    struct blobs *blobs;
    const char *project_id; /* copied */
    enum exchange_format format;
    unsigned states; /* pseudo-labels to take, bits 1 << LABEL_STATE_x; keyframes always go */
    enum export_pictures pictures;
};

struct export;

/* Reads the rows; what is exported is the project as it is now. The zip goes to fn. ERR_NOTFOUND. */
int export_open(const struct export_opts *o, zip_write_fn fn, void *arg, struct export **out, struct err *e);
/* Writes the next entries: 1, or 0 when the archive is complete. */
int export_step(struct export *x, struct err *e);
void export_close(struct export *x); /* NULL is fine */

/* ---- import */

struct import_opts {
    struct store *store;
    struct blobs *blobs;
    const char *project_id, *tenant;
    const char *path; /* of the zip */
    int format;       /* enum exchange_format; -1: tell by the entries */
    struct actor actor;
    /* Decodes every picture of a file in confinement, so that info->frames is exact (see clip_probe). */
    int (*probe)(void *arg, const char *path, struct clip_info *info, struct err *e);
    void *probe_arg;
};

struct import_result {
    enum exchange_format format;
    int64_t clips, keyframes, labels;
};

/*
 * Adds what the archive holds to a project, all or nothing. A sequence becomes the stored clip that salient.json names by its hash,
 * else a new clip of the archive's pictures, else, in an archive without pictures, the project's clip of that name.
 * ERR_INVALID: not such an archive, or a mask that is not its frame's size (named). ERR_UNSUPPORTED, ERR_CORRUPT, ERR_LIMIT of the
 * zip, the pictures or the masks. ERR_CONFLICT: another keyframe or accepted label stands there already.
 */
int import_run(const struct import_opts *o, struct import_result *out, struct err *e);

#endif
