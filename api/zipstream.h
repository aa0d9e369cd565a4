/*
 * The maps of a job as one zip, made while it is sent: the size is known before (from the job's index of maps), one map at a time
 * is in memory, and any range gives the bytes that the whole would have.
 */
#ifndef API_ZIPSTREAM_H
#define API_ZIPSTREAM_H

#include "api/http.h"
#include "core/store/blob.h"

/* The index of maps, a blob beside the folder maps/: a line per map, "ordinal TAB bytes TAB name", where name is the frame's own
 * (without extension) or empty. */
#define MAP_INDEX "maps.tsv"
#define MAP_NAME_FORMAT "maps/%05lld.png" /* blob of an ordinal, below the job's prefix */

struct zipstream;

/* prefix: "jobs/{id}/{epoch}/". ERR_NOTFOUND without an index. */
int zipstream_open(struct blobs *blobs, const char *prefix, struct zipstream **out, struct err *e);
int64_t zipstream_bytes(const struct zipstream *z);
void zipstream_range(struct zipstream *z, int64_t offset, int64_t len); /* before the first read; default: all */
/* http_stream functions. */
ssize_t zipstream_read(void *arg, int64_t pos, char *out, size_t cap);
void zipstream_close(void *arg); /* NULL is fine */

#endif
