/* s3.h: the S3 client under blob_s3.c: signed requests with retries, and the little XML S3 answers with. Inside core/store only. */
#ifndef CORE_STORE_S3_H
#define CORE_STORE_S3_H

#include <pthread.h>

#include "core/store/blob_ops.h"
#include "core/store/sigv4.h"

/* ---- XML -------------------------------------------------------------------------------------------------------- */

/* A cursor over the elements of a document in their order. Never reads beyond `end`; anything malformed ends the walk. */
struct xml {
    const char *p, *end;
};
enum xml_event { XML_END, XML_OPEN, XML_CLOSE };
#define XML_NAME_MAX 64
/* Moves to the next tag. `name` gets its local name (prefix and attributes dropped); for XML_CLOSE, `text` (may be NULL) gets the decoded
 * text since the last tag. An empty element is one CLOSE. Comments, CDATA and processing instructions are skipped. */
enum xml_event xml_next(struct xml *x, char name[XML_NAME_MAX], struct buf *text);

/* ---- client ----------------------------------------------------------------------------------------------------- */

struct s3 {
    struct blobs base;
    char *endpoint;   /* "https://host:port", without a path */
    const char *host; /* in endpoint */
    char *root;       /* "/bucket/" (path style) or "/" */
    char *prefix;     /* "" or "some/where/" */
    char *region, *access, *secret, *token, *ca_file, *temp_dir;
    pthread_mutex_t lock;
    struct s3_handle *idle; /* connections are kept with their handles */
};

struct s3_call {
    const char *method;
    const char *key; /* below the prefix; NULL: the bucket itself */
    struct sigv4_pair query[6];
    size_t nquery;
    const void *body;
    size_t body_len;
    int64_t range_from, range_to; /* inclusive; used when range_to >= range_from and method is GET */
    bool ranged;
};

struct s3_answer {
    int status;
    struct buf body;
    char etag[BLOB_ETAG_SIZE];
    int64_t length; /* Content-Length */
    int64_t modified_ms;
};
void s3_answer_fini(struct s3_answer *a);

/* Does the call, trying again (with a growing pause) when the server or the net fails in a way that may pass. 0 when the answer is 2xx; otherwise the
 * error, and answer->status tells. The answer must be finished either way. */
int s3_do(struct s3 *s, const struct s3_call *c, struct s3_answer *a, struct err *e);
int s3_client_init(struct s3 *s, struct err *e);
void s3_client_fini(struct s3 *s);
/* Path of a key on the server: root + prefix + key. */
void s3_path(const struct s3 *s, const char *key, struct buf *out);

#endif
