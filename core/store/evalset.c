/*
 * evalset: data sets for evaluation. Blob first, record second, as clips are stored (clip.c says why); what a name meant
 * before is handed to the sweep, which leaves it while an unfinished evaluation names its hash.
 */
#include "core/store/evalset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/store/job.h"

void evalset_key(const char *sha256, char out[EVALSET_KEY_SIZE])
{
    snprintf(out, EVALSET_KEY_SIZE, "datasets/%s", sha256);
}

void evalset_fini(struct evalset *d)
{
    record_fini(&record_evalset, d);
}

void evalset_list_fini(struct evalset_list *l)
{
    record_list_free(&record_evalset, l->items, l->n);
    free(l->next_cursor);
    *l = (struct evalset_list){0};
}

#define FIND "SELECT " COLUMNS_OF(EVALSET) " FROM evalsets WHERE tenant = ?1 AND name = ?2"

static int find(struct db *db, const char *sql, const char *tenant, const char *name, struct evalset *out,
                struct err *e)
{
    int rc = record_one(db, &record_evalset, sql, DB_ARGS(db_t(tenant), db_t(name)), out, e);
    return rc == 0 ? err_set(e, ERR_NOTFOUND, "there is no dataset '%.80s'", name) : rc < 0 ? rc : 0;
}

/* What the name means until now, if anything, goes to the sweep: 1 it was taken, 0 it was free. */
static int release_old(struct db *db, const struct evalset *d, const char *sha256, struct err *e)
{
    struct evalset old;
    char key[EVALSET_KEY_SIZE];
    int rc = find(db, FIND " {lock}", d->tenant, d->name, &old, NULL);
    if (rc == ERR_NOTFOUND)
        return 0;
    if (rc < 0)
        return err_set(e, rc, "the dataset's record cannot be read");
    evalset_key(old.sha256, key);
    if (strcmp(old.sha256, sha256) != 0)
        rc = gc_add(db, key, clock_wall_ms(), e);
    evalset_fini(&old);
    return rc < 0 ? rc : 1;
}

/* 0 new, 1 the name was taken. */
static int insert_locked(struct db *db, struct blobs *b, const char *sha256, int64_t bytes, const struct evalset *d,
                         struct evalset *out, struct err *e)
{
    char key[EVALSET_KEY_SIZE];
    evalset_key(sha256, key);
    int rc = db->drv->lock(db, key, true, e);
    if (rc >= 0)
        rc = blob_exists(b, key, e);
    if (rc <= 0)
        return rc ? rc : err_set(e, ERR_BUSY, "the dataset was removed while it was stored");
    int taken = release_old(db, d, sha256, e);
    if (taken < 0)
        return taken;
    int64_t made = db_run(
        db,
        "INSERT INTO evalsets (tenant, name, sha256, bytes, sequences, frames, masks, created_ms, updated_ms)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8) ON CONFLICT (tenant, name) DO UPDATE SET sha256 = "
        "excluded.sha256,"
        " bytes = excluded.bytes, sequences = excluded.sequences, frames = excluded.frames, masks = excluded.masks,"
        " updated_ms = excluded.updated_ms",
        DB_ARGS(db_t(d->tenant), db_t(d->name), db_t(sha256), db_i(bytes), db_i(d->sequences), db_i(d->frames),
                db_i(d->masks), db_i(clock_wall_ms())),
        e);
    rc = made < 0 ? (int)made : find(db, FIND, d->tenant, d->name, out, e);
    return rc < 0 ? rc : taken;
}

int evalset_put(struct store *s, struct blobs *b, const char *path, const struct evalset *d, struct evalset *out,
                bool *existed, struct err *e)
{
    memset(out, 0, sizeof(*out));
    char sha256[SHA256_HEX_SIZE], key[EVALSET_KEY_SIZE];
    int64_t bytes = fs_size(path);
    int rc = bytes < 0 ? err_set(e, ERR_NOTFOUND, "%s: not a readable file", path) : sha256_file_hex(path, sha256, e);
    if (rc)
        return rc;
    evalset_key(sha256, key);
    int have = blob_reserve(s, key, e);
    rc = have < 0 ? have : have ? 0 : blob_put_file(b, key, path, true, e);
    struct tx t;
    if (!rc)
        rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, insert_locked(t.db, b, sha256, bytes, d, out, e), e);
    if (rc < 0) {
        evalset_fini(out);
        return err_wrap(e, "storing the dataset");
    }
    if (have)
        unlink(path);
    if (existed)
        *existed = rc == 1;
    return 0;
}

int evalset_get(struct store *s, const char *tenant, const char *name, struct evalset *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, find(t.db, FIND, tenant, name, out, e), e);
}

int evalset_list(struct store *s, const char *tenant, const char *cursor, int limit, struct evalset_list *out,
                 struct err *e)
{
    *out = (struct evalset_list){0};
    limit = limit < 1 ? 1 : limit > 1000 ? 1000 : limit;
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc = record_list(t.db, &record_evalset,
                     "SELECT " COLUMNS_OF(EVALSET) " FROM evalsets WHERE tenant = ?1 AND (?2 IS NULL OR"
                                                   " name > ?2) ORDER BY name LIMIT ?3",
                     DB_ARGS(db_t(tenant), db_t(cursor), db_i(limit + 1)), &items, &out->n, e);
    out->items = items;
    rc = tx_end(&t, rc, e);
    if (!rc && out->n > (size_t)limit) {
        evalset_fini(&out->items[--out->n]);
        if (!(out->next_cursor = strdup(out->items[out->n - 1].name)))
            rc = err_set(e, ERR_NOMEM, "out of memory for a list");
    }
    if (rc)
        evalset_list_fini(out);
    return rc;
}

static int delete_locked(struct db *db, const char *tenant, const char *name, struct err *e)
{
    struct evalset d;
    char key[EVALSET_KEY_SIZE];
    int rc = find(db, FIND " {lock}", tenant, name, &d, e);
    if (rc < 0)
        return rc;
    evalset_key(d.sha256, key);
    int64_t n =
        db_run(db, "DELETE FROM evalsets WHERE tenant = ?1 AND name = ?2", DB_ARGS(db_t(tenant), db_t(name)), e);
    evalset_fini(&d);
    return n < 0 ? (int)n : gc_add(db, key, clock_wall_ms(), e);
}

int evalset_delete(struct store *s, const char *tenant, const char *name, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, delete_locked(t.db, tenant, name, e), e);
}
