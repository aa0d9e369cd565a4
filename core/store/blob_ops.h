/* blob_ops.h: the table of functions a blob backend fills in. Contracts are those of blob.h; keys and prefixes are
 * valid. Inside core/store only. */
#ifndef CORE_STORE_BLOB_OPS_H
#define CORE_STORE_BLOB_OPS_H

#include "core/store/blob.h"

struct blob_ops {
    const char *scheme; /* what the URL begins with; "" takes what is left */
    int (*open)(const char *url, const struct blobs_opts *opts, struct blobs **out, struct err *e);
    void (*close)(struct blobs *b);
    int64_t (*free_bytes)(struct blobs *b);
    int (*temp)(struct blobs *b, char out[FS_PATH_MAX], struct err *e);
    int (*put_file)(struct blobs *b, const char *key, const char *path, bool move, struct err *e);
    int (*writer_open)(struct blobs *b, const char *key, struct blob_writer **out, struct err *e);
    int (*write)(struct blob_writer *w, const void *data, size_t len, struct err *e);
    int (*commit)(struct blob_writer *w, struct err *e); /* frees */
    void (*abort)(struct blob_writer *w);                /* frees */
    int (*stat)(struct blobs *b, const char *key, struct blob_stat *out, struct err *e);
    int (*reader_open)(struct blobs *b, const char *key, int64_t offset, int64_t len, struct blob_reader **out,
                       struct err *e);
    int64_t (*read)(struct blob_reader *r, void *out, size_t cap, struct err *e);
    void (*reader_close)(struct blob_reader *r);
    int (*local_path)(struct blobs *b, const char *key, char out[FS_PATH_MAX], struct err *e);   /* NULL: never local */
    int (*presign)(struct blobs *b, const char *key, int ttl_s, struct buf *out, struct err *e); /* NULL: cannot */
    int (*del)(struct blobs *b, const char *key, struct err *e);
    int (*list)(struct blobs *b, const char *prefix, blob_list_fn *fn, void *arg, struct err *e);
};

/* First members of each backend's structs. */
struct blobs {
    const struct blob_ops *ops;
};
struct blob_writer {
    struct blobs *b;
};
struct blob_reader {
    struct blobs *b;
};

extern const struct blob_ops blob_disk, blob_s3;

#endif
