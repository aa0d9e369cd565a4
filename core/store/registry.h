/*
 * registry.h: models with versions and aliases, dataset snapshots and training curves.
 *
 * A model is a name with one architecture. A version is a set of weights, known by the sha256 of its file, which is the
 * blob models/<sha256>; it never changes. Versions that came with the program ("builtin") may have no blob: every node
 * has them in its models folder. An alias names a version; `champion` is the one meant by a bare name. The first
 * version of a model becomes its champion.
 *
 * Every move of an alias is one compare-and-swap that raises its generation and leaves an entry in its history; so does
 * a move that a gate refused. Rolling back takes moves back one by one, newest first.
 *
 * A job says what it wants ("name", "name@version" or "name:alias"); what that is gets decided once, when a worker
 * begins the job (registry_pin), and stays through all its attempts.
 */
#ifndef CORE_STORE_REGISTRY_H
#define CORE_STORE_REGISTRY_H

#include "core/store/store.h"

#define REGISTRY_NAME_MAX 63 /* bytes of a model's, version's or alias' name */
#define REGISTRY_CHAMPION "champion"
#define REGISTRY_CHALLENGER "challenger"

/* clang-format off */
#define MODEL_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) /* its name */ \
    TEXT(arch) \
    INT(created_ms) \
    COUNT(versions, "(SELECT count(*) FROM model_versions v WHERE v.model_id = models.id)")

#define VERSION_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(model_id) \
    TEXT(version) \
    TEXT(origin) /* "builtin", "import", "train" */ \
    TEXT(sha256) /* of the weights file */ \
    TEXT(blob_key) /* NULL: only in the models folders */ \
    TEXT(info)    /* model.json */ \
    TEXT(metrics) /* JSON object or NULL; of a trained version what its job put out */ \
    TEXT(job_id) \
    TEXT(snapshot_id) \
    TEXT(parent_version) \
    INT(created_ms)

#define ALIAS_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(model_id) \
    TEXT(alias) \
    TEXT(version) \
    INT(generation) /* counts moves, from 1 */ \
    INT(updated_ms)

#define ALIAS_EVENT_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(alias) \
    INT(generation) /* after it */ \
    TEXT(action)    /* "set", "rollback"; "keep": a gate refused to_version */ \
    TEXT(from_version) /* NULL: the alias was new */ \
    TEXT(to_version) \
    INT(moved) \
    TEXT(reason) \
    TEXT(actor) \
    INT(at_ms)

#define SNAPSHOT_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) \
    TEXT(project_id) \
    TEXT(job_id) \
    TEXT(content_sha256) \
    TEXT(manifest_key) \
    INT(clips) \
    INT(labels) \
    INT(created_ms)

#define CURVE_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(name) \
    INT(step) \
    REAL(value)
/* clang-format on */

struct registry_model {
    MODEL_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct registry_version {
    VERSION_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct registry_alias {
    ALIAS_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct registry_event {
    ALIAS_EVENT_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct snapshot {
    SNAPSHOT_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct curve_point {
    CURVE_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};

struct registry_models {
    struct registry_model *items;
    size_t n;
};
struct registry_versions {
    struct registry_version *items;
    size_t n;
};
struct registry_aliases {
    struct registry_alias *items;
    size_t n;
};
struct registry_events {
    struct registry_event *items;
    size_t n;
};
struct curve_points {
    struct curve_point *items;
    size_t n;
};

void registry_model_fini(struct registry_model *m);
void registry_version_fini(struct registry_version *v);
void registry_alias_fini(struct registry_alias *a);
void registry_models_fini(struct registry_models *l);
void registry_versions_fini(struct registry_versions *l);
void registry_aliases_fini(struct registry_aliases *l);
void registry_events_fini(struct registry_events *l);
void snapshot_fini(struct snapshot *s);
void curve_points_fini(struct curve_points *l);

/* ---- models and versions ---------------------------------------------------------------------------------------- */

/* 1 to REGISTRY_NAME_MAX letters, digits, '.', '_', '-', not beginning with '.': fit for a path and a URL. */
bool registry_name_valid(const char *name);

/* "models/<sha256>" */
#define REGISTRY_KEY_SIZE (7 + SHA256_HEX_SIZE)
void registry_key(const char *sha256, char out[REGISTRY_KEY_SIZE]);

struct registry_new { /* strings are borrowed; NULL means none */
    const char *model, *arch;
    const char *version; /* NULL: the next number */
    const char *origin;
    const char *info, *metrics; /* JSON */
    const char *job_id, *snapshot_id, *parent_version;
};

/* Stores the weights file at `path` (consumed with `move` on success, maybe on failure) and registers it. The same
 * bytes in the same model give the version that exists (*existed = true, may be NULL). ERR_INVALID: not a possible
 * name, or the model has another architecture; ERR_EXISTS: the version has other weights. */
int registry_add(struct store *s, struct blobs *b, const char *path, bool move, const struct registry_new *n,
                 struct registry_version *out, bool *existed, struct err *e);
/* Registers a version that every node has in its models folder. Where the version has other weights (an upgrade brought
 * new ones), it becomes VERSION-<8 digits of sha256>. A champion that nobody but this function ever moved follows. */
int registry_add_builtin(struct store *s, const struct registry_new *n, const char *sha256, struct err *e);
/* Puts the blob of a built-in version, so that it outlives upgrades; nothing when it is there. */
int registry_keep_builtin(struct store *s, struct blobs *b, const char *path, const char *sha256, struct err *e);
int registry_models(struct store *s, struct registry_models *out, struct err *e);                  /* by name */
int registry_model(struct store *s, const char *model, struct registry_model *out, struct err *e); /* ERR_NOTFOUND */
int registry_versions(struct store *s, const char *model, struct registry_versions *out,
                      struct err *e); /* newest first */
int registry_version(struct store *s, const char *model, const char *version, struct registry_version *out,
                     struct err *e); /* ERR_NOTFOUND */
/* The version that a training job made: 1, 0. */
int registry_version_of_job(struct store *s, const char *job_id, struct registry_version *out, struct err *e);
/* ERR_NOTFOUND; ERR_CONFLICT: it is built in, an alias names it, or a rollback could come back to it. */
int registry_delete(struct store *s, const char *model, const char *version, struct err *e);

/* What "name", "name@version" or "name:alias" means now. ERR_NOTFOUND. */
int registry_resolve(struct store *s, const char *ref, struct registry_version *out, struct err *e);
/* What it means for this job, from now on. ERR_CANCELED, ERR_LEASE_LOST, ERR_NOTFOUND. */
int registry_pin(struct store *s, const struct job_lease *l, const char *ref, struct registry_version *out,
                 struct err *e);

/* ---- aliases ---------------------------------------------------------------------------------------------------- */

struct registry_move {
    const char *model, *alias, *version;
    int64_t generation; /* required, 0: any; -1: the alias must be new */
    const char *expect; /* required present version; NULL: any */
    const char *reason; /* NULL: none */
    const char *actor;  /* "": somebody without a key */
};

/* Points the alias at the version; naming the version it has changes nothing. ERR_NOTFOUND: no such model or version;
 * ERR_CONFLICT: the alias is not where `generation` or `expect` say. `out` may be NULL. */
int registry_set(struct store *s, const struct registry_move *m, struct registry_alias *out, struct err *e);
/* Points the alias at where it was before its last move that was not taken back. ERR_CONFLICT: there is none, or
 * generation and expect. move.version is not used. */
int registry_rollback(struct store *s, const struct registry_move *m, struct registry_alias *out, struct err *e);
int registry_aliases(struct store *s, const char *model, struct registry_aliases *out, struct err *e);
/* Newest first, at most limit. */
int registry_history(struct store *s, const char *model, int limit, struct registry_events *out, struct err *e);

/* The end of a training: in one transaction that holds the lease, registers the version (see registry_add), points
 * `challenger` at it, and either moves `champion` to it, if that still is n->parent_version, or records why not. A job
 * that ends twice is registered and promoted once. *promoted and *out tell what is so now. */
struct registry_verdict {
    bool promote;
    const char *reason;
};
int registry_conclude(struct store *s, struct blobs *b, const struct job_lease *l, const char *path,
                      const struct registry_new *n, const struct registry_verdict *v, struct registry_version *out,
                      bool *promoted, struct err *e);

/* Whether a training's version became champion at its end. */
int registry_was_promoted(struct store *s, const struct registry_version *v, bool *promoted, struct err *e);

/* ---- snapshots and curves --------------------------------------------------------------------------------------- */

/* Stores the manifest as snapshots/<content_sha256> and records it for the job; a job's second call gives the first's.
 * ERR_CANCELED, ERR_LEASE_LOST. */
int snapshot_add(struct store *s, struct blobs *b, const struct job_lease *l, const char *project_id,
                 const struct buf *manifest, int64_t clips, int64_t labels, struct snapshot *out, struct err *e);
/* The snapshot of a job: 1, 0. */
int snapshot_of_job(struct store *s, const char *job_id, struct snapshot *out, struct err *e);

/* Labels that people made or accepted since the project's last training was asked for. */
int project_new_labels(struct store *s, const char *project_id, int64_t *n, struct err *e);

struct curve_value {
    const char *name;
    double value;
};
/* Adds one step's values to the job's curves and tells its event stream ("curve"). ERR_CANCELED, ERR_LEASE_LOST. */
int curve_add(struct store *s, const struct job_lease *l, int64_t step, const struct curve_value *v, size_t n,
              struct err *e);
/* By name, then step. */
int curve_list(struct store *s, const char *job_id, struct curve_points *out, struct err *e);

#endif
