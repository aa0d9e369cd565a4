/* registry_train: what a training leaves behind besides a model: the snapshot of its data and its curves. */
#include "core/store/registry_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"

/* ---- snapshots -------------------------------------------------------------------------------------------------- */

static int get_snapshot(struct db *db, const char *job_id, struct snapshot *out, struct err *e)
{
    return record_one(db, &record_snapshot, "SELECT " COLUMNS_OF(SNAPSHOT) " FROM snapshots WHERE job_id = ?1",
                      DB_ARGS(db_t(job_id)), out, e);
}

int snapshot_of_job(struct store *s, const char *job_id, struct snapshot *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, get_snapshot(t.db, job_id, out, e), e);
}

static int insert_snapshot(struct db *db, struct blobs *b, const struct job_lease *l, const struct snapshot *n,
                           struct snapshot *out, struct err *e)
{
    char id[ID_SIZE];
    id_new(id);
    int rc = lease_check(db, l, e);
    if (!rc)
        rc = blob_confirm(db, b, n->manifest_key, e);
    if (rc)
        return rc;
    int64_t made =
        db_run(db,
               "INSERT INTO snapshots (id, project_id, job_id, content_sha256, manifest_key, clips, labels, created_ms)"
               " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
               DB_ARGS(db_t(id), db_t(n->project_id), db_t(l->id), db_t(n->content_sha256), db_t(n->manifest_key),
                       db_i(n->clips), db_i(n->labels), db_i(clock_wall_ms())),
               e);
    rc = made < 0 ? (int)made : get_snapshot(db, l->id, out, e);
    return rc == 1 ? 0 : rc < 0 ? rc : err_set(e, ERR_INTERNAL, "the snapshot was not recorded");
}

int snapshot_add(struct store *s, struct blobs *b, const struct job_lease *l, const char *project_id,
                 const struct buf *manifest, int64_t clips, int64_t labels, struct snapshot *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    char sha256[SHA256_HEX_SIZE], key[16 + SHA256_HEX_SIZE];
    sha256_hex(manifest->data, manifest->len, sha256);
    snprintf(key, sizeof(key), "snapshots/%s", sha256);
    struct snapshot n = {.project_id = (char *)(uintptr_t)project_id,
                         .content_sha256 = sha256,
                         .manifest_key = key,
                         .clips = clips,
                         .labels = labels};
    int have = blob_reserve(s, key, e);
    int rc = have < 0 ? have : have ? 0 : blob_put(b, key, manifest->data, manifest->len, e);
    struct tx t;
    if (!rc)
        rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, insert_snapshot(t.db, b, l, &n, out, e), e);
    if (rc)
        snapshot_fini(out);
    return rc;
}

int project_new_labels(struct store *s, const char *project_id, int64_t *n, struct err *e)
{
    struct tx t;
    *n = 0;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = db_scalar(t.db,
                   "SELECT count(*) FROM labels WHERE project_id = ?1 AND state = 'accepted' AND updated_ms >"
                   " coalesce((SELECT max(j.created_ms) FROM jobs j WHERE j.project_id = ?1 AND j.kind = 'train'), 0)"
                   " AND updated_ms > coalesce((SELECT max(s.created_ms) FROM snapshots s WHERE s.project_id = ?1), 0)",
                   DB_ARGS(db_t(project_id)), 0, n, e);
    return tx_end(&t, rc, e);
}

/* ---- curves ----------------------------------------------------------------------------------------------------- */

static int insert_point(struct db *db, const char *job_id, int64_t step, const struct curve_value *v, struct err *e)
{
    int64_t n = db_run(db,
                       "INSERT INTO curve_points (job_id, step, name, value) VALUES (?1, ?2, ?3, ?4)"
                       " ON CONFLICT (job_id, name, step) DO UPDATE SET value = excluded.value",
                       DB_ARGS(db_t(job_id), db_i(step), db_t(v->name), db_r(v->value)), e);
    return n < 0 ? (int)n : 0;
}

/* An attempt that begins again at an earlier step replaces what the one before it said about later ones. */
static int forget_later(struct db *db, const char *job_id, int64_t step, const char *name, struct err *e)
{
    int64_t n = db_run(db, "DELETE FROM curve_points WHERE job_id = ?1 AND name = ?2 AND step > ?3",
                       DB_ARGS(db_t(job_id), db_t(name), db_i(step)), e);
    return n < 0 ? (int)n : 0;
}

static int add_locked(struct db *db, const struct job_lease *l, int64_t step, const struct curve_value *v, size_t n,
                      struct err *e)
{
    char data[160];
    int rc = lease_check(db, l, e);
    for (size_t i = 0; i < n && !rc; i++) {
        if (!isfinite(v[i].value))
            continue;
        rc = forget_later(db, l->id, step, v[i].name, e);
        if (!rc)
            rc = insert_point(db, l->id, step, &v[i], e);
        snprintf(data, sizeof(data), "{\"step\":%lld,\"name\":\"%.40s\",\"value\":%.7g}", (long long)step, v[i].name,
                 v[i].value);
        if (!rc)
            rc = job_event_locked(db, l, "curve", data, e);
    }
    return rc;
}

int curve_add(struct store *s, const struct job_lease *l, int64_t step, const struct curve_value *v, size_t n,
              struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, add_locked(t.db, l, step, v, n, e), e);
}

int curve_list(struct store *s, const char *job_id, struct curve_points *out, struct err *e)
{
    *out = (struct curve_points){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc = record_list(t.db, &record_curve,
                     "SELECT " COLUMNS_OF(CURVE) " FROM curve_points WHERE job_id = ?1 ORDER BY name, step",
                     DB_ARGS(db_t(job_id)), &items, &out->n, e);
    out->items = items;
    return tx_end(&t, rc, e);
}
