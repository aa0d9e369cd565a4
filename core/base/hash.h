/* SHA-256 (libcrypto), hex, and random identifiers. */
#ifndef CORE_BASE_HASH_H
#define CORE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define SHA256_HEX_SIZE 65
#define ID_SIZE 27 /* 26 characters and NUL */

struct sha256;                   /* streaming */
struct sha256 *sha256_new(void); /* NULL when out of memory */
void sha256_update(struct sha256 *h, const void *data, size_t len);
void sha256_final_hex(struct sha256 *h, char out[SHA256_HEX_SIZE]); /* also frees */
void sha256_discard(struct sha256 *h);
void sha256_hex(const void *data, size_t len, char out[SHA256_HEX_SIZE]);
int sha256_file_hex(const char *path, char out[SHA256_HEX_SIZE], struct err *e);
void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, unsigned char out[32]);
/* ULID-like id: 48-bit milliseconds then 80 random bits, Crockford base 32 in lower case; sorts by creation. */
void id_new(char out[ID_SIZE]);
/* 1 if `s` has the form of an id (26 characters of its alphabet), else 0: checked before an id enters a path. */
int id_valid(const char *s);
void random_bytes(void *out, size_t len); /* from the kernel; aborts if it has none */

#endif
