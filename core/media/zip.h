/*
 * Zip out, streamed: entries are stored (PNG and JPEG do not shrink), each with its CRC and size in front, so nothing
 * is ever rewritten and memory is the directory alone (about 60 bytes and the name per entry). zip64 where sizes or
 * counts need it (APPNOTE 6.3.9 sections 4.3, 4.5.3). Output is deterministic: the same entries give the same bytes.
 */
#ifndef CORE_MEDIA_ZIP_H
#define CORE_MEDIA_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* Takes all of data; 0 or a negative ERR_*, which stops the archive. */
typedef int (*zip_write_fn)(void *arg, const void *data, size_t len, struct err *e);

struct zip_writer;

struct zip_writer *zip_writer_new(zip_write_fn fn, void *arg); /* NULL when out of memory */
/* One whole entry. Name: UTF-8, '/' separated, not absolute, no ".." (ERR_INVALID). */
int zip_add(struct zip_writer *z, const char *name, const void *data, size_t len, struct err *e);
/* An entry in pieces, for what does not fit in memory: size and CRC-32 follow it in a data descriptor. */
int zip_begin(struct zip_writer *z, const char *name, struct err *e);
int zip_data(struct zip_writer *z, const void *data, size_t len, struct err *e);
int zip_end(struct zip_writer *z, struct err *e);
/* Writes the directory. Errors are sticky: after a failed call every later one fails with ERR_IO. */
int zip_finish(struct zip_writer *z, struct err *e);
int64_t zip_bytes(const struct zip_writer *z); /* written so far */
void zip_writer_free(struct zip_writer *z);    /* NULL is fine */
/* Bytes that zip_add takes for one entry, local part and directory part together, and those of the end records:
 * the size of an archive below 4 GiB and 65,535 entries is the sum, known before it is written. */
int64_t zip_entry_bytes(const char *name, int64_t len);
int64_t zip_end_bytes(void);

#endif
