/*
 * sweep: what expires goes, and no blob outlives the last record that refers to it.
 *
 * Deleting a record queues its blobs in blob_gc within the same transaction; the sweep removes a queued blob when
 * nothing refers to its key (any more, or again). Content-addressed keys may come back at any moment: their check and
 * removal hold the key's lock, as does the insertion of a record, and they rest for the grace time first (see clip.c).
 * Job prefixes never come back, for ids and epochs are used once.
 *
 * The deep sweep finds blobs that no transaction ever knew: a crash between blob and record, or a late worker. It
 * leaves young blobs alone, and every key whose first part it does not know.
 */
#include "core/store/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

#define BATCH 200
#define WORKER_GONE_MS (24 * 3600 * 1000)

int gc_add(struct db *db, const char *key, int64_t now_ms, struct err *e)
{
    int64_t n = db_run(db, "INSERT INTO blob_gc (key, created_ms) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
                       DB_ARGS(db_t(key), db_i(now_ms)), e);
    return n < 0 ? (int)n : 0;
}

/* ---- who refers to a key ---------------------------------------------------------------------------------------- */

/* jobs/ID/..., jobs/ID/EPOCH/...: 1 referenced, 0 not. An epoch's blobs count while it runs or once it is published;
 * what stands beside the epochs (checkpoints) counts while the job is there. */
static int job_refers(struct db *db, const char *key, struct err *e)
{
    char id[ID_SIZE];
    const char *rest = key + strlen("jobs/");
    size_t n = strcspn(rest, "/");
    if (n >= sizeof(id))
        return 0;
    memcpy(id, rest, n);
    id[n] = '\0';
    const char *name = rest[n] ? rest + n + 1 : rest + n;
    char *end;
    long long epoch = strtoll(name, &end, 10);
    bool numbered = end > name && *end == '/';
    int rc = db_row(
        db, "SELECT 1 FROM jobs WHERE id = ?1 AND (?2 = 0 OR output_epoch = ?3 OR (state = 'running' AND epoch = ?3))",
        DB_ARGS(db_t(id), db_i(numbered), db_i(epoch)), e);
    db_done(db);
    return rc;
}

static int clip_refers(struct db *db, const char *key, struct err *e)
{
    int rc = db_row(db, "SELECT 1 FROM clips WHERE sha256 = ?1 LIMIT 1", DB_ARGS(db_t(key + strlen("clips/"))), e);
    db_done(db);
    return rc;
}

static int mask_refers(struct db *db, const char *key, struct err *e)
{
    const char *sha256 = key + strlen("masks/");
    int rc = db_row(db,
                    "SELECT 1 FROM masks WHERE sha256 = ?1 UNION ALL SELECT 1 FROM labels WHERE sha256 = ?1"
                    " UNION ALL SELECT 1 FROM labels WHERE uncertainty_sha256 = ?1 LIMIT 1",
                    DB_ARGS(db_t(sha256)), e);
    db_done(db);
    return rc;
}

/* A data set's name, or an evaluation that has not ended: its parameters hold the hash. */
static int evalset_refers(struct db *db, const char *key, struct err *e)
{
    const char *sha256 = key + strlen("datasets/");
    int rc = db_row(db,
                    "SELECT 1 FROM evalsets WHERE sha256 = ?1 UNION ALL SELECT 1 FROM jobs WHERE kind = 'eval' AND"
                    " state IN ('queued', 'running') AND params LIKE '%' || ?1 || '%' LIMIT 1",
                    DB_ARGS(db_t(sha256)), e);
    db_done(db);
    return rc;
}

static int model_refers(struct db *db, const char *key, struct err *e)
{
    int rc =
        db_row(db, "SELECT 1 FROM model_versions WHERE sha256 = ?1 LIMIT 1", DB_ARGS(db_t(key + strlen("models/"))), e);
    db_done(db);
    return rc;
}

static int snapshot_refers(struct db *db, const char *key, struct err *e)
{
    int rc = db_row(db, "SELECT 1 FROM snapshots WHERE manifest_key = ?1 LIMIT 1", DB_ARGS(db_t(key)), e);
    db_done(db);
    return rc;
}

static const struct owner {
    const char *prefix;
    int (*refers)(struct db *db, const char *key, struct err *e);
    bool by_content; /* the key may come back */
} owners[] = {
    {"jobs/", job_refers, false},        {"clips/", clip_refers, true},   {"masks/", mask_refers, true},
    {"datasets/", evalset_refers, true}, {"models/", model_refers, true}, {"snapshots/", snapshot_refers, true},
};

static const struct owner *owner_of(const char *key)
{
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++)
        if (strncmp(key, owners[i].prefix, strlen(owners[i].prefix)) == 0)
            return &owners[i];
    return NULL;
}

int blob_referenced(struct db *db, const char *key, struct err *e)
{
    const struct owner *o = owner_of(key);
    return o ? o->refers(db, key, e) : 1;
}

int blob_reserve(struct store *s, const char *key, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = db_row(t.db, "SELECT 1 FROM blob_gc WHERE key = ?1", DB_ARGS(db_t(key)), e);
    db_done(t.db);
    if (rc == 0) /* the usual case costs no write; a removal queued from now on is not due before its grace time */
        return tx_end(&t, blob_referenced(t.db, key, e), e);
    rc = tx_end(&t, rc, e);
    if (rc >= 0)
        rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    rc = t.db->drv->lock(t.db, key, true, e);
    int64_t n = rc < 0 ? rc : db_run(t.db, "DELETE FROM blob_gc WHERE key = ?1", DB_ARGS(db_t(key)), e);
    rc = n < 0 ? (int)n : blob_referenced(t.db, key, e);
    return tx_end(&t, rc, e);
}

/* ---- removing --------------------------------------------------------------------------------------------------- */

static int remove_key(struct blobs *b, const char *key, int64_t *n, struct err *e)
{
    *n = 1;
    return key[strlen(key) - 1] == '/' ? blob_delete_prefix(b, key, n, e) : blob_delete(b, key, e);
}

static int forget_queued(struct store *s, const char *key, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n = db_run(t.db, "DELETE FROM blob_gc WHERE key = ?1", DB_ARGS(db_t(key)), e);
    return tx_end(&t, n < 0 ? (int)n : 0, e);
}

/* A key that never comes back: no lock, so that a long removal holds up nobody. */
static int collect_final(struct store *s, struct blobs *b, const char *key, int64_t *blobs, struct err *e)
{
    struct tx t;
    int used = tx_begin(s, false, &t, e);
    if (!used)
        used = tx_end(&t, blob_referenced(t.db, key, e), e);
    int64_t n = 0;
    int rc = used < 0 ? used : used ? 0 : remove_key(b, key, &n, e);
    *blobs += n;
    return rc;
}

/* A key that may come back, queued or found: what was true when it was listed is asked again under the lock. */
static int collect_locked(struct db *db, struct blobs *b, const char *key, int64_t before_ms, int64_t *blobs,
                          struct err *e)
{
    int rc = db->drv->lock(db, key, true, e);
    int used = rc < 0 ? rc : blob_referenced(db, key, e);
    if (used)
        return used < 0 ? used : 0;
    struct blob_stat st;
    struct err why = {0};
    rc = blob_stat(b, key, &st, &why);
    if (rc && rc != ERR_NOTFOUND)
        return err_set(e, rc, "%s", why.msg);
    if (rc || st.modified_ms > before_ms)
        return 0;
    int64_t n = 0;
    rc = remove_key(b, key, &n, e);
    *blobs += n;
    return rc;
}

static int collect(struct store *s, struct blobs *b, const char *key, int64_t before_ms, int64_t *blobs, struct err *e)
{
    const struct owner *o = owner_of(key);
    if (!o || !o->by_content)
        return collect_final(s, b, key, blobs, e);
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, collect_locked(t.db, b, key, before_ms, blobs, e), e);
}

/* ---- records ---------------------------------------------------------------------------------------------------- */

/* Runs one batch: an expired record's id is in the first cell, `drop` removes it. Counts those removed. */
static int64_t expire_batch(struct store *s, const char *sql, int (*drop)(struct store *, const char *, struct err *),
                            struct err *e)
{
    struct tx t;
    int64_t rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    char ids[BATCH][ID_SIZE];
    int n = 0;
    rc = db_query(t.db, sql, DB_ARGS(db_i(clock_wall_ms()), db_i(BATCH)), e);
    while (rc == 0 && (rc = db_step(t.db, e)) == 1) {
        snprintf(ids[n++], ID_SIZE, "%s", db_cell(t.db, 0));
        rc = 0;
    }
    rc = tx_end(&t, (int)rc, e);
    int64_t removed = 0;
    for (int i = 0; i < n && rc >= 0; i++) {
        rc = drop(s, ids[i], e);
        removed += rc == 0;
        if (rc == ERR_NOTFOUND || rc == ERR_CONFLICT) /* somebody was faster, or uses it again */
            rc = 0;
    }
    return rc < 0 ? rc : removed;
}

static int expire_all(struct store *s, const char *sql, int (*drop)(struct store *, const char *, struct err *),
                      int64_t *total, struct err *e)
{
    for (;;) {
        int64_t n = expire_batch(s, sql, drop, e);
        if (n <= 0)
            return (int)n;
        *total += n;
    }
}

static int expire_records(struct store *s, struct store_sweep *out, struct err *e)
{
    int rc = expire_all(s, "SELECT id FROM jobs WHERE expires_ms > 0 AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2",
                        job_delete, &out->jobs, e);
    if (!rc)
        rc = expire_all(
            s,
            "SELECT id FROM clips WHERE expires_ms > 0 AND expires_ms <= ?1 AND NOT EXISTS (SELECT 1 FROM jobs r WHERE"
            " r.clip_id = clips.id AND r.state IN ('queued', 'running')) AND NOT EXISTS (SELECT 1 FROM project_clips p"
            " WHERE p.clip_id = clips.id) ORDER BY expires_ms LIMIT ?2",
            clip_delete, &out->clips, e);
    if (rc)
        return rc;
    struct tx t;
    rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n =
        db_run(t.db, "DELETE FROM workers WHERE seen_ms < ?1", DB_ARGS(db_i(clock_wall_ms() - WORKER_GONE_MS)), e);
    out->workers = n > 0 ? n : 0;
    return tx_end(&t, n < 0 ? (int)n : 0, e);
}

/* ---- blobs ------------------------------------------------------------------------------------------------------ */

struct keys {
    struct key_found {
        char *key;
        int64_t bytes;
    } * items;
    size_t n, cap;
};

static int keys_add(struct keys *k, const char *key, int64_t bytes)
{
    if (k->n == k->cap) {
        size_t cap = k->cap ? 2 * k->cap : 64;
        void *p = realloc(k->items, cap * sizeof(*k->items));
        if (!p)
            return ERR_NOMEM;
        k->items = p;
        k->cap = cap;
    }
    char *copy = strdup(key);
    if (!copy)
        return ERR_NOMEM;
    k->items[k->n].key = copy;
    k->items[k->n++].bytes = bytes;
    return 0;
}

static void keys_free(struct keys *k)
{
    for (size_t i = 0; i < k->n; i++)
        free(k->items[i].key);
    free(k->items);
}

static int queued_keys(struct store *s, int64_t before_ms, struct keys *k, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = db_query(t.db, "SELECT key FROM blob_gc WHERE created_ms <= ?1 OR key LIKE 'jobs/%' ORDER BY created_ms",
                  DB_ARGS(db_i(before_ms)), e);
    while (rc == 0 && (rc = db_step(t.db, e)) == 1) {
        rc = keys_add(k, db_cell(t.db, 0), 0);
        if (rc)
            err_set(e, rc, "out of memory for the sweep");
    }
    return tx_end(&t, rc, e);
}

static int collect_queued(struct store *s, struct blobs *b, int64_t before_ms, struct store_sweep *out, struct err *e)
{
    struct keys k = {0};
    int rc = queued_keys(s, before_ms, &k, e);
    for (size_t i = 0; i < k.n && !rc; i++) {
        rc = collect(s, b, k.items[i].key, before_ms, &out->blobs, e);
        if (!rc)
            rc = forget_queued(s, k.items[i].key, e);
    }
    keys_free(&k);
    return rc;
}

struct walk {
    struct store *s;
    struct keys orphans;
    int64_t before_ms;
    char last[BLOB_KEY_MAX + 1]; /* folder of the last key and what was found: thousands of maps share one */
    bool last_used;
    struct err *e;
};

static int walk_key(void *arg, const char *key, const struct blob_stat *st)
{
    struct walk *w = arg;
    const struct owner *o = owner_of(key);
    if (!o || st->modified_ms > w->before_ms)
        return 0;
    size_t dir = (size_t)(strrchr(key, '/') - key) + 1;
    bool same = !o->by_content && strncmp(w->last, key, dir) == 0 && w->last[dir] == '\0';
    if (!same) {
        struct tx t;
        int rc = tx_begin(w->s, false, &t, w->e);
        if (!rc)
            rc = tx_end(&t, o->refers(t.db, key, w->e), w->e);
        if (rc < 0)
            return rc;
        w->last_used = rc;
        snprintf(w->last, sizeof(w->last), "%.*s", (int)dir, key);
    }
    int rc = w->last_used ? 0 : keys_add(&w->orphans, key, st->bytes);
    return rc ? err_set(w->e, rc, "out of memory for the sweep") : 0;
}

static int collect_orphans(struct store *s, struct blobs *b, int64_t before_ms, struct store_sweep *out, struct err *e)
{
    struct walk w = {.s = s, .before_ms = before_ms, .e = e};
    int rc = 0;
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]) && !rc; i++)
        rc = blob_list(b, owners[i].prefix, walk_key, &w, e);
    for (size_t i = 0; i < w.orphans.n && !rc; i++) {
        int64_t n = 0;
        rc = collect(s, b, w.orphans.items[i].key, before_ms, &n, e);
        out->orphans += n;
        out->orphan_bytes += n ? w.orphans.items[i].bytes : 0;
    }
    keys_free(&w.orphans);
    return rc;
}

int store_sweep(struct store *s, struct blobs *b, bool deep, int64_t grace_ms, struct store_sweep *out, struct err *e)
{
    struct store_sweep got = {0};
    struct err own = {0};
    e = e ? e : &own;
    int64_t before_ms = clock_wall_ms() - grace_ms;
    int rc = expire_records(s, &got, e);
    if (!rc)
        rc = collect_queued(s, b, before_ms, &got, e);
    if (!rc && deep)
        rc = collect_orphans(s, b, before_ms, &got, e);
    if (out)
        *out = got;
    return rc ? err_wrap(e, "sweep") : 0;
}
