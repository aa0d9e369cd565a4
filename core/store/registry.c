/*
 * registry: models, versions and what aliases mean. See registry.h for the rules; alias moves are in registry_alias.c.
 *
 * A version's blob is stored as a clip's is (see clip.c): blob first, record second, under the key's lock. Changes of
 * one model are serialised by a lock on its name, so numbers are given once.
 */
#include "core/store/registry_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

/* ---- records ---------------------------------------------------------------------------------------------------- */

#define TEXT(name) {RECORD_TEXT, offsetof(RECORD, name)},
#define INT(name) {RECORD_INT, offsetof(RECORD, name)},
#define REAL(name) {RECORD_REAL, offsetof(RECORD, name)},
#define COUNT(name, sql) INT(name)
#define TABLE(name)                                                                        \
    {                                                                                      \
        sizeof(RECORD), name##_columns, sizeof(name##_columns) / sizeof(name##_columns[0]) \
    }

#define RECORD struct registry_model
static const struct record_column model_columns[] = {MODEL_COLUMNS(TEXT, INT, REAL, COUNT)};
static const struct record record_model = TABLE(model);
#undef RECORD

#define RECORD struct registry_version
static const struct record_column version_columns[] = {VERSION_COLUMNS(TEXT, INT, REAL, COUNT)};
static const struct record record_version = TABLE(version);
#undef RECORD

#define RECORD struct registry_alias
static const struct record_column alias_columns[] = {ALIAS_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_alias = TABLE(alias);
#undef RECORD

#define RECORD struct registry_event
static const struct record_column alias_event_columns[] = {ALIAS_EVENT_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_alias_event = TABLE(alias_event);
#undef RECORD

#define RECORD struct snapshot
static const struct record_column snapshot_columns[] = {SNAPSHOT_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_snapshot = TABLE(snapshot);
#undef RECORD

#define RECORD struct curve_point
static const struct record_column curve_columns[] = {CURVE_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_curve = TABLE(curve);
#undef RECORD

void registry_model_fini(struct registry_model *m)
{
    record_fini(&record_model, m);
}

void registry_version_fini(struct registry_version *v)
{
    record_fini(&record_version, v);
}

void registry_alias_fini(struct registry_alias *a)
{
    record_fini(&record_alias, a);
}

void snapshot_fini(struct snapshot *s)
{
    record_fini(&record_snapshot, s);
}

void registry_models_fini(struct registry_models *l)
{
    record_list_free(&record_model, l->items, l->n);
    *l = (struct registry_models){0};
}

void registry_versions_fini(struct registry_versions *l)
{
    record_list_free(&record_version, l->items, l->n);
    *l = (struct registry_versions){0};
}

void registry_aliases_fini(struct registry_aliases *l)
{
    record_list_free(&record_alias, l->items, l->n);
    *l = (struct registry_aliases){0};
}

void registry_events_fini(struct registry_events *l)
{
    record_list_free(&record_alias_event, l->items, l->n);
    *l = (struct registry_events){0};
}

void curve_points_fini(struct curve_points *l)
{
    record_list_free(&record_curve, l->items, l->n);
    *l = (struct curve_points){0};
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

bool registry_name_valid(const char *name)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = name ? strlen(name) : 0;
    return n > 0 && n <= REGISTRY_NAME_MAX && name[0] != '.' && strspn(name, legal) == n;
}

void registry_key(const char *sha256, char out[REGISTRY_KEY_SIZE])
{
    snprintf(out, REGISTRY_KEY_SIZE, "models/%s", sha256);
}

/* ---- looking up ------------------------------------------------------------------------------------------------- */

int version_get(struct db *db, const char *model, const char *version, struct registry_version *out, struct err *e)
{
    return record_one(db, &record_version,
                      "SELECT " COLUMNS_OF(VERSION) " FROM model_versions WHERE model_id = ?1 AND version = ?2",
                      DB_ARGS(db_t(model), db_t(version)), out, e);
}

static int version_by_bytes(struct db *db, const char *model, const char *sha256, struct registry_version *out,
                            struct err *e)
{
    return record_one(db, &record_version,
                      "SELECT " COLUMNS_OF(VERSION) " FROM model_versions WHERE model_id = ?1 AND sha256 = ?2"
                                                    " ORDER BY created_ms LIMIT 1",
                      DB_ARGS(db_t(model), db_t(sha256)), out, e);
}

int version_of_job(struct db *db, const char *job_id, struct registry_version *out, struct err *e)
{
    return record_one(db, &record_version, "SELECT " COLUMNS_OF(VERSION) " FROM model_versions WHERE job_id = ?1",
                      DB_ARGS(db_t(job_id)), out, e);
}

int registry_version_of_job(struct store *s, const char *job_id, struct registry_version *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, version_of_job(t.db, job_id, out, e), e);
}

int registry_models(struct store *s, struct registry_models *out, struct err *e)
{
    *out = (struct registry_models){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc = record_list(t.db, &record_model, "SELECT " COLUMNS_OF(MODEL) " FROM models ORDER BY id", DB_NO_ARGS, &items,
                     &out->n, e);
    out->items = items;
    return tx_end(&t, rc, e);
}

int registry_model(struct store *s, const char *model, struct registry_model *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = record_one(t.db, &record_model, "SELECT " COLUMNS_OF(MODEL) " FROM models WHERE id = ?1", DB_ARGS(db_t(model)),
                    out, e);
    if (rc == 0)
        rc = err_set(e, ERR_NOTFOUND, "there is no model '%.80s'", model);
    rc = tx_end(&t, rc, e);
    return rc < 0 ? rc : 0;
}

int registry_versions(struct store *s, const char *model, struct registry_versions *out, struct err *e)
{
    *out = (struct registry_versions){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc = record_list(t.db, &record_version,
                     "SELECT " COLUMNS_OF(VERSION) " FROM model_versions WHERE model_id = ?1"
                                                   " ORDER BY created_ms DESC, version DESC",
                     DB_ARGS(db_t(model)), &items, &out->n, e);
    out->items = items;
    return tx_end(&t, rc, e);
}

int registry_version(struct store *s, const char *model, const char *version, struct registry_version *out,
                     struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = version_get(t.db, model, version, out, e);
    if (rc == 0)
        rc = err_set(e, ERR_NOTFOUND, "model '%.80s' has no version '%.80s'", model, version);
    rc = tx_end(&t, rc, e);
    return rc < 0 ? rc : 0;
}

/* ---- what a reference means ------------------------------------------------------------------------------------- */

static int resolve_locked(struct db *db, const char *ref, struct registry_version *out, struct err *e)
{
    char name[REGISTRY_NAME_MAX + 1];
    size_t n = strcspn(ref, "@:");
    const char *rest = ref[n] ? ref + n + 1 : REGISTRY_CHAMPION;
    if (n == 0 || n > REGISTRY_NAME_MAX)
        return err_set(e, ERR_NOTFOUND, "there is no model '%.80s'", ref);
    snprintf(name, sizeof(name), "%.*s", (int)n, ref);
    if (!registry_name_valid(name) || !registry_name_valid(rest))
        return err_set(e, ERR_NOTFOUND, "there is no model '%.80s'", ref);
    int rc = ref[n] == '@' ? version_get(db, name, rest, out, e)
                           : record_one(db, &record_version,
                                        "SELECT " COLUMNS_OF(VERSION) " FROM model_versions WHERE model_id = ?1"
                                                                      " AND version = (SELECT a.version FROM"
                                                                      " model_aliases a WHERE a.model_id = ?1 AND"
                                                                      " a.alias = ?2)",
                                        DB_ARGS(db_t(name), db_t(rest)), out, e);
    return rc == 0 ? err_set(e, ERR_NOTFOUND, "there is no model '%.80s'", ref) : rc < 0 ? rc : 0;
}

int registry_resolve(struct store *s, const char *ref, struct registry_version *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, resolve_locked(t.db, ref, out, e), e);
}

/* The version that an earlier attempt of the job began with: 1, 0. */
static int pinned(struct db *db, const char *job_id, const char *ref, struct registry_version *out, struct err *e)
{
    char name[REGISTRY_NAME_MAX + 1], version[REGISTRY_NAME_MAX + 1];
    int rc = db_row(db, "SELECT model_version FROM jobs WHERE id = ?1 AND model_version IS NOT NULL",
                    DB_ARGS(db_t(job_id)), e);
    if (rc != 1)
        return rc;
    snprintf(version, sizeof(version), "%s", db_cell(db, 0));
    db_done(db);
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(ref, "@:"), ref);
    rc = version_get(db, name, version, out, e);
    return rc == 0 ? err_set(e, ERR_NOTFOUND, "version '%s' of model '%s', which this job began with, was removed",
                             version, name)
                   : rc;
}

static int pin_locked(struct db *db, const struct job_lease *l, const char *ref, struct registry_version *out,
                      struct err *e)
{
    int rc = lease_check(db, l, e);
    if (!rc)
        rc = pinned(db, l->id, ref, out, e);
    if (rc)
        return rc < 0 ? rc : 0;
    rc = resolve_locked(db, ref, out, e);
    if (rc)
        return rc;
    int64_t n = db_run(db, "UPDATE jobs SET model_version = ?2, model_sha256 = ?3 WHERE id = ?1",
                       DB_ARGS(db_t(l->id), db_t(out->version), db_t(out->sha256)), e);
    return n < 0 ? (int)n : 0;
}

int registry_pin(struct store *s, const struct job_lease *l, const char *ref, struct registry_version *out,
                 struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, pin_locked(t.db, l, ref, out, e), e);
    if (rc)
        registry_version_fini(out);
    return rc;
}

/* ---- adding ----------------------------------------------------------------------------------------------------- */

int model_lock(struct db *db, const char *model, struct err *e)
{
    char name[REGISTRY_NAME_MAX + 8];
    snprintf(name, sizeof(name), "model/%s", model);
    int rc = db->drv->lock(db, name, true, e);
    return rc < 0 ? rc : 0;
}

/* Makes the model when it is new. */
static int model_ready(struct db *db, const struct registry_new *n, struct err *e)
{
    int64_t made = db_run(db, "INSERT INTO models (id, arch, created_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                          DB_ARGS(db_t(n->model), db_t(n->arch), db_i(clock_wall_ms())), e);
    int rc = made < 0 ? (int)made : db_row(db, "SELECT arch FROM models WHERE id = ?1", DB_ARGS(db_t(n->model)), e);
    if (rc != 1)
        return rc < 0 ? rc : err_set(e, ERR_INTERNAL, "model '%s' was not made", n->model);
    rc = strcmp(db_cell(db, 0), n->arch) == 0
             ? 0
             : err_set(e, ERR_INVALID, "model '%s' is of architecture %s, not %s", n->model, db_cell(db, 0), n->arch);
    db_done(db);
    return rc;
}

/* One more than the largest version that is a number. */
static int next_number(struct db *db, const char *model, char out[REGISTRY_NAME_MAX + 1], struct err *e)
{
    long long last = 0;
    int rc = db_query(db, "SELECT version FROM model_versions WHERE model_id = ?1", DB_ARGS(db_t(model)), e);
    while (rc == 0 && (rc = db_step(db, e)) == 1) {
        char *end;
        long long v = strtoll(db_cell(db, 0), &end, 10);
        last = *end == '\0' && v > last && v < 1000000000 ? v : last;
        rc = 0;
    }
    db_done(db);
    snprintf(out, REGISTRY_NAME_MAX + 1, "%lld", last + 1);
    return rc;
}

static int insert_version(struct db *db, const struct registry_new *n, const char *version, const char *sha256,
                          const char *key, struct err *e)
{
    int64_t made =
        db_run(db,
               "INSERT INTO model_versions (model_id, version, sha256, blob_key, info, metrics, job_id, snapshot_id,"
               " parent_version, created_ms, origin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
               DB_ARGS(db_t(n->model), db_t(version), db_t(sha256), db_t(key), db_t(n->info ? n->info : "{}"),
                       db_t(n->metrics), db_t(n->job_id), db_t(n->snapshot_id), db_t(n->parent_version),
                       db_i(clock_wall_ms()), db_t(n->origin)),
               e);
    return made < 0 ? (int)made : 0;
}

/* The model's only version becomes its champion. */
static int first_champion(struct db *db, const struct registry_new *n, const char *version, struct err *e)
{
    struct registry_move m = {.model = n->model,
                              .alias = REGISTRY_CHAMPION,
                              .version = version,
                              .reason = "the first version",
                              .actor = n->origin};
    int rc = db_row(db, "SELECT 1 FROM model_aliases WHERE model_id = ?1 AND alias = ?2",
                    DB_ARGS(db_t(m.model), db_t(m.alias)), e);
    db_done(db);
    return rc ? (rc < 0 ? rc : 0) : alias_move(db, &m, "set", NULL, e);
}

int version_insert(struct db *db, const struct registry_new *n, const char *sha256, const char *key,
                   struct registry_version *out, struct err *e)
{
    char version[REGISTRY_NAME_MAX + 1];
    int rc = model_lock(db, n->model, e);
    if (!rc)
        rc = model_ready(db, n, e);
    if (!rc)
        rc = version_by_bytes(db, n->model, sha256, out, e);
    if (rc)
        return rc;
    if (n->version) {
        snprintf(version, sizeof(version), "%s", n->version);
        rc = version_get(db, n->model, version, out, e);
        if (rc == 1) {
            registry_version_fini(out);
            rc = err_set(e, ERR_EXISTS, "model '%s' has a version '%s' with other weights", n->model, version);
        }
    } else {
        rc = next_number(db, n->model, version, e);
    }
    if (!rc)
        rc = insert_version(db, n, version, sha256, key, e);
    if (!rc)
        rc = first_champion(db, n, version, e);
    if (!rc)
        rc = version_get(db, n->model, version, out, e);
    return rc < 0 ? rc : rc == 1 ? 0 : err_set(e, ERR_INTERNAL, "the version was not inserted");
}

static int check_names(const struct registry_new *n, struct err *e)
{
    if (!registry_name_valid(n->model))
        return err_set(e, ERR_INVALID,
                       "a model's name has 1 to %d letters, digits, '.', '_' or '-' and no '.' in front",
                       REGISTRY_NAME_MAX);
    if (n->version && !registry_name_valid(n->version))
        return err_set(e, ERR_INVALID, "a version has 1 to %d letters, digits, '.', '_' or '-' and no '.' in front",
                       REGISTRY_NAME_MAX);
    return 0;
}

int version_store(struct store *s, struct blobs *b, const char *path, bool move, const struct registry_new *n,
                  char sha256[SHA256_HEX_SIZE], struct err *e)
{
    char key[REGISTRY_KEY_SIZE];
    int rc = check_names(n, e);
    if (!rc)
        rc = sha256_file_hex(path, sha256, e);
    if (rc)
        return rc;
    registry_key(sha256, key);
    int have = blob_reserve(s, key, e);
    if (have == 1) /* a record may be a built-in version whose blob was never put */
        have = blob_exists(b, key, e);
    rc = have < 0 ? have : have ? 0 : blob_put_file(b, key, path, move, e);
    if (!rc && have && move)
        unlink(path);
    return rc;
}

static int add_locked(struct db *db, struct blobs *b, const struct registry_new *n, const char *sha256,
                      struct registry_version *out, struct err *e)
{
    char key[REGISTRY_KEY_SIZE];
    registry_key(sha256, key);
    int rc = blob_confirm(db, b, key, e);
    return rc ? rc : version_insert(db, n, sha256, key, out, e);
}

int registry_add(struct store *s, struct blobs *b, const char *path, bool move, const struct registry_new *n,
                 struct registry_version *out, bool *existed, struct err *e)
{
    memset(out, 0, sizeof(*out));
    char sha256[SHA256_HEX_SIZE];
    struct tx t;
    int rc = version_store(s, b, path, move, n, sha256, e);
    if (!rc)
        rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, add_locked(t.db, b, n, sha256, out, e), e);
    if (rc < 0) {
        registry_version_fini(out);
        return err_wrap(e, "registering a model");
    }
    if (existed)
        *existed = rc == 1;
    return 0;
}

/* ---- built-in versions ------------------------------------------------------------------------------------------ */

/* The champion follows an upgrade as long as no person and no training moved it. */
static int follow_upgrade(struct db *db, const struct registry_new *n, const char *version, struct err *e)
{
    int rc = db_row(db,
                    "SELECT 1 FROM alias_history WHERE model_id = ?1 AND alias = 'champion' AND moved = 1 AND actor <>"
                    " 'builtin' LIMIT 1",
                    DB_ARGS(db_t(n->model)), e);
    db_done(db);
    if (rc)
        return rc < 0 ? rc : 0;
    struct registry_move m = {.model = n->model,
                              .alias = REGISTRY_CHAMPION,
                              .version = version,
                              .reason = "a new version came with the program",
                              .actor = "builtin"};
    return alias_move(db, &m, "set", NULL, e);
}

static int add_builtin_locked(struct db *db, const struct registry_new *n, const char *sha256, struct err *e)
{
    struct registry_version v;
    struct registry_new renamed = *n;
    char version[REGISTRY_NAME_MAX + 1];
    int rc = version_get(db, n->model, n->version, &v, e);
    bool taken = rc == 1 && strcmp(v.sha256, sha256) != 0;
    registry_version_fini(&v);
    if (rc < 0)
        return rc;
    if (taken) {
        snprintf(version, sizeof(version), "%.50s-%.8s", n->version, sha256);
        renamed.version = version;
    }
    rc = version_insert(db, &renamed, sha256, NULL, &v, e);
    if (rc == 0)
        rc = follow_upgrade(db, n, v.version, e);
    registry_version_fini(&v);
    return rc < 0 ? rc : 0;
}

int registry_add_builtin(struct store *s, const struct registry_new *n, const char *sha256, struct err *e)
{
    struct tx t;
    struct registry_version v;
    int rc = check_names(n, e);
    if (!rc)
        rc = tx_begin(s, false, &t, e);
    if (!rc) /* the usual case must not cost a write */
        rc = tx_end(&t, version_by_bytes(t.db, n->model, sha256, &v, e), e);
    if (rc) {
        if (rc == 1)
            registry_version_fini(&v);
        return rc < 0 ? rc : 0;
    }
    rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, add_builtin_locked(t.db, n, sha256, e), e);
}

static int set_key(struct db *db, struct blobs *b, const char *sha256, const char *key, struct err *e)
{
    int rc = blob_confirm(db, b, key, e);
    int64_t n = rc ? rc
                   : db_run(db, "UPDATE model_versions SET blob_key = ?2 WHERE sha256 = ?1",
                            DB_ARGS(db_t(sha256), db_t(key)), e);
    return n < 0 ? (int)n : 0;
}

int registry_keep_builtin(struct store *s, struct blobs *b, const char *path, const char *sha256, struct err *e)
{
    char key[REGISTRY_KEY_SIZE], real[SHA256_HEX_SIZE];
    registry_key(sha256, key);
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = db_row(t.db, "SELECT 1 FROM model_versions WHERE sha256 = ?1 AND blob_key IS NULL LIMIT 1",
                DB_ARGS(db_t(sha256)), e);
    db_done(t.db);
    rc = tx_end(&t, rc, e);
    if (rc != 1)
        return rc;
    rc = sha256_file_hex(path, real, e);
    if (!rc && strcmp(real, sha256) != 0)
        rc = err_set(e, ERR_CORRUPT, "%s has sha256 %s, not %s", path, real, sha256);
    int have = rc ? rc : blob_exists(b, key, e);
    rc = have < 0 ? have : have ? 0 : blob_put_file(b, key, path, false, e);
    if (!rc)
        rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, set_key(t.db, b, sha256, key, e), e);
}

/* ---- removing --------------------------------------------------------------------------------------------------- */

static int delete_locked(struct db *db, const char *model, const char *version, struct err *e)
{
    struct registry_version v;
    int rc = model_lock(db, model, e);
    if (!rc)
        rc = version_get(db, model, version, &v, e);
    if (rc != 1)
        return rc < 0 ? rc : err_set(e, ERR_NOTFOUND, "model '%.80s' has no version '%.80s'", model, version);
    rc = 0;
    if (strcmp(v.origin, "builtin") == 0)
        rc = err_set(e, ERR_CONFLICT, "version %s came with the program and stays", version);
    if (!rc)
        rc = alias_may_return(db, model, version, e);
    if (rc == 1)
        rc = err_set(e, ERR_CONFLICT, "an alias names version %s, or would after a rollback", version);
    int64_t n = rc ? rc
                   : db_run(db, "DELETE FROM model_versions WHERE model_id = ?1 AND version = ?2",
                            DB_ARGS(db_t(model), db_t(version)), e);
    if (n >= 0 && v.blob_key)
        n = gc_add(db, v.blob_key, clock_wall_ms(), e);
    registry_version_fini(&v);
    return n < 0 ? (int)n : 0;
}

int registry_delete(struct store *s, const char *model, const char *version, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, delete_locked(t.db, model, version, e), e);
}
