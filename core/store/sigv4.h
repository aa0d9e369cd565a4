/*
 * sigv4.h: AWS Signature Version 4 (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html), for S3: paths are encoded
 * once. Inside core/store only.
 */
#ifndef CORE_STORE_SIGV4_H
#define CORE_STORE_SIGV4_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"

#define SIGV4_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGV4_DATE_SIZE 17 /* "20130524T000000Z" and NUL */

struct sigv4_key {
    const char *access, *secret;
    const char *region, *service; /* "us-east-1", "s3" */
};

struct sigv4_pair {
    const char *name, *value;
};

struct sigv4_request {
    const char *method;
    const char *path;               /* decoded: "/bucket/key" */
    const struct sigv4_pair *query; /* decoded, any order */
    size_t nquery;
    const struct sigv4_pair *headers; /* all to be signed, names in lower case, any order; host must be there */
    size_t nheaders;
    const char *payload_sha256; /* hex, or "UNSIGNED-PAYLOAD" */
    const char *date;           /* SIGV4_DATE_SIZE form */
};

#define SIGV4_PAIRS_MAX 16

void sigv4_date(int64_t wall_ms, char out[SIGV4_DATE_SIZE]);
/* Appends s with every byte but A-Za-z0-9-._~ (and '/' when keep_slash) as %XX. */
void sigv4_encode(struct buf *out, const char *s, int keep_slash);
/* Appends the canonical query: encoded, sorted, joined by '&'. Also what goes into the URL. */
void sigv4_query(struct buf *out, const struct sigv4_pair *query, size_t n);
/* Appends the value of the Authorization header. */
void sigv4_authorize(struct buf *out, const struct sigv4_key *key, const struct sigv4_request *r);
/* Appends "X-Amz-Algorithm=...&X-Amz-Signature=..." : the query that lets anybody do `r` (only host signed, payload free) for ttl_s seconds.
 * `token` may be NULL. */
void sigv4_presign(struct buf *out, const struct sigv4_key *key, const struct sigv4_request *r, int ttl_s,
                   const char *token);

#endif
