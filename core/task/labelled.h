/*
 * A zip of pictures and masks, taken apart by sequence: what a detector is run on, and what its maps are measured with.
 *
 * A component of an entry's path says what it is: JPEGImages, images, imgs, frames... hold pictures; Annotations, masks,
 * gt, ground-truth... masks. The other components, without DAVIS' 480p and without what all entries share in front, name
 * the sequence:
 *   DAVIS/JPEGImages/480p/bear/00000.jpg + DAVIS/Annotations/480p/bear/00000.png     sequence "bear"
 *   bear/Imgs/00000.png + bear/GT_object_level/00000.png                             sequence "bear" (DAVSOD)
 *   images/0001.jpg + masks/0001.png                                                 sequence "": photos, not a clip
 * A picture and its mask share sequence and stem. Every mask needs its picture; pictures without a mask are context.
 *
 * Entries are checked as unzip.h says. Errors name the entry.
 */
#ifndef CORE_TASK_LABELLED_H
#define CORE_TASK_LABELLED_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"
#include "core/media/unzip.h"

struct labelled_frame {
    const char *stem;
    size_t picture, mask; /* entries; mask LABELLED_NONE: has none */
};
#define LABELLED_NONE ((size_t)-1)

struct labelled_sequence {
    const char *name; /* "" for photos; else a relative path of plain components */
    size_t first, n;  /* frames, in natural order of their stems */
    size_t masks;
};

struct labelled;

/* label: the archive's name in messages. ERR_INVALID: no such layout, a mask without its picture, two files for one
 * frame, no masks; ERR_UNSUPPORTED: an image format that is not read; and unzip_open's. */
int labelled_open(const char *zip, const char *label, const struct unzip_limits *limits, struct labelled **out,
                  struct err *e);
void labelled_close(struct labelled *l); /* NULL is fine */
size_t labelled_sequences(const struct labelled *l, const struct labelled_sequence **out);
size_t labelled_frames(const struct labelled *l, const struct labelled_frame **out);
size_t labelled_masks(const struct labelled *l);
/* Writes the bytes of an entry to a file. */
int labelled_extract(const struct labelled *l, size_t entry, const char *path, struct err *e);
/* ".png", as the entry's name ends. */
const char *labelled_extension(const struct labelled *l, size_t entry);

#endif
