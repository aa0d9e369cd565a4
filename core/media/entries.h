/*
 * The images of a zip or a folder as a clip: which entries are frames, in what order, under what names. Paths come from
 * outside and are not trusted.
 */
#ifndef CORE_MEDIA_ENTRIES_H
#define CORE_MEDIA_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct entry {
    char *path;      /* as stored, '/' separated */
    char *name;      /* see clip_frame_name; after entries_finish */
    int64_t size;    /* bytes, unpacked; as claimed */
    size_t position; /* in the order it was added */
};

struct entries {
    struct entry *v;
    size_t n, cap;
};

/* ERR_INVALID for an absolute path, a "..", or an empty or overlong one. */
int entries_check_path(const char *path, struct err *e);
/* By extension, hidden files and macOS resource forks excluded. */
bool entries_is_image(const char *path);
int entries_add(struct entries *l, const char *path, int64_t size, size_t position, struct err *e);
/* Sorts in natural order and gives names; ERR_UNSUPPORTED when there is no image, ERR_INVALID when a path stands twice.
 */
int entries_finish(struct entries *l, struct err *e);
void entries_free(struct entries *l);
/* Last component of a path without its extension, made safe as a file name; malloc'ed, NULL when out of memory. */
char *entries_stem(const char *path);

#endif
