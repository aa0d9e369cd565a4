/* What the registry's files share. Inside core/store only. */
#ifndef CORE_STORE_REGISTRY_INTERNAL_H
#define CORE_STORE_REGISTRY_INTERNAL_H

#include "core/store/job.h"
#include "core/store/registry.h"

#include <unistd.h>

extern const struct record record_alias, record_alias_event, record_snapshot, record_curve;

/* Serialises the changes of a model until the transaction ends. */
int model_lock(struct db *db, const char *model, struct err *e);
int version_get(struct db *db, const char *model, const char *version, struct registry_version *out, struct err *e);
int version_of_job(struct db *db, const char *job_id, struct registry_version *out, struct err *e);
/* Checks names, hashes the file and puts its blob. */
int version_store(struct store *s, struct blobs *b, const char *path, bool move, const struct registry_new *n,
                  char sha256[SHA256_HEX_SIZE], struct err *e);
/* In a write transaction: 0 inserted, 1 the model has these weights already; *out is the version. key NULL: no blob. */
int version_insert(struct db *db, const struct registry_new *n, const char *sha256, const char *key,
                   struct registry_version *out, struct err *e);

/* In a write transaction that holds the model: moves the alias and writes its history. `out` may be NULL. */
int alias_move(struct db *db, const struct registry_move *m, const char *action, struct registry_alias *out,
               struct err *e);
/* Whether an alias names the version, now or after rollbacks: 1, 0. */
int alias_may_return(struct db *db, const char *model, const char *version, struct err *e);

#endif
