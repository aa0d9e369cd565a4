/*
 * access.h: API keys. A key is a secret of 256 random bits that is shown once; the store keeps its SHA-256 (a secret of
 * that entropy needs no slow hash), what it may do and whose resources it sees.
 *
 * Revoking and rotating keep the row, so that a service that once had keys never becomes open again by itself.
 */
#ifndef CORE_STORE_ACCESS_H
#define CORE_STORE_ACCESS_H

#include "core/store/store.h"

/* clang-format off */
#define API_KEY_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) \
    TEXT(name) \
    TEXT(tenant)     /* whose resources it sees and makes; "": everybody's */ \
    TEXT(scopes)     /* names of access_scope.def, comma-separated */ \
    TEXT(key_sha256) /* of the secret, hex */ \
    TEXT(previous_sha256) /* of the secret before the last rotation, good until previous_until_ms; NULL */ \
    INT(previous_until_ms) \
    INT(created_ms) \
    INT(expires_ms) /* 0: never */ \
    INT(revoked_ms)
/* clang-format on */

struct api_key {
    API_KEY_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
void api_key_fini(struct api_key *k);

struct api_key_list {
    struct api_key *items;
    size_t n;
};
void api_key_list_fini(struct api_key_list *l);

#define API_KEY_PREFIX "salient_"
#define API_KEY_SECRET_SIZE (sizeof(API_KEY_PREFIX) + 64)

enum access_scope {
#define SCOPE(symbol, name, help) SCOPE_##symbol,
#include "core/store/access_scope.def"
#undef SCOPE
    SCOPE_COUNT
};
const char *access_scope_name(enum access_scope s);
/* The set of scopes in a comma-separated list, as bits 1 << scope; `admin` includes all. ERR_INVALID names a stranger. */
int access_scopes_parse(const char *text, unsigned *out, struct err *e);

/* Makes a key from k's name, tenant (NULL: ""), scopes and expires_ms. The secret is in `secret` and nowhere else. */
int api_key_add(struct store *s, const struct api_key *k, char secret[API_KEY_SECRET_SIZE], struct api_key *out,
                struct err *e);
/* All keys, also revoked and expired ones, oldest first. */
int api_key_list(struct store *s, struct api_key_list *out, struct err *e);
/* ERR_NOTFOUND; ERR_CONFLICT: it is revoked already. */
int api_key_revoke(struct store *s, const char *id, struct err *e);
/* A new secret; the old one stays good for grace_ms. ERR_NOTFOUND; ERR_CONFLICT: revoked. */
int api_key_rotate(struct store *s, const char *id, int64_t grace_ms, char secret[API_KEY_SECRET_SIZE],
                   struct api_key *out, struct err *e);

/* True when the key lets a secret with this SHA-256 in at now_ms. Takes the same time wherever hashes differ. */
bool api_key_matches(const struct api_key *k, const char sha256[SHA256_HEX_SIZE], int64_t now_ms);

#endif
