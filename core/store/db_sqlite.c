/*
 * db_sqlite: the SQLite driver. WAL, so that readers never wait; every write transaction is BEGIN IMMEDIATE, so that it
 * waits for the lock at its start (where busy_timeout applies) and never fails half way; synchronous=FULL, so that a
 * commit that returned is on disk. A soft transaction is synchronous=NORMAL: with the log it is as whole, and on disk with the next
 * full one.
 *
 * Another process holds the lock for as long as the disk takes to write, so we look again every half millisecond; SQLite's own
 * handler would soon sleep a tenth of a second between looks.
 *
 * Change detection for store_wait is PRAGMA data_version, which reads shared memory and costs microseconds.
 */
#include "core/store/db.h"

#include <errno.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"

#define WAIT_STEP_MS 50
#define BUSY_STEP_US 500

struct sqlite_db {
    struct db base;
    sqlite3 *h;
    sqlite3_stmt *stmt;
    int64_t data_version; /* 0: not asked yet */
    int64_t busy_timeout_ms, busy_since_ms;
    bool soft; /* what synchronous is set to */
};

static struct sqlite_db *self(struct db *db)
{
    return (struct sqlite_db *)db;
}

/* The errno behind an I/O error of the database file or the log: SQLite itself tells only ENOSPC apart. */
static int last_errno(sqlite3 *h)
{
    int in_file = 0, in_log = 0;
    sqlite3_file *log = NULL;
    sqlite3_file_control(h, "main", SQLITE_FCNTL_LAST_ERRNO, &in_file);
    sqlite3_file_control(h, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (log && log->pMethods)
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &in_log);
    return in_log ? in_log : in_file;
}

static int code_of(sqlite3 *h, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return ERR_FULL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_BUSY;
    case SQLITE_NOMEM:
        return ERR_NOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ERR_CORRUPT;
    case SQLITE_CONSTRAINT:
        return sqlite3_extended_errcode(h) == SQLITE_CONSTRAINT_UNIQUE ||
                       sqlite3_extended_errcode(h) == SQLITE_CONSTRAINT_PRIMARYKEY
                   ? ERR_EXISTS
                   : ERR_CONFLICT;
    case SQLITE_IOERR: {
        int sys = h ? last_errno(h) : 0;
        return sys == ENOSPC || sys == EDQUOT || sys == EFBIG ? ERR_FULL : ERR_IO;
    }
    default:
        return ERR_IO;
    }
}

static int sqlite_err(struct sqlite_db *d, int rc, struct err *e)
{
    return err_set(e, code_of(d->h, rc), "database: %s", d->h ? sqlite3_errmsg(d->h) : sqlite3_errstr(rc));
}

static int script(struct db *db, const char *sql, struct err *e)
{
    struct sqlite_db *d = self(db);
    int rc = sqlite3_exec(d->h, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : sqlite_err(d, rc, e);
}

static void sqlite_close(struct db *db)
{
    sqlite3_close(self(db)->h);
    free(db);
}

/* Turning WAL on takes an exclusive lock that busy_timeout does not cover, so a first start of several processes
 * retries. */
static int enter_wal(struct db *db, int timeout_ms, struct err *e)
{
    for (int64_t give_up = clock_mono_ms() + timeout_ms;; clock_sleep_ms(10)) {
        int rc = script(db, "PRAGMA journal_mode = WAL", e);
        if (rc != ERR_BUSY || clock_mono_ms() >= give_up)
            return rc;
    }
}

static int on_busy(void *arg, int looks)
{
    struct sqlite_db *d = arg;
    int64_t now = clock_mono_ms();
    if (looks == 0)
        d->busy_since_ms = now;
    if (now - d->busy_since_ms >= d->busy_timeout_ms)
        return 0;
    usleep(BUSY_STEP_US);
    return 1;
}

static int sqlite_open(const char *url, const struct store_opts *opts, struct db **out, struct err *e)
{
    struct sqlite_db *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, ERR_NOMEM, "out of memory for a connection");
    d->base.drv = &db_sqlite;
    const char *path = url + strlen(db_sqlite.scheme);
    int rc = sqlite3_open_v2(path, &d->h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        rc = err_set(e, code_of(d->h, rc), "%s: %s", path, d->h ? sqlite3_errmsg(d->h) : sqlite3_errstr(rc));
        sqlite_close(&d->base);
        return rc;
    }
    sqlite3_extended_result_codes(d->h, 1);
    d->busy_timeout_ms = opts->busy_timeout_ms;
    sqlite3_busy_handler(d->h, on_busy, d);
    rc = enter_wal(&d->base, opts->busy_timeout_ms, e);
    if (!rc)
        rc = script(&d->base,
                    "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;"
                    "PRAGMA wal_autocheckpoint = 8192;"
                    "PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY",
                    e);
    if (rc) {
        sqlite_close(&d->base);
        return err_wrap(e, "%s", path);
    }
    *out = &d->base;
    return 0;
}

static int begin(struct db *db, struct err *e)
{
    struct sqlite_db *d = self(db);
    if (d->soft != db->soft) {
        int rc = script(db, db->soft ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL", e);
        if (rc)
            return rc;
        d->soft = db->soft;
    }
    return script(db, "BEGIN IMMEDIATE", e);
}

static int commit(struct db *db, struct err *e)
{
    return script(db, "COMMIT", e);
}

static void rollback(struct db *db)
{
    struct sqlite_db *d = self(db);
    /* SQLite rolls back by itself on some errors (disk full); then there is nothing left to do. */
    if (!sqlite3_get_autocommit(d->h) && sqlite3_exec(d->h, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
        db->broken = true;
}

static int prepare(struct db *db, const char *text, const struct db_arg *args, size_t n, void **stmt, struct err *e)
{
    (void)args, (void)n;
    struct sqlite_db *d = self(db);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v3(d->h, text, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
    if (rc != SQLITE_OK)
        return sqlite_err(d, rc, e);
    *stmt = st;
    return 0;
}

static void unprepare(struct db *db, void *stmt)
{
    (void)db;
    sqlite3_finalize(stmt);
}

static int bind(sqlite3_stmt *st, int at, const struct db_arg *a)
{
    switch (a->type) {
    case DB_INT:
        return sqlite3_bind_int64(st, at, a->i);
    case DB_REAL:
        return sqlite3_bind_double(st, at, a->r);
    case DB_TEXT:
        return sqlite3_bind_text(st, at, a->s, -1, SQLITE_STATIC);
    }
    return SQLITE_MISUSE;
}

static int start(struct db *db, void *stmt, const struct db_arg *args, size_t n, struct err *e)
{
    struct sqlite_db *d = self(db);
    d->stmt = stmt;
    int used = sqlite3_bind_parameter_count(stmt);
    for (int i = 0; i < (int)n && i < used; i++) {
        int rc = bind(stmt, i + 1, &args[i]);
        if (rc != SQLITE_OK) {
            sqlite3_clear_bindings(stmt);
            return sqlite_err(d, rc, e);
        }
    }
    return 0;
}

static int step(struct db *db, struct err *e)
{
    struct sqlite_db *d = self(db);
    int rc = sqlite3_step(d->stmt);
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : sqlite_err(d, rc, e);
}

static void done(struct db *db)
{
    struct sqlite_db *d = self(db);
    sqlite3_reset(d->stmt);
    sqlite3_clear_bindings(d->stmt);
    d->stmt = NULL;
}

static const char *cell(struct db *db, int column)
{
    return (const char *)sqlite3_column_text(self(db)->stmt, column);
}

static int64_t changes(struct db *db)
{
    return sqlite3_changes64(self(db)->h);
}

static int lock(struct db *db, const char *name, bool wait, struct err *e)
{
    (void)db, (void)name, (void)wait, (void)e;
    return 1; /* a write transaction has the database to itself */
}

static int notify(struct db *db, enum store_topic t, struct err *e)
{
    (void)db, (void)t, (void)e;
    return 0; /* data_version tells */
}

/* Moves what the log holds into the database file, beside readers and writers, so that no commit has to. */
static int tidy(struct db *db, struct err *e)
{
    struct sqlite_db *d = self(db);
    int rc = sqlite3_wal_checkpoint_v2(d->h, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return rc == SQLITE_OK || rc == SQLITE_BUSY ? 0 : sqlite_err(d, rc, e);
}

static int wait_change(struct db *db, enum store_topic t, int timeout_ms, int wake_fd, struct err *e)
{
    (void)t;
    struct sqlite_db *d = self(db);
    int64_t end = clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t v;
        int rc = db_scalar(db, "PRAGMA data_version", DB_NO_ARGS, 0, &v, e);
        if (rc)
            return rc;
        if (v != d->data_version) {
            d->data_version = v;
            return 1;
        }
        int64_t left = end - clock_mono_ms();
        if (left <= 0)
            return 0;
        struct pollfd p = {.fd = wake_fd, .events = POLLIN};
        if (poll(&p, 1, left < WAIT_STEP_MS ? (int)left : WAIT_STEP_MS) > 0)
            return 1;
    }
}

const struct db_driver db_sqlite = {
    .scheme = "sqlite:",
    .param = "?",
    .locks_rows = false,
    .open = sqlite_open,
    .close = sqlite_close,
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
    .tidy = tidy,
    .wait = wait_change,
};
