/*
 * db_postgres: the PostgreSQL driver (libpq). READ COMMITTED, with row locks where the statements say {lock} or {skip}; named locks are advisory
 * transaction locks; store_wait listens to notifications sent with the commits.
 *
 * A connection found dead while idle is made again and the call goes on; one lost inside a transaction gives ERR_NETWORK, since nobody can
 * tell for the caller whether a lost COMMIT took place. All that depends on that (publish, create with a key) can simply be asked again.
 */
#include "core/store/db.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

/* Type numbers of parameters, from PostgreSQL's pg_type catalogue. */
#define OID_INT8 20
#define OID_TEXT 25
#define OID_FLOAT8 701

struct pg_db {
    struct db base;
    PGconn *c;
    PGresult *res;
    int row;
    int statements; /* prepared so far, for their names */
    int busy_timeout_ms;
    bool listening;
};

static struct pg_db *self(struct db *db)
{
    return (struct pg_db *)db;
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

/* SQLSTATE prefixes, longest match first. */
static const struct {
    const char *prefix;
    int code;
} sqlstates[] = {
    {"23505", ERR_EXISTS},  /* unique_violation */
    {"25P03", ERR_NETWORK}, /* idle_in_transaction_session_timeout: the server hung up */
    {"53100", ERR_FULL},    /* disk_full */
    {"53200", ERR_NOMEM},   /* out_of_memory */
    {"53300", ERR_BUSY},    /* too_many_connections */
    {"55P03", ERR_BUSY},    /* lock_not_available */
    {"57014", ERR_TIMEOUT}, /* query_canceled */
    {"57P", ERR_NETWORK},   /* shutting down, crashed, starting */
    {"08", ERR_NETWORK},    /* connection exception */
    {"23", ERR_CONFLICT},   /* integrity constraint violation */
    {"40", ERR_BUSY},       /* deadlock, serialization failure */
    {"XX", ERR_CORRUPT},    /* internal error, data corrupted */
};

static int code_of(const char *sqlstate)
{
    for (size_t i = 0; sqlstate && i < sizeof(sqlstates) / sizeof(*sqlstates); i++)
        if (strncmp(sqlstate, sqlstates[i].prefix, strlen(sqlstates[i].prefix)) == 0)
            return sqlstates[i].code;
    return ERR_IO;
}

/* Sets the error from a failed result (NULL: the connection's own error). */
static int pg_err(struct pg_db *d, const PGresult *res, struct err *e)
{
    const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    const char *text = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    bool dead = PQstatus(d->c) != CONNECTION_OK;
    int code = dead ? ERR_NETWORK : code_of(state);
    if (code == ERR_NETWORK)
        d->base.broken = true;
    if (!text)
        text = PQerrorMessage(d->c);
    return err_set(e, code, "database: %.*s", (int)strcspn(text, "\n"), *text ? text : "connection lost");
}

/* ---- connection ------------------------------------------------------------------------------------------------- */

static void ignore_notice(void *arg, const PGresult *res)
{
    (void)arg, (void)res;
}

static int simple(struct pg_db *d, const char *sql, struct err *e)
{
    PGresult *res = PQexec(d->c, sql);
    ExecStatusType st = PQresultStatus(res);
    int rc = st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK ? 0 : pg_err(d, res, e);
    PQclear(res);
    return rc;
}

static int script(struct db *db, const char *sql, struct err *e)
{
    return simple(self(db), sql, e);
}

/* What every session needs, on top of what the server's administrator chose. */
static int session(struct pg_db *d, struct err *e)
{
    char sql[400];
    snprintf(sql, sizeof(sql),
             "SET lock_timeout = %d; SET idle_in_transaction_session_timeout = 60000; SET synchronous_commit = on;"
             " SET default_transaction_isolation = 'read committed'; SET client_encoding = 'UTF8'",
             d->busy_timeout_ms);
    d->base.broken = false;
    d->listening = false;
    return simple(d, sql, e);
}

static void pg_close(struct db *db)
{
    PQfinish(self(db)->c);
    free(db);
}

static int pg_open(const char *url, const struct store_opts *opts, struct db **out, struct err *e)
{
    struct pg_db *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ERR_NOMEM, "out of memory for a connection");
    d->base.drv = &db_postgres;
    d->busy_timeout_ms = opts->busy_timeout_ms;
    /* What the URL says (under dbname) wins over what stands before it. */
    static const char *const keys[] = {"connect_timeout",
                                       "keepalives_idle",
                                       "keepalives_interval",
                                       "tcp_user_timeout",
                                       "application_name",
                                       "dbname",
                                       NULL};
    const char *values[] = {"5", "10", "5", "15000", "salient", url, NULL};
    d->c = PQconnectdbParams(keys, values, 1);
    int rc;
    if (!d->c)
        rc = err_set(e, ERR_NOMEM, "out of memory for a connection");
    else if (PQstatus(d->c) != CONNECTION_OK)
        rc = pg_err(d, NULL, e);
    else
        rc = session(d, e);
    if (rc) {
        pg_close(&d->base);
        return rc;
    }
    PQsetNoticeReceiver(d->c, ignore_notice, NULL);
    *out = &d->base;
    return 0;
}

static int reconnect(struct db *db, struct err *e)
{
    struct pg_db *d = self(db);
    db_forget(db);
    PQreset(d->c);
    return PQstatus(d->c) == CONNECTION_OK ? session(d, e) : pg_err(d, NULL, e);
}

/* ---- transactions ----------------------------------------------------------------------------------------------- */

static int begin(struct db *db, struct err *e)
{
    return simple(self(db), db->soft ? "BEGIN; SET LOCAL synchronous_commit TO off" : "BEGIN", e);
}

static int commit(struct db *db, struct err *e)
{
    struct pg_db *d = self(db);
    PGresult *res = PQexec(d->c, "COMMIT");
    int rc = 0;
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        rc = pg_err(d, res, e);
    else if (strcmp(PQcmdStatus(res), "COMMIT") != 0) /* a failed transaction "commits" as ROLLBACK */
        rc = err_set(e, ERR_INTERNAL, "database: the transaction had failed before its commit");
    PQclear(res);
    return rc;
}

static void rollback(struct db *db)
{
    struct pg_db *d = self(db);
    if (PQtransactionStatus(d->c) != PQTRANS_IDLE && simple(d, "ROLLBACK", NULL))
        db->broken = true;
}

/* ---- statements ------------------------------------------------------------------------------------------------- */

static int prepare(struct db *db, const char *text, const struct db_arg *args, size_t n, void **stmt, struct err *e)
{
    static const Oid oids[] = {[DB_INT] = OID_INT8, [DB_REAL] = OID_FLOAT8, [DB_TEXT] = OID_TEXT};
    struct pg_db *d = self(db);
    Oid types[DB_ARGS_MAX];
    for (size_t i = 0; i < n; i++)
        types[i] = oids[args[i].type];
    char *name = malloc(24);
    if (!name)
        return err_set(e, ERR_NOMEM, "out of memory for a statement");
    snprintf(name, 24, "s%d", d->statements++);
    PGresult *res = PQprepare(d->c, name, text, (int)n, types);
    int rc = PQresultStatus(res) == PGRES_COMMAND_OK ? 0 : pg_err(d, res, e);
    PQclear(res);
    if (rc)
        free(name);
    else
        *stmt = name;
    return rc;
}

static void unprepare(struct db *db, void *stmt)
{
    (void)db; /* the server forgets with the session */
    free(stmt);
}

static int start(struct db *db, void *stmt, const struct db_arg *args, size_t n, struct err *e)
{
    struct pg_db *d = self(db);
    char numbers[DB_ARGS_MAX][32];
    const char *values[DB_ARGS_MAX];
    for (size_t i = 0; i < n; i++) {
        values[i] = args[i].type == DB_TEXT ? args[i].s : numbers[i];
        if (args[i].type == DB_INT)
            snprintf(numbers[i], sizeof(numbers[i]), "%lld", (long long)args[i].i);
        else if (args[i].type == DB_REAL)
            snprintf(numbers[i], sizeof(numbers[i]), "%.17g", args[i].r);
    }
    d->res = PQexecPrepared(d->c, stmt, (int)n, values, NULL, NULL, 0);
    d->row = -1;
    ExecStatusType st = PQresultStatus(d->res);
    if (st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK)
        return 0;
    int rc = pg_err(d, d->res, e);
    PQclear(d->res);
    d->res = NULL;
    return rc;
}

static int step(struct db *db, struct err *e)
{
    (void)e;
    struct pg_db *d = self(db);
    return ++d->row < PQntuples(d->res);
}

static void done(struct db *db)
{
    struct pg_db *d = self(db);
    PQclear(d->res);
    d->res = NULL;
}

static const char *cell(struct db *db, int column)
{
    struct pg_db *d = self(db);
    return PQgetisnull(d->res, d->row, column) ? NULL : PQgetvalue(d->res, d->row, column);
}

static int64_t changes(struct db *db)
{
    return strtoll(PQcmdTuples(self(db)->res), NULL, 10);
}

/* ---- locks and notifications ------------------------------------------------------------------------------------ */

static int lock(struct db *db, const char *name, bool wait, struct err *e)
{
    static const char take[] = "SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended(?1, 5741))) AS taken";
    static const char try[] =
        "SELECT CASE WHEN pg_try_advisory_xact_lock(hashtextextended(?1, 5741)) THEN 1 ELSE 0 END";
    int64_t got;
    int rc = db_scalar(db, wait ? take : try, DB_ARGS(db_t(name)), 0, &got, e);
    return rc ? rc : (int)got;
}

static int notify(struct db *db, enum store_topic t, struct err *e)
{
    static const char *const sql[] = {[STORE_TOPIC_QUEUE] = "SELECT pg_notify('salient_queue', '')",
                                      [STORE_TOPIC_EVENTS] = "SELECT pg_notify('salient_events', '')"};
    int64_t n = db_run(db, sql[t], DB_NO_ARGS, e);
    return n < 0 ? (int)n : 0;
}

static bool drain_notifications(struct pg_db *d)
{
    bool any = false;
    for (PGnotify *n; (n = PQnotifies(d->c)); PQfreemem(n))
        any = true;
    return any;
}

static int wait_change(struct db *db, enum store_topic t, int timeout_ms, int wake_fd, struct err *e)
{
    static const char *const listen[] = {
        [STORE_TOPIC_QUEUE] = "LISTEN salient_queue", [STORE_TOPIC_EVENTS] = "LISTEN salient_events"};
    struct pg_db *d = self(db);
    if (!d->listening) { /* what happened before is not known */
        int rc = simple(d, listen[t], e);
        d->listening = rc == 0;
        return rc ? rc : 1;
    }
    int64_t end = clock_mono_ms() + timeout_ms;
    for (;;) {
        if (!PQconsumeInput(d->c))
            return pg_err(d, NULL, e);
        if (drain_notifications(d))
            return 1;
        int64_t left = end - clock_mono_ms();
        if (left <= 0)
            return 0;
        struct pollfd p[2] = {{.fd = PQsocket(d->c), .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
        if (poll(p, 2, (int)left) < 0 && errno != EINTR)
            return err_errno(e, "waiting for the database");
        if (p[1].revents)
            return 1;
    }
}

const struct db_driver db_postgres = {
    .scheme = "postgresql://",
    .param = "$",
    .locks_rows = true,
    .open = pg_open,
    .close = pg_close,
    .reconnect = reconnect,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .script = script,
    .prepare = prepare,
    .unprepare = unprepare,
    .start = start,
    .step = step,
    .done = done,
    .cell = cell,
    .changes = changes,
    .lock = lock,
    .notify = notify,
    .wait = wait_change,
};
