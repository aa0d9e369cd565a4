/*
 * Zip in, by name: the directory is read and checked once, then any entry can be read at any time, from any thread.
 * For archives whose entries are wanted in an order of the reader's own (evaluation pairs two archives); clip.h reads
 * zips as clips.
 *
 * Archives come from outside. Refused with the entry's name: absolute paths, "..", backslashes, symbolic links,
 * encryption, methods other than stored and deflate (ERR_UNSUPPORTED), entries over a limit (ERR_LIMIT), entries whose
 * packed bytes overlap or exceed the file, whose content differs from the size or checksum they claim (ERR_CORRUPT).
 */
#ifndef CORE_MEDIA_UNZIP_H
#define CORE_MEDIA_UNZIP_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"

struct unzip_limits {
    int64_t max_entries;     /* default 200,000 */
    int64_t max_entry_bytes; /* one entry, unpacked; default 256 MiB */
    int64_t max_bytes;       /* all entries, unpacked; default 16 GiB */
};

struct unzip_entry {
    char *name;   /* '/' separated, relative; folders are left out */
    int64_t size; /* unpacked, as claimed; unzip_read holds it to that */
    int64_t packed, offset;
    uint32_t crc;
    int method; /* 0 stored, 8 deflate */
};

struct unzip;

/* label: the archive's name in messages, NULL for its path. limits may be NULL; zeros are defaults. ERR_CORRUPT when the
 * file is not a zip or is damaged. */
int unzip_open(const char *path, const char *label, const struct unzip_limits *limits, struct unzip **out,
               struct err *e);
size_t unzip_count(const struct unzip *z);
const struct unzip_entry *unzip_entry(const struct unzip *z, size_t i);
/* Appends the entry's bytes to `out`. Any number of threads at once. */
int unzip_read(const struct unzip *z, size_t i, struct buf *out, struct err *e);
void unzip_close(struct unzip *z); /* NULL is fine */
/* 1 when the file starts like a zip, 0 when not or when it cannot be read. */
int unzip_sniff(const char *path);

#endif
