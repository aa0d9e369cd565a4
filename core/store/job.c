/*
 * job: the state machine and the requester's side of the queue: create, look up, list, cancel, delete, place in the
 * queue.
 *
 * Every change of state is job_move(): the row of job_state.def gives the two states, the table below what else is set,
 * and together they are one UPDATE whose WHERE names the state it leaves. Whoever comes second finds no row. The event
 * is written in the same transaction.
 */
#include "core/store/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

/* ---- names ------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name, *unit;
} kinds[] = {
#define X(name, unit) {#name, unit},
#include "core/store/job_kind.def"
#undef X
};

static const struct {
    const char *name;
    bool final;
} states[] = {
#define STATE(name, final) {#name, final},
#include "core/store/job_state.def"
};

const char *job_kind_name(enum job_kind k)
{
    BUG_ON((unsigned)k >= JOB_KIND_COUNT);
    return kinds[k].name;
}

int job_kind_parse(const char *name)
{
    for (int i = 0; i < JOB_KIND_COUNT; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return i;
    return ERR_INVALID;
}

const char *job_state_name(enum job_state s)
{
    BUG_ON((unsigned)s >= JOB_STATE_COUNT);
    return states[s].name;
}

int job_state_parse(const char *name)
{
    for (int i = 0; i < JOB_STATE_COUNT; i++)
        if (strcmp(states[i].name, name) == 0)
            return i;
    return ERR_INVALID;
}

bool job_state_final(const char *name)
{
    int s = job_state_parse(name);
    return s >= 0 && states[s].final;
}

void kind_set(unsigned wanted, struct buf *out)
{
    buf_putc(out, ',');
    for (unsigned i = 0; i < JOB_KIND_COUNT; i++)
        if (!wanted || (wanted >> i & 1))
            buf_printf(out, "%s,", kinds[i].name);
}

void state_set(unsigned wanted, struct buf *out)
{
    buf_putc(out, ',');
    for (unsigned i = 0; i < JOB_STATE_COUNT; i++)
        if (!wanted || (wanted >> i & 1))
            buf_printf(out, "%s,", states[i].name);
}

struct job_lease job_lease_of(const struct job *j)
{
    struct job_lease l = {.epoch = j->epoch};
    BUG_ON(!j->id || strlen(j->id) >= sizeof(l.id));
    memcpy(l.id, j->id, strlen(j->id) + 1);
    return l;
}

/* ---- moves ------------------------------------------------------------------------------------------------------ */

/* Parameters: ?1 id, ?2 epoch, ?3 beat, ?4 now, ?5 a, ?6 b, ?7 n of struct job_move. */
#define FINISH "finished_ms = ?4, expires_ms = ?7"
#define SET_claim                                                                                                     \
    "epoch = epoch + 1, attempt = attempt + 1, beat = 0, worker = ?5, lease_ms = ?7, started_ms = ?4, progress_done " \
    "= 0"
#define SET_publish "outputs = ?5, output_epoch = epoch, error_code = NULL, error_message = NULL, " FINISH
#define SET_fail "error_code = ?5, error_message = ?6, " FINISH
#define SET_retry "error_code = ?5, error_message = ?6, worker = NULL"
#define SET_release "attempt = attempt - 1, worker = NULL"
#define SET_cancel FINISH
#define SET_cancel_queued FINISH

static const struct {
    enum job_state from, to;
    const char *sql;
} moves[] = {
#define MOVE(verb, from, to)                                                                       \
    {JOB_STATE_##from, JOB_STATE_##to,                                                             \
     "UPDATE jobs SET state = '" #to "', event_seq = event_seq + 1, " SET_##verb                   \
     " WHERE id = ?1 AND state = '" #from "' AND (?2 = 0 OR epoch = ?2) AND (?3 < 0 OR beat = ?3)" \
     " RETURNING " COLUMNS_OF(JOB)},
#include "core/store/job_state.def"
};

static int state_event(struct db *db, const struct job *j, int64_t now_ms, struct err *e)
{
    struct buf b = BUF_INIT;
    buf_printf(&b, "{\"state\":\"%s\",\"attempt\":%lld", j->state, (long long)j->attempt);
    if (j->error_code) {
        buf_puts(&b, ",\"error\":{\"code\":");
        json_put_string(&b, j->error_code);
        buf_puts(&b, ",\"message\":");
        json_put_string(&b, j->error_message ? j->error_message : "");
        buf_putc(&b, '}');
    }
    buf_putc(&b, '}');
    int rc = b.failed ? err_set(e, ERR_NOMEM, "out of memory for an event")
                      : event_append(db, j->id, j->event_seq, "state", b.data, now_ms, e);
    buf_free(&b);
    return rc;
}

/* What follows from a move besides the row: the event, who is woken, and what becomes of the attempt's blobs. */
static int moved(struct db *db, enum job_verb verb, const struct job *j, int64_t now_ms, struct err *e)
{
    int rc = state_event(db, j, now_ms, e);
    if (!rc && moves[verb].to == JOB_STATE_queued)
        rc = db->drv->notify(db, STORE_TOPIC_QUEUE, e);
    if (!rc && moves[verb].from == JOB_STATE_running && moves[verb].to != JOB_STATE_succeeded) {
        char prefix[64];
        snprintf(prefix, sizeof(prefix), "jobs/%s/%lld/", j->id, (long long)j->epoch);
        rc = gc_add(db, prefix, now_ms, e);
    }
    return rc;
}

int job_move(struct db *db, enum job_verb verb, const struct job_move *m, struct job *out, struct err *e)
{
    struct job j;
    int rc = record_one(
        db, &record_job, moves[verb].sql,
        DB_ARGS(db_t(m->id), db_i(m->epoch), db_i(m->beat), db_i(m->now_ms), db_t(m->a), db_t(m->b), db_i(m->n)), &j,
        e);
    if (rc == 1) {
        int after = moved(db, verb, &j, m->now_ms, e);
        rc = after ? after : 1;
    }
    if (rc == 1 && out)
        *out = j;
    else
        job_fini(&j);
    return rc;
}

/* ---- create ----------------------------------------------------------------------------------------------------- */

static int by_key(struct db *db, const char *tenant, const char *key, struct job *out, struct err *e)
{
    return record_one(db, &record_job,
                      "SELECT " COLUMNS_OF(JOB) " FROM jobs WHERE tenant = ?1 AND idempotency_key = ?2",
                      DB_ARGS(db_t(tenant), db_t(key)), out, e);
}

/* 1: the key's job, into *out; 0: the key is new; ERR_CONFLICT. */
static int replay(struct db *db, const struct job_new *n, const char *tenant, struct job *out, struct err *e)
{
    int rc = by_key(db, tenant, n->idempotency_key, out, e);
    if (rc != 1)
        return rc;
    const char *had = out->request_hash ? out->request_hash : "", *has = n->request_hash ? n->request_hash : "";
    if (strcmp(had, has) == 0)
        return 1;
    job_fini(out);
    return err_set(e, ERR_CONFLICT, "the idempotency key was used with another request");
}

static int check_limit(struct db *db, const char *sql, const char *tenant, int64_t limit, const char *whose,
                       struct err *e)
{
    if (limit <= 0)
        return 0;
    int64_t queued;
    int rc = db->drv->lock(db, "queue", true, e); /* or two could pass the check together */
    if (rc >= 0)
        rc = db_scalar(db, sql, DB_ARGS(db_t(tenant)), 0, &queued, e);
    if (rc < 0)
        return rc;
    return queued < limit ? 0 : err_set(e, ERR_BUSY, "the queue is full: %lld jobs %s", (long long)queued, whose);
}

static int check_new(struct store *s, struct db *db, const struct job_new *n, const char *tenant, struct err *e)
{
    int rc = 0;
    if (n->clip_id) {
        rc = db_row(db, "SELECT 1 FROM clips WHERE id = ?1 {lock}", DB_ARGS(db_t(n->clip_id)), e);
        db_done(db);
        if (rc == 0)
            return err_set(e, ERR_NOTFOUND, "no clip %s", n->clip_id);
    }
    if (rc >= 0)
        rc = check_limit(db, "SELECT count(*) FROM jobs WHERE state = 'queued'", NULL, s->opts.queue_limit, "wait", e);
    if (!rc)
        rc = check_limit(db, "SELECT count(*) FROM jobs WHERE state = 'queued' AND tenant = ?1", tenant,
                         s->opts.tenant_limit, "of this key wait", e);
    return rc;
}

/* Why a row was not inserted although its key is new. */
static int not_inserted(struct db *db, const struct job_new *n, struct err *e)
{
    if (n->kind != JOB_train || !n->project_id)
        return err_set(e, ERR_INTERNAL, "the job was not inserted");
    int rc =
        db_row(db, "SELECT id FROM jobs WHERE project_id = ?1 AND kind = 'train' AND state IN ('queued', 'running')",
               DB_ARGS(db_t(n->project_id)), e);
    if (rc < 0)
        return rc;
    rc = err_set(e, ERR_EXISTS, "job %s trains for this project already", rc == 1 ? db_cell(db, 0) : "that just ended");
    db_done(db);
    return rc;
}

static int insert_job(struct db *db, const struct job_new *n, const char *tenant, struct job *out, struct err *e)
{
    char id[ID_SIZE];
    if (n->id)
        snprintf(id, sizeof(id), "%s", n->id);
    else
        id_new(id);
    int64_t now = clock_wall_ms();
    int64_t made =
        db_run(db, "INSERT INTO tenants (id) VALUES (?1) ON CONFLICT (id) DO NOTHING", DB_ARGS(db_t(tenant)), e);
    if (made < 0)
        return (int)made;
    int rc = record_one(db, &record_job,
                        "INSERT INTO jobs (id, kind, state, tenant, priority, created_ms, max_attempts, "
                        "progress_total, progress_unit, model, clip_id, "
                        "project_id, params, webhook_url, idempotency_key, request_hash, traceparent, event_seq) "
                        "VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 1) "
                        "ON CONFLICT DO NOTHING RETURNING " COLUMNS_OF(JOB),
                        DB_ARGS(db_t(id), db_t(kinds[n->kind].name), db_t(tenant), db_i(n->priority), db_i(now),
                                db_i(n->max_attempts > 0 ? n->max_attempts : 3), db_i(n->progress_total),
                                db_t(kinds[n->kind].unit), db_t(n->model), db_t(n->clip_id), db_t(n->project_id),
                                db_t(n->params ? n->params : "{}"), db_t(n->webhook_url), db_t(n->idempotency_key),
                                db_t(n->request_hash), db_t(n->traceparent)),
                        out, e);
    if (rc != 1)
        return rc;
    rc = state_event(db, out, now, e);
    if (!rc)
        rc = db->drv->notify(db, STORE_TOPIC_QUEUE, e);
    return rc ? rc : 1;
}

static int insert_with_clip(struct db *db, const struct job_new *n, const char *tenant, struct job *out, struct err *e)
{
    if (!n->new_clip)
        return insert_job(db, n, tenant, out, e);
    struct job_new with = *n;
    struct clip_record clip = {0};
    int rc = clip_insert(db, n->new_clip, &clip, e);
    with.clip_id = clip.id;
    if (rc >= 0)
        rc = insert_job(db, &with, tenant, out, e);
    clip_record_fini(&clip);
    return rc;
}

/* 1: made; 2: it was there. */
static int create_locked(struct store *s, struct db *db, const struct job_new *n, const char *tenant, struct job *out,
                         struct err *e)
{
    int rc = n->idempotency_key ? replay(db, n, tenant, out, e) : 0;
    if (rc)
        return rc == 1 ? 2 : rc;
    rc = check_new(s, db, n, tenant, e);
    if (!rc)
        rc = insert_with_clip(db, n, tenant, out, e);
    if (rc == 0 && n->idempotency_key) { /* another node inserted the same key in between */
        rc = replay(db, n, tenant, out, e);
        rc = rc == 1 ? 2 : rc;
    }
    return rc == 0 ? not_inserted(db, n, e) : rc;
}

int job_create(struct store *s, const struct job_new *n, struct job *out, bool *existed, struct err *e)
{
    BUG_ON((unsigned)n->kind >= JOB_KIND_COUNT);
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    rc = tx_end(&t, create_locked(s, t.db, n, n->tenant ? n->tenant : "", out, e), e);
    if (rc < 0) {
        job_fini(out);
        return err_wrap(e, "queueing a job");
    }
    if (existed)
        *existed = rc == 2;
    return 0;
}

/* ---- look up ---------------------------------------------------------------------------------------------------- */

int job_by_key(struct store *s, const char *tenant, const char *key, struct job *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, by_key(t.db, tenant ? tenant : "", key, out, e), e);
}

static int get(struct db *db, const char *id, struct job *out, struct err *e)
{
    int rc =
        record_one(db, &record_job, "SELECT " COLUMNS_OF(JOB) " FROM jobs WHERE id = ?1", DB_ARGS(db_t(id)), out, e);
    return rc == 0 ? err_set(e, ERR_NOTFOUND, "no job %s", id) : rc < 0 ? rc : 0;
}

int job_get(struct store *s, const char *id, struct job *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, get(t.db, id, out, e), e);
}

/* Turns the extra item that was asked for into "there is more". */
static int list_cursor(struct job_list *l, int limit, struct err *e)
{
    if (l->n <= (size_t)limit)
        return 0;
    job_fini(&l->items[--l->n]);
    l->next_cursor = strdup(l->items[l->n - 1].id);
    return l->next_cursor ? 0 : err_set(e, ERR_NOMEM, "out of memory for a list");
}

int job_list(struct store *s, const struct job_filter *f, const char *cursor, int limit, struct job_list *out,
             struct err *e)
{
    *out = (struct job_list){0};
    if (cursor && !id_valid(cursor))
        return err_set(e, ERR_INVALID, "not a cursor of this list");
    limit = limit < 1 ? 1 : limit > 1000 ? 1000 : limit;
    struct buf ks = BUF_INIT, ss = BUF_INIT;
    kind_set(f ? f->kinds : 0, &ks);
    state_set(f ? f->states : 0, &ss);
    struct tx t = {0};
    int rc = ks.failed || ss.failed ? err_set(e, ERR_NOMEM, "out of memory for a list") : tx_begin(s, false, &t, e);
    if (!rc) {
        void *items;
        rc = record_list(
            t.db, &record_job,
            "SELECT " COLUMNS_OF(
                JOB) " FROM jobs WHERE ?1 LIKE '%,' || state || ',%' AND ?2 LIKE '%,' || kind || ',%'"
                     " AND (?3 IS NULL OR tenant = ?3) AND (?4 IS NULL OR project_id = ?4) AND (?5 IS NULL OR id < ?5)"
                     " ORDER BY id DESC LIMIT ?6",
            DB_ARGS(db_t(ss.data), db_t(ks.data), db_t(f ? f->tenant : NULL), db_t(f ? f->project_id : NULL),
                    db_t(cursor), db_i(limit + 1)),
            &items, &out->n, e);
        out->items = items;
        rc = tx_end(&t, rc, e);
    }
    buf_free(&ks);
    buf_free(&ss);
    if (!rc)
        rc = list_cursor(out, limit, e);
    if (rc)
        job_list_fini(out);
    return rc;
}

/* ---- place in the queue ----------------------------------------------------------------------------------------- */

/* The order of job_claim, unrolled: a tenant's k-th job comes in round k (plus what it has running). */
static const char place_sql[] =
    "WITH running AS (SELECT tenant, count(*) AS n FROM jobs WHERE state = 'running' GROUP BY tenant),"
    " q AS (SELECT j.id, j.priority, coalesce(t.served, 0) AS served, coalesce(r.n, 0) +"
    "   row_number() OVER (PARTITION BY j.tenant, j.priority ORDER BY j.id) AS round"
    "   FROM jobs j LEFT JOIN running r ON r.tenant = j.tenant LEFT JOIN tenants t ON t.id = j.tenant WHERE j.state = "
    "'queued')"
    " SELECT count(*) FROM q, q AS me WHERE me.id = ?1 AND (q.priority > me.priority OR (q.priority = me.priority AND"
    " (q.round < me.round OR (q.round = me.round AND (q.served < me.served OR (q.served = me.served AND q.id <= "
    "me.id))))))";

struct pace { /* what jobs of a kind took lately */
    int64_t jobs, ms, units;
};

static int recent_pace(struct db *db, const char *kind, struct pace *p, struct err *e)
{
    int rc = db_row(
        db,
        "SELECT count(*), sum(took), sum(progress_total) FROM (SELECT finished_ms - started_ms AS took, progress_total"
        " FROM jobs WHERE state = 'succeeded' AND kind = ?1 ORDER BY finished_ms DESC LIMIT 20) AS recent",
        DB_ARGS(db_t(kind)), e);
    if (rc < 0)
        return rc;
    *p = (struct pace){db_cell_int(db, 0), db_cell_int(db, 1), db_cell_int(db, 2)};
    db_done(db);
    return 0;
}

static int64_t estimate(const struct job *j, const struct pace *p, int64_t position, int64_t workers, int64_t now_ms)
{
    int64_t ran = now_ms - j->started_ms;
    bool running = strcmp(j->state, "running") == 0;
    if (running && j->progress_done > 0 && j->progress_total > 0)
        return ran * (j->progress_total - j->progress_done) / j->progress_done;
    if (p->jobs == 0)
        return -1;
    int64_t mean = p->ms / p->jobs;
    int64_t own = p->units > 0 && j->progress_total > 0 ? p->ms * j->progress_total / p->units : mean;
    if (running)
        return own > ran ? own - ran : 0;
    return own + mean * (position - 1) / (workers > 0 ? workers : 1);
}

int job_place(struct store *s, const struct job *j, struct job_place *out, struct err *e)
{
    *out = (struct job_place){.eta_ms = -1};
    if (job_state_final(j->state))
        return 0;
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    int64_t now = clock_wall_ms(), workers = 0;
    struct pace pace = {0};
    rc = db_scalar(t.db, place_sql, DB_ARGS(db_t(j->id)), 0, &out->position, e);
    if (!rc)
        rc = db_scalar(t.db, "SELECT count(*) FROM workers WHERE seen_ms > ?1", DB_ARGS(db_i(now - 15000)), 0, &workers,
                       e);
    if (!rc)
        rc = recent_pace(t.db, j->kind, &pace, e);
    if (!rc)
        out->eta_ms = estimate(j, &pace, out->position ? out->position : 1, workers, now);
    return tx_end(&t, rc, e);
}

/* ---- cancel, delete --------------------------------------------------------------------------------------------- */

static int cancel_locked(struct store *s, struct db *db, const char *id, struct job *out, struct err *e)
{
    int64_t now = clock_wall_ms();
    struct job_move m = {.id = id, .beat = -1, .now_ms = now, .n = now + s->opts.retention_ms};
    /* Where row locks rule, the job may move from one state to the other between the two tries: so queued, running,
     * queued. */
    static const enum job_verb tries[] = {VERB_cancel_queued, VERB_cancel, VERB_cancel_queued};
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        int rc = job_move(db, tries[i], &m, out, e);
        if (rc)
            return rc < 0 ? rc : 0;
    }
    int rc = get(db, id, out, e);
    if (!rc && strcmp(out->state, "canceled") != 0)
        rc = err_set(e, ERR_CONFLICT, "job %s has already %s", id, out->state);
    return rc;
}

int job_cancel(struct store *s, const char *id, struct job *out, struct err *e)
{
    struct job j = {0};
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, cancel_locked(s, t.db, id, &j, e), e);
    if (rc || !out)
        job_fini(&j);
    if (out)
        *out = j;
    return rc;
}

int job_delete(struct store *s, const char *id, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n = db_run(t.db, "DELETE FROM jobs WHERE id = ?1", DB_ARGS(db_t(id)), e);
    if (n == 0)
        n = err_set(e, ERR_NOTFOUND, "no job %s", id);
    if (n > 0) {
        char prefix[64];
        snprintf(prefix, sizeof(prefix), "jobs/%s/", id);
        n = gc_add(t.db, prefix, clock_wall_ms(), e);
    }
    if (n == 0)
        n = t.db->drv->notify(t.db, STORE_TOPIC_EVENTS, e);
    return tx_end(&t, (int)n, e);
}
