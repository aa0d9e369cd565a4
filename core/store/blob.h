/*
 * blob.h: bytes under keys: a directory by default, S3 beyond one machine, behind one table of functions.
 *
 * A key is 1..512 bytes of [A-Za-z0-9._-] in parts separated by single '/', no part being "." or ".." or starting with
 * '.'. It never leaves the root. Keys of the service: clips/<sha256>, jobs/{id}/{epoch}/maps/00000.png, masks/<sha256>.
 *
 * A blob appears whole or not at all, and is durable once a put returned 0. Putting over an existing key replaces it.
 * All functions may be called from any thread; a reader or writer belongs to one thread at a time.
 *
 * Errors: ERR_INVALID (bad key), ERR_NOTFOUND, ERR_FULL (also when less than min_free_bytes would stay free), ERR_IO,
 * ERR_NETWORK (S3 away, after retries), ERR_NOMEM.
 */
#ifndef CORE_STORE_BLOB_H
#define CORE_STORE_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/fs.h"

struct blobs;
struct blob_writer;
struct blob_reader;

#define BLOB_KEY_MAX 512
#define BLOB_ETAG_SIZE 72

struct blobs_opts {
    int64_t min_free_bytes; /* puts are refused below this; 0: 64 MiB. Local backends */
    const char *temp_dir;   /* S3: where blobs_temp files live; NULL: $TMPDIR or /tmp */
    bool no_fsync;          /* tests and throw-away data only */
};

struct blob_stat {
    int64_t bytes;
    int64_t modified_ms;
    char etag[BLOB_ETAG_SIZE]; /* without quotes; changes whenever the bytes do */
};

/* Opens a directory (created when missing) or "s3://BUCKET/PREFIX" (endpoint and keys from AWS_ENDPOINT_URL,
 * AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN). opts may be NULL. */
int blobs_open(const char *url, const struct blobs_opts *opts, struct blobs **out, struct err *e);
void blobs_close(struct blobs *b); /* NULL is fine */
/* Writes and removes a small blob: 0 when puts can work. */
int blobs_check(struct blobs *b, struct err *e);
/* Bytes that may still be put, or -1 when the backend has no bound. */
int64_t blobs_free_bytes(struct blobs *b);
int blob_key_valid(const char *key); /* 1, 0 */

/* Path of a new empty file beside the blobs: fill it, then blob_put_file(move) without a copy, or unlink it. Stale ones
 * go after a day. */
int blobs_temp(struct blobs *b, char out[FS_PATH_MAX], struct err *e);

int blob_put(struct blobs *b, const char *key, const void *data, size_t len, struct err *e);
/* With `move` the file is consumed on success (a rename when it stands on the same file system). */
int blob_put_file(struct blobs *b, const char *key, const char *path, bool move, struct err *e);
int blob_writer_open(struct blobs *b, const char *key, struct blob_writer **out, struct err *e);
int blob_write(struct blob_writer *w, const void *data, size_t len, struct err *e);
int blob_writer_commit(struct blob_writer *w, struct err *e); /* frees w, whatever it returns */
void blob_writer_abort(struct blob_writer *w);                /* frees w; NULL is fine */

int blob_stat(struct blobs *b, const char *key, struct blob_stat *out, struct err *e); /* ERR_NOTFOUND */
int blob_exists(struct blobs *b, const char *key, struct err *e);                      /* 1, 0, < 0 */
/* Reads [offset, offset+len); len < 0: to the end. ERR_LIMIT when the range does not begin inside the blob (offset == size is an empty read). A read
 * gives ERR_CONFLICT when a remote blob was replaced since the open; a local reader keeps the blob it opened. */
int blob_reader_open(struct blobs *b, const char *key, int64_t offset, int64_t len, struct blob_reader **out,
                     struct err *e);
int64_t blob_read(struct blob_reader *r, void *out, size_t cap, struct err *e); /* bytes, 0 at the end, < 0 error */
void blob_reader_close(struct blob_reader *r);                                  /* NULL is fine */
int blob_get(struct blobs *b, const char *key, size_t max_bytes, struct buf *out,
             struct err *e);                                                          /* appends; ERR_LIMIT */
int blob_get_file(struct blobs *b, const char *key, const char *path, struct err *e); /* a private copy at `path` */
/* 1 and the path when the blob is a local file (for sendfile, mmap, FFmpeg), 0 when the backend is remote; does not
 * check that it exists. */
int blob_local_path(struct blobs *b, const char *key, char out[FS_PATH_MAX], struct err *e);
/* 1 and a URL from which anybody may read the blob for ttl_s seconds, 0 when the backend has none. */
int blob_presign(struct blobs *b, const char *key, int ttl_s, struct buf *out, struct err *e);

int blob_delete(struct blobs *b, const char *key, struct err *e); /* a missing blob is success */
/* Removes every blob whose key begins with `prefix` (must end with '/'); *n counts them and may be NULL. */
int blob_delete_prefix(struct blobs *b, const char *prefix, int64_t *n, struct err *e);
/* Calls fn for each blob below `prefix` ("" or ending with '/'); the blobs of one folder come in byte order of their names, folders in the order of the
 * backend. fn returns 0 to go on, anything else ends the walk and is returned. */
typedef int blob_list_fn(void *arg, const char *key, const struct blob_stat *st);
int blob_list(struct blobs *b, const char *prefix, blob_list_fn *fn, void *arg, struct err *e);

#endif
