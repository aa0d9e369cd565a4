/*
 * schema: numbered steps from an empty database to the newest version. Step n is schema/00n_*.sql, embedded in the
 * binary; steps that have shipped never change. All missing steps run in one transaction, so a database is at one
 * version or another, never between.
 */
#include "core/store/db.h"

/* The assembler finds the file through the compiler's -I. */
#define STEP(name, file)                               \
    __asm__(".section .rodata\n"                       \
            ".global schema_step_" #name "\n"          \
            "schema_step_" #name ":\n"                 \
            ".incbin \"core/store/schema/" file "\"\n" \
            ".byte 0\n"                                \
            ".previous\n");                            \
    extern const char schema_step_##name[] __attribute__((visibility("hidden")));

STEP(1, "001_queue.sql")
STEP(2, "002_annotation.sql")
STEP(3, "003_registry.sql")
STEP(4, "004_access.sql")
STEP(5, "005_registry.sql")
STEP(6, "006_datasets.sql")
STEP(7, "007_keys.sql")

static const char *const steps[] = {schema_step_1, schema_step_2, schema_step_3, schema_step_4,
                                    schema_step_5, schema_step_6, schema_step_7};

int schema_newest(void)
{
    return (int)(sizeof(steps) / sizeof(steps[0]));
}

/* The version of the database, 0 for an empty one; creates the table that holds it. */
static int version_locked(struct db *db, int64_t *version, struct err *e)
{
    int rc = db->drv->script(db, "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)", e);
    if (!rc)
        rc = db_scalar(db, "SELECT version FROM schema_version", DB_NO_ARGS, 0, version, e);
    return rc;
}

static int check_version(int64_t have, int want, struct err *e)
{
    if (have > schema_newest())
        return err_set(e, ERR_UNSUPPORTED,
                       "the database has schema version %lld, this program knows up to %d: upgrade it", (long long)have,
                       schema_newest());
    return have >= want;
}

static int migrate_locked(struct db *db, int version, struct err *e)
{
    int64_t have;
    int rc = version_locked(db, &have, e);
    if (rc)
        return rc;
    rc = check_version(have, version, e);
    if (rc)
        return rc < 0 ? rc : 0; /* another process was faster */
    for (int64_t v = have; v < version; v++) {
        rc = db->drv->script(db, steps[v], e);
        if (rc)
            return err_wrap(e, "schema step %d", (int)v + 1);
    }
    int64_t n = db_run(db, "DELETE FROM schema_version", DB_NO_ARGS, e);
    if (n >= 0)
        n = db_run(db, "INSERT INTO schema_version (version) VALUES (?1)", DB_ARGS(db_i(version)), e);
    return n < 0 ? (int)n : 0;
}

int schema_migrate(struct db *db, int version, struct err *e)
{
    int64_t have;
    /* The usual case needs no lock. An error here means that there is no table yet, or something the locked way will
     * report. */
    if (db_scalar(db, "SELECT version FROM schema_version", DB_NO_ARGS, 0, &have, NULL) == 0) {
        int rc = check_version(have, version, e);
        if (rc)
            return rc < 0 ? rc : 0;
    }
    int rc = db_begin(db, e);
    if (rc)
        return rc;
    rc = db->drv->lock(db, "schema", true, e);
    if (rc >= 0)
        rc = migrate_locked(db, version, e);
    if (rc == 0)
        return db_commit(db, e);
    db_rollback(db);
    return rc;
}
