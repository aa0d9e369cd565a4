/*
 * lease: the worker's side of the queue, and what happens to jobs whose worker is gone.
 *
 * A claim raises the epoch; everything the worker does afterwards names {id, epoch} in its WHERE, so a worker that was
 * given up changes no row. A heartbeat counts `beat` up; the reaper compares counts, never clocks (see store.h).
 */
#include "core/store/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

/* ---- claim ------------------------------------------------------------------------------------------------------ */

static const char next_sql[] =
    "SELECT j.id, j.tenant FROM jobs j"
    " LEFT JOIN (SELECT tenant, count(*) AS n FROM jobs WHERE state = 'running' GROUP BY tenant) r ON r.tenant = "
    "j.tenant"
    " LEFT JOIN tenants t ON t.id = j.tenant"
    " WHERE j.state = 'queued' AND ?1 LIKE '%,' || j.kind || ',%'"
    " AND (coalesce(t.max_running, 0) = 0 OR coalesce(r.n, 0) < t.max_running)"
    " ORDER BY j.priority DESC, coalesce(r.n, 0), coalesce(t.served, 0), j.id LIMIT 1 {skip OF j}";

/* Locks the tenant's row and counts again: between nodes, the first count may have been shared by two claims. */
static int tenant_admits(struct db *db, const char *tenant, struct err *e)
{
    int64_t n =
        db_run(db, "UPDATE tenants SET served = (SELECT coalesce(max(served), 0) + 1 FROM tenants) WHERE id = ?1",
               DB_ARGS(db_t(tenant)), e);
    if (n < 0 || !db->drv->locks_rows)
        return n < 0 ? (int)n : 1;
    int64_t room;
    int rc = db_scalar(db,
                       "SELECT CASE WHEN max_running = 0 THEN 1 ELSE max_running - (SELECT count(*) FROM jobs WHERE"
                       " state = 'running' AND tenant = ?1) END FROM tenants WHERE id = ?1",
                       DB_ARGS(db_t(tenant)), 1, &room, e);
    return rc ? rc : room > 0;
}

static int claim_locked(struct db *db, const char *worker, const char *kinds, int64_t lease_ms, struct job *out,
                        struct err *e)
{
    int rc = db_row(db, next_sql, DB_ARGS(db_t(kinds)), e);
    if (rc != 1)
        return rc;
    char id[ID_SIZE] = "";
    snprintf(id, sizeof(id), "%s", db_cell(db, 0));
    char *tenant = strdup(db_cell(db, 1));
    db_done(db);
    rc = tenant ? tenant_admits(db, tenant, e) : err_set(e, ERR_NOMEM, "out of memory for a claim");
    free(tenant);
    if (rc != 1)
        return rc;
    struct job_move m = {.id = id, .beat = -1, .now_ms = clock_wall_ms(), .a = worker, .n = lease_ms};
    return job_move(db, VERB_claim, &m, out, e);
}

int job_claim(struct store *s, const char *worker, unsigned kinds, int64_t lease_ms, struct job *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct buf set = BUF_INIT;
    kind_set(kinds, &set);
    struct tx t = {0};
    int rc = set.failed ? err_set(e, ERR_NOMEM, "out of memory for a claim") : tx_begin(s, false, &t, e);
    if (!rc) { /* an idle poll must not cost a write */
        int any = db_row(t.db, "SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1", DB_NO_ARGS, e);
        any = tx_end(&t, any, e);
        rc = any == 1 ? tx_begin(s, true, &t, e) : any;
        if (any == 1 && !rc)
            rc = tx_end(&t, claim_locked(t.db, worker, set.data, lease_ms, out, e), e);
    }
    buf_free(&set);
    if (rc < 0) {
        job_fini(out);
        return err_wrap(e, "claiming a job");
    }
    return rc;
}

/* ---- with the lease --------------------------------------------------------------------------------------------- */

/* Why an epoch-checked statement found no row. */
static int refused(struct db *db, const struct job_lease *l, struct err *e)
{
    int rc = db_row(db, "SELECT state, epoch FROM jobs WHERE id = ?1", DB_ARGS(db_t(l->id)), e);
    if (rc < 0)
        return rc;
    bool canceled = rc == 1 && strcmp(db_cell(db, 0), "canceled") == 0 && db_cell_int(db, 1) == l->epoch;
    if (rc == 1)
        db_done(db);
    return canceled
               ? err_set(e, ERR_CANCELED, "job %s was canceled", l->id)
               : err_set(e, ERR_LEASE_LOST, "job %s epoch %lld is no longer this worker's", l->id, (long long)l->epoch);
}

/* A heartbeat is the check: it changes the row, so nobody else can before this transaction ends. */
int lease_check(struct db *db, const struct job_lease *l, struct err *e)
{
    int64_t n = db_run(db, "UPDATE jobs SET beat = beat + 1 WHERE id = ?1 AND epoch = ?2 AND state = 'running'",
                       DB_ARGS(db_t(l->id), db_i(l->epoch)), e);
    if (n == 0)
        n = refused(db, l, e);
    return n < 0 ? (int)n : 0;
}

int job_heartbeat(struct store *s, const struct job_lease *l, struct err *e)
{
    struct tx t;
    int rc = tx_begin_soft(s, &t, e);
    return rc ? rc : tx_end(&t, lease_check(t.db, l, e), e);
}

static int progress_locked(struct db *db, const struct job_lease *l, int64_t done, int64_t total, struct err *e)
{
    int rc =
        db_row(db,
               "UPDATE jobs SET beat = beat + 1, progress_done = ?3, progress_total = ?4, event_seq = event_seq + 1"
               " WHERE id = ?1 AND epoch = ?2 AND state = 'running' RETURNING event_seq, progress_unit",
               DB_ARGS(db_t(l->id), db_i(l->epoch), db_i(done), db_i(total)), e);
    if (rc != 1)
        return rc < 0 ? rc : refused(db, l, e);
    char data[200];
    int64_t seq = db_cell_int(db, 0);
    snprintf(data, sizeof(data), "{\"done\":%lld,\"total\":%lld,\"unit\":\"%s\"}", (long long)done, (long long)total,
             db_cell(db, 1));
    db_done(db);
    return event_append(db, l->id, seq, "progress", data, clock_wall_ms(), e);
}

int job_progress(struct store *s, const struct job_lease *l, int64_t done, int64_t total, struct err *e)
{
    struct tx t;
    int rc = tx_begin_soft(s, &t, e);
    return rc ? rc : tx_end(&t, progress_locked(t.db, l, done, total, e), e);
}

int job_event_locked(struct db *db, const struct job_lease *l, const char *type, const char *data, struct err *e)
{
    int rc = db_row(db,
                    "UPDATE jobs SET beat = beat + 1, event_seq = event_seq + 1"
                    " WHERE id = ?1 AND epoch = ?2 AND state = 'running' RETURNING event_seq",
                    DB_ARGS(db_t(l->id), db_i(l->epoch)), e);
    if (rc != 1)
        return rc < 0 ? rc : refused(db, l, e);
    int64_t seq = db_cell_int(db, 0);
    db_done(db);
    return event_append(db, l->id, seq, type, data, clock_wall_ms(), e);
}

int job_log(struct store *s, const struct job_lease *l, const char *data_json, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, job_event_locked(t.db, l, "log", data_json, e), e);
}

/* One move of a leased job in one transaction. */
static int leased_move(struct store *s, const struct job_lease *l, enum job_verb verb, struct job_move *m,
                       struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    m->id = l->id;
    m->epoch = l->epoch;
    m->beat = -1;
    m->now_ms = clock_wall_ms();
    rc = job_move(t.db, verb, m, NULL, e);
    if (rc == 0)
        rc = refused(t.db, l, e);
    return tx_end(&t, rc < 0 ? rc : 0, e);
}

int job_publish(struct store *s, const struct job_lease *l, const char *outputs_json, struct err *e)
{
    struct job_move m = {.a = outputs_json, .n = clock_wall_ms() + s->opts.retention_ms};
    return leased_move(s, l, VERB_publish, &m, e);
}

int job_release(struct store *s, const struct job_lease *l, struct err *e)
{
    struct job_move m = {0};
    return leased_move(s, l, VERB_release, &m, e);
}

/* ---- the end of an attempt -------------------------------------------------------------------------------------- */

static int count_up(struct db *db, const char *counter, struct err *e)
{
    int64_t n = db_run(db, "UPDATE counters SET value = value + 1 WHERE name = ?1", DB_ARGS(db_t(counter)), e);
    return n < 0 ? (int)n : 0;
}

struct ending {
    int64_t beat; /* -1: any */
    int code;
    const char *message;
    bool retry;
};

/* 2: queued again; 1: failed; 0: the lease is not held any more. */
static int end_attempt(struct store *s, struct db *db, const struct job_lease *l, const struct ending *end,
                       struct err *e)
{
    int64_t left;
    int rc = db_scalar(db, "SELECT max_attempts - attempt FROM jobs WHERE id = ?1 {lock}", DB_ARGS(db_t(l->id)), 0,
                       &left, e);
    if (rc)
        return rc;
    bool again = end->retry && left > 0;
    int64_t now = clock_wall_ms();
    struct job_move m = {.id = l->id,
                         .epoch = l->epoch,
                         .beat = end->beat,
                         .now_ms = now,
                         .a = err_name(end->code),
                         .b = end->message,
                         .n = now + s->opts.retention_ms};
    rc = job_move(db, again ? VERB_retry : VERB_fail, &m, NULL, e);
    if (rc == 1 && again) {
        rc = count_up(db, "requeued", e);
        return rc ? rc : 2;
    }
    return rc;
}

int job_fail(struct store *s, const struct job_lease *l, int code, const char *message, bool retry, bool *requeued,
             struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    struct ending end = {.beat = -1, .code = code, .message = message ? message : err_text(code), .retry = retry};
    rc = end_attempt(s, t.db, l, &end, e);
    if (rc == 0)
        rc = refused(t.db, l, e);
    rc = tx_end(&t, rc, e);
    if (requeued)
        *requeued = rc == 2;
    return rc < 0 ? rc : 0;
}

/* ---- silent workers --------------------------------------------------------------------------------------------- */

static int running_now(struct store *s, struct lease_seen **list, size_t *n, struct err *e)
{
    *list = NULL;
    *n = 0;
    size_t cap = 0;
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc =
        db_query(t.db, "SELECT id, epoch, beat, lease_ms FROM jobs WHERE state = 'running' ORDER BY id", DB_NO_ARGS, e);
    while (rc == 0 && (rc = db_step(t.db, e)) == 1) {
        if (*n == cap) {
            cap = cap ? 2 * cap : 16;
            struct lease_seen *p = realloc(*list, cap * sizeof(*p));
            if (!p) {
                rc = err_set(e, ERR_NOMEM, "out of memory for the running jobs");
                break;
            }
            *list = p;
        }
        struct lease_seen *x = &(*list)[(*n)++];
        *x = (struct lease_seen){
            .epoch = db_cell_int(t.db, 1), .beat = db_cell_int(t.db, 2), .lease_ms = db_cell_int(t.db, 3)};
        snprintf(x->id, sizeof(x->id), "%s", db_cell(t.db, 0));
        rc = 0;
    }
    return tx_end(&t, rc, e);
}

/* Takes over since when each count has stood still; both lists are sorted by id. */
static void remember(const struct lease_seen *old, size_t nold, struct lease_seen *now, size_t nnow, int64_t mono_ms)
{
    size_t o = 0;
    for (size_t i = 0; i < nnow; i++) {
        while (o < nold && strcmp(old[o].id, now[i].id) < 0)
            o++;
        bool same =
            o < nold && strcmp(old[o].id, now[i].id) == 0 && old[o].epoch == now[i].epoch && old[o].beat == now[i].beat;
        now[i].since_mono_ms = same ? old[o].since_mono_ms : mono_ms;
    }
}

static bool silent(const struct lease_seen *x, int64_t mono_ms)
{
    return mono_ms - x->since_mono_ms >= x->lease_ms;
}

static int reap_locked(struct store *s, struct db *db, int64_t mono_ms, struct job_reaped *out, struct err *e)
{
    int rc = db->drv->lock(db, "reaper", false, e);
    if (rc != 1)
        return rc;
    for (size_t i = 0; i < s->nseen; i++) {
        const struct lease_seen *x = &s->seen[i];
        if (!silent(x, mono_ms))
            continue;
        struct job_lease l = {.epoch = x->epoch};
        memcpy(l.id, x->id, sizeof(l.id));
        struct ending end = {
            .beat = x->beat, .code = ERR_LEASE_LOST, .message = "the worker went silent", .retry = true};
        rc = end_attempt(s, db, &l, &end, e);
        if (rc > 0) {
            out->requeued += rc == 2;
            out->failed += rc == 1;
            rc = count_up(db, "lease_losses", e);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

int jobs_reap(struct store *s, struct job_reaped *out, struct err *e)
{
    struct job_reaped got = {0};
    pthread_mutex_lock(&s->reap_lock);
    struct lease_seen *now;
    size_t n;
    int rc = running_now(s, &now, &n, e);
    if (rc) {
        free(now);
        goto out;
    }
    int64_t mono = clock_mono_ms();
    remember(s->seen, s->nseen, now, n, mono);
    free(s->seen);
    s->seen = now;
    s->nseen = n;
    bool any = false;
    for (size_t i = 0; i < n && !any; i++)
        any = silent(&now[i], mono);
    if (any) {
        struct tx t;
        rc = tx_begin(s, true, &t, e);
        if (!rc)
            rc = tx_end(&t, reap_locked(s, t.db, mono, &got, e), e);
    }
out:
    pthread_mutex_unlock(&s->reap_lock);
    if (rc)
        got = (struct job_reaped){0};
    if (out)
        *out = got;
    return rc;
}

static int abandon_locked(struct store *s, struct db *db, const char *worker, const char *reason,
                          struct job_reaped *out, struct err *e)
{
    for (;;) {
        int rc = db_row(db, "SELECT id, epoch FROM jobs WHERE state = 'running' AND worker = ?1 LIMIT 1",
                        DB_ARGS(db_t(worker)), e);
        if (rc != 1)
            return rc;
        struct job_lease l = {.epoch = db_cell_int(db, 1)};
        snprintf(l.id, sizeof(l.id), "%s", db_cell(db, 0));
        db_done(db);
        struct ending end = {.beat = -1, .code = ERR_INTERNAL, .message = reason, .retry = true};
        rc = end_attempt(s, db, &l, &end, e);
        if (rc < 0)
            return rc;
        out->requeued += rc == 2;
        out->failed += rc == 1;
    }
}

int jobs_abandon(struct store *s, const char *worker, const char *reason, struct job_reaped *out, struct err *e)
{
    struct job_reaped got = {0};
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, abandon_locked(s, t.db, worker, reason, &got, e), e);
    if (rc)
        got = (struct job_reaped){0};
    if (out)
        *out = got;
    return rc;
}
