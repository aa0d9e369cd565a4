/* worker: who is alive, how much each tenant may run at once, and the numbers behind /metrics. */
#include "core/store/job.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

#define ALIVE_MS 15000

int worker_beat(struct store *s, const struct worker_record *w, struct err *e)
{
    struct tx t;
    int rc = tx_begin_soft(s, &t, e);
    if (rc)
        return rc;
    int64_t now = clock_wall_ms();
    int64_t n = db_run(
        t.db,
        "INSERT INTO workers (id, host, pid, device, started_ms, seen_ms, draining, job_id, info)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE SET host = excluded.host,"
        " pid = excluded.pid, device = excluded.device, seen_ms = excluded.seen_ms, draining = excluded.draining,"
        " job_id = excluded.job_id, info = excluded.info",
        DB_ARGS(db_t(w->id), db_t(w->host), db_i(w->pid), db_t(w->device), db_i(w->started_ms ? w->started_ms : now),
                db_i(now), db_i(w->draining), db_t(w->job_id), db_t(w->info)),
        e);
    return tx_end(&t, n < 0 ? (int)n : 0, e);
}

int worker_remove(struct store *s, const char *id, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n = db_run(t.db, "DELETE FROM workers WHERE id = ?1", DB_ARGS(db_t(id)), e);
    return tx_end(&t, n < 0 ? (int)n : 0, e);
}

int worker_list(struct store *s, int64_t max_age_ms, struct worker_list *out, struct err *e)
{
    *out = (struct worker_list){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    /* Seen in the future means that a clock was set back since: such a worker has not beaten lately either. */
    int64_t now = clock_wall_ms();
    void *items;
    rc = record_list(
        t.db, &record_worker,
        "SELECT " COLUMNS_OF(WORKER) " FROM workers WHERE ?1 = 0 OR (seen_ms > ?2 AND seen_ms <= ?3) ORDER BY id",
        DB_ARGS(db_i(max_age_ms), db_i(now - max_age_ms), db_i(now + max_age_ms)), &items, &out->n, e);
    out->items = items;
    return tx_end(&t, rc, e);
}

int tenant_set_max_running(struct store *s, const char *tenant, int64_t max_running, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n = db_run(
        t.db, "INSERT INTO tenants (id, max_running) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET max_running = ?2",
        DB_ARGS(db_t(tenant), db_i(max_running)), e);
    if (n >= 0)
        n = t.db->drv->notify(t.db, STORE_TOPIC_QUEUE, e);
    return tx_end(&t, n < 0 ? (int)n : 0, e);
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

static int count_jobs(struct db *db, struct store_counts *out, struct err *e)
{
    int rc = db_query(db, "SELECT state, kind, count(*) FROM jobs GROUP BY state, kind", DB_NO_ARGS, e);
    while (rc == 0 && (rc = db_step(db, e)) == 1) {
        int state = job_state_parse(db_cell(db, 0)), kind = job_kind_parse(db_cell(db, 1));
        if (state >= 0 && kind >= 0)
            out->jobs[state][kind] = db_cell_int(db, 2);
        rc = 0;
    }
    db_done(db);
    return rc;
}

static int count_rest(struct db *db, struct store_counts *out, struct err *e)
{
    int64_t now = clock_wall_ms(), oldest;
    int rc = db_scalar(db, "SELECT min(created_ms) FROM jobs WHERE state = 'queued'", DB_NO_ARGS, 0, &oldest, e);
    out->oldest_queued_ms = !rc && oldest > 0 && oldest < now ? now - oldest : 0;
    if (!rc)
        rc = db_scalar(db, "SELECT count(*) FROM workers WHERE seen_ms > ?1 AND seen_ms <= ?2",
                       DB_ARGS(db_i(now - ALIVE_MS), db_i(now + ALIVE_MS)), 0, &out->workers, e);
    if (!rc)
        rc = db_scalar(db, "SELECT count(*) FROM clips", DB_NO_ARGS, 0, &out->clips, e);
    if (!rc)
        rc = db_scalar(db, "SELECT coalesce(sum(bytes), 0) FROM clips", DB_NO_ARGS, 0, &out->clip_bytes, e);
    if (!rc)
        rc = db_scalar(db, "SELECT value FROM counters WHERE name = 'requeued'", DB_NO_ARGS, 0, &out->requeued, e);
    if (!rc)
        rc = db_scalar(db, "SELECT value FROM counters WHERE name = 'lease_losses'", DB_NO_ARGS, 0, &out->lease_losses,
                       e);
    return rc;
}

int store_counts(struct store *s, struct store_counts *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = count_jobs(t.db, out, e);
    if (!rc)
        rc = count_rest(t.db, out, e);
    return tx_end(&t, rc, e);
}
