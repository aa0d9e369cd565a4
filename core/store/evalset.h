/*
 * evalset.h: stored data sets that models are evaluated on: a zip of pictures and masks under a name.
 *
 * The bytes live once under datasets/<sha256>, whoever stored them; a name belongs to a tenant. Storing under a name that
 * is taken replaces what it means; evaluations under way keep the content they began with, since they name its hash.
 */
#ifndef CORE_STORE_EVALSET_H
#define CORE_STORE_EVALSET_H

#include "core/store/store.h"

/* clang-format off */
#define EVALSET_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(tenant) \
    TEXT(name) \
    TEXT(sha256) \
    INT(bytes) \
    INT(sequences) \
    INT(frames) /* pictures; those without a mask are seen by models, but not measured */ \
    INT(masks) \
    INT(created_ms) /* of the name */ \
    INT(updated_ms)
/* clang-format on */

struct evalset {
    EVALSET_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
void evalset_fini(struct evalset *d);

struct evalset_list {
    struct evalset *items;
    size_t n;
    char *next_cursor;
};
void evalset_list_fini(struct evalset_list *l);

/* "datasets/<sha256>" */
#define EVALSET_KEY_SIZE (9 + SHA256_HEX_SIZE)
void evalset_key(const char *sha256, char out[EVALSET_KEY_SIZE]);

/* Stores the file at `path`, which is consumed on success, under d's tenant and name (d: also sequences, frames and
 * masks; the rest is filled in). *existed: the name was taken (may be NULL). */
int evalset_put(struct store *s, struct blobs *b, const char *path, const struct evalset *d, struct evalset *out,
                bool *existed, struct err *e);
int evalset_get(struct store *s, const char *tenant, const char *name, struct evalset *out,
                struct err *e); /* ERR_NOTFOUND */
/* A tenant's, by name. cursor: NULL or a next_cursor. */
int evalset_list(struct store *s, const char *tenant, const char *cursor, int limit, struct evalset_list *out,
                 struct err *e);
int evalset_delete(struct store *s, const char *tenant, const char *name, struct err *e); /* ERR_NOTFOUND */

#endif
