/*
 * db: the parts of database access that do not depend on the driver: dialect, statement cache, connection pool,
 * transactions.
 *
 * The pool opens connections as they are needed, up to max_connections; a caller beyond that waits. A connection that
 * failed in a way that says it is gone (`broken`) is closed instead of returned, so the next call opens a fresh one:
 * this is how a restarted PostgreSQL is met.
 */
#include "core/store/db.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const struct db_driver *const drivers[] = {&db_sqlite, &db_postgres};

/* ---- statements ------------------------------------------------------------------------------------------------- */

/* {lock} and {skip OF x}: returns the length of the token, 0 when there is none here. */
static size_t dialect_token(const struct db_driver *drv, const char *p, struct buf *out)
{
    if (strncmp(p, "{lock}", 6) == 0) {
        buf_puts(out, drv->locks_rows ? "FOR UPDATE" : "");
        return 6;
    }
    if (strncmp(p, "{skip OF ", 9) == 0) {
        const char *end = strchr(p, '}');
        BUG_ON(!end);
        if (drv->locks_rows)
            buf_printf(out, "FOR UPDATE OF %.*s SKIP LOCKED", (int)(end - p - 9), p + 9);
        return (size_t)(end - p) + 1;
    }
    return 0;
}

static void dialect(const struct db_driver *drv, const char *sql, struct buf *out)
{
    for (const char *p = sql; *p;) {
        size_t n = *p == '{' ? dialect_token(drv, p, out) : 0;
        if (n) {
            p += n;
        } else if (*p == '?' && p[1] >= '1' && p[1] <= '9') {
            buf_puts(out, drv->param);
            p++;
        } else {
            buf_putc(out, *p++);
        }
    }
}

static int cache_grow(struct db *db, struct err *e)
{
    if (db->ncache < db->cache_cap)
        return 0;
    size_t cap = db->cache_cap ? 2 * db->cache_cap : 32;
    struct db_cached *c = realloc(db->cache, cap * sizeof(*c));
    if (!c)
        return err_set(e, ERR_NOMEM, "out of memory for a statement");
    db->cache = c;
    db->cache_cap = cap;
    return 0;
}

static int prepared(struct db *db, const char *sql, const struct db_arg *args, size_t n, void **stmt, struct err *e)
{
    for (size_t i = 0; i < db->ncache; i++)
        if (db->cache[i].sql == sql) {
            *stmt = db->cache[i].stmt;
            return 0;
        }
    int rc = cache_grow(db, e);
    if (rc)
        return rc;
    struct buf text = BUF_INIT;
    dialect(db->drv, sql, &text);
    rc = text.failed ? err_set(e, ERR_NOMEM, "out of memory for a statement")
                     : db->drv->prepare(db, text.data, args, n, stmt, e);
    buf_free(&text);
    if (rc)
        return rc;
    db->cache[db->ncache++] = (struct db_cached){.sql = sql, .stmt = *stmt};
    return 0;
}

void db_forget(struct db *db)
{
    for (size_t i = 0; i < db->ncache; i++)
        db->drv->unprepare(db, db->cache[i].stmt);
    free(db->cache);
    db->cache = NULL;
    db->ncache = db->cache_cap = 0;
}

static int query_once(struct db *db, const char *sql, const struct db_arg *args, size_t n, struct err *e)
{
    void *stmt = NULL;
    int rc = prepared(db, sql, args, n, &stmt, e);
    return rc ? rc : db->drv->start(db, stmt, args, n, e);
}

static void repaired_free(struct db *db)
{
    while (db->nrepaired > 0)
        free(db->repaired[--db->nrepaired]);
}

static int repair(struct db *db, struct db_arg *args, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        char *fixed;
        int rc = args[i].type == DB_TEXT && args[i].s ? utf8_repair(args[i].s, &fixed) : 0;
        if (rc < 0)
            return err_set(e, rc, "out of memory for a statement");
        if (rc == 1)
            args[i].s = db->repaired[db->nrepaired++] = fixed;
    }
    return 0;
}

int db_query(struct db *db, const char *sql, const struct db_arg *args, size_t n, struct err *e)
{
    BUG_ON(db->active || n > DB_ARGS_MAX);
    struct db_arg fit[DB_ARGS_MAX] = {0};
    if (n)
        memcpy(fit, args, n * sizeof(*args));
    int rc = repair(db, fit, n, e);
    if (!rc)
        rc = query_once(db, sql, fit, n, e);
    /* Outside a transaction there are only reads: safe to ask again on a new connection. */
    if (rc == ERR_NETWORK && !db->in_tx && db->drv->reconnect && db->drv->reconnect(db, e) == 0)
        rc = query_once(db, sql, fit, n, e);
    db->active = rc == 0;
    if (rc)
        repaired_free(db);
    return rc;
}

int db_step(struct db *db, struct err *e)
{
    BUG_ON(!db->active);
    return db->drv->step(db, e);
}

void db_done(struct db *db)
{
    if (db->active)
        db->drv->done(db);
    db->active = false;
    repaired_free(db);
}

const char *db_cell(struct db *db, int column)
{
    return db->drv->cell(db, column);
}

int64_t db_cell_int(struct db *db, int column)
{
    const char *s = db->drv->cell(db, column);
    return s ? strtoll(s, NULL, 10) : 0;
}

double db_cell_real(struct db *db, int column)
{
    const char *s = db->drv->cell(db, column);
    return s ? strtod(s, NULL) : 0;
}

int64_t db_run(struct db *db, const char *sql, const struct db_arg *args, size_t n, struct err *e)
{
    int64_t rc = db_query(db, sql, args, n, e);
    if (rc)
        return rc;
    do
        rc = db_step(db, e);
    while (rc == 1);
    if (rc == 0)
        rc = db->drv->changes(db);
    db_done(db);
    return rc;
}

int db_row(struct db *db, const char *sql, const struct db_arg *args, size_t n, struct err *e)
{
    int rc = db_query(db, sql, args, n, e);
    if (rc)
        return rc;
    rc = db_step(db, e);
    if (rc != 1)
        db_done(db);
    return rc;
}

int db_scalar(struct db *db, const char *sql, const struct db_arg *args, size_t n, int64_t none, int64_t *out,
              struct err *e)
{
    int rc = db_row(db, sql, args, n, e);
    *out = rc == 1 ? db_cell_int(db, 0) : none;
    if (rc == 1)
        db_done(db);
    return rc < 0 ? rc : 0;
}

/* ---- pool ------------------------------------------------------------------------------------------------------- */

static void connection_close(struct db *db)
{
    if (!db)
        return;
    db_forget(db);
    db->drv->close(db);
}

/* An idle connection, or leave to open one (*out == NULL), waiting while all are taken. */
static void pool_take(struct store *s, struct db **out)
{
    pthread_mutex_lock(&s->lock);
    while (!s->idle && s->open_connections >= s->opts.max_connections)
        pthread_cond_wait(&s->freed, &s->lock);
    *out = s->idle;
    if (s->idle)
        s->idle = s->idle->next;
    else
        s->open_connections++;
    pthread_mutex_unlock(&s->lock);
}

static void pool_give(struct store *s, struct db *db)
{
    bool gone = !db || db->broken;
    if (gone)
        connection_close(db);
    pthread_mutex_lock(&s->lock);
    if (gone) {
        s->open_connections--;
    } else {
        db->next = s->idle;
        s->idle = db;
    }
    pthread_cond_signal(&s->freed);
    pthread_mutex_unlock(&s->lock);
}

int db_begin(struct db *db, struct err *e)
{
    int rc = db->drv->begin(db, e);
    if (rc == ERR_NETWORK && db->drv->reconnect && db->drv->reconnect(db, e) == 0)
        rc = db->drv->begin(db, e);
    db->in_tx = rc == 0;
    return rc;
}

int db_commit(struct db *db, struct err *e)
{
    int rc = db->drv->commit(db, e);
    if (rc)
        db->drv->rollback(db);
    db->in_tx = false;
    return rc;
}

void db_rollback(struct db *db)
{
    db->drv->rollback(db);
    db->in_tx = false;
}

static void queue_writer(const struct tx *t)
{
    if (t->write && !t->s->drv->locks_rows)
        pthread_mutex_lock(&t->s->writing);
}

static void next_writer(const struct tx *t)
{
    if (t->write && !t->s->drv->locks_rows)
        pthread_mutex_unlock(&t->s->writing);
}

static int begin(struct store *s, bool write, bool soft, struct tx *t, struct err *e)
{
    *t = (struct tx){.s = s, .write = write};
    queue_writer(t);
    pool_take(s, &t->db);
    int rc = t->db ? 0 : s->drv->open(s->url, &s->opts, &t->db, e);
    if (!rc && write) {
        t->db->soft = soft;
        rc = db_begin(t->db, e);
    }
    if (rc) {
        pool_give(s, t->db);
        next_writer(t);
    }
    return rc;
}

int tx_begin(struct store *s, bool write, struct tx *t, struct err *e)
{
    return begin(s, write, false, t, e);
}

int tx_begin_soft(struct store *s, struct tx *t, struct err *e)
{
    return begin(s, true, true, t, e);
}

int tx_end(struct tx *t, int rc, struct err *e)
{
    db_done(t->db);
    if (t->write && rc >= 0) {
        int crc = db_commit(t->db, e);
        rc = crc ? crc : rc;
    } else if (t->write) {
        db_rollback(t->db);
    }
    pool_give(t->s, t->db);
    next_writer(t);
    return rc;
}

/* ---- open, close, wait ------------------------------------------------------------------------------------------ */

static void store_defaults(struct store_opts *o)
{
    if (o->busy_timeout_ms <= 0)
        o->busy_timeout_ms = 10000;
    if (o->max_connections <= 0)
        o->max_connections = 16;
    if (o->retention_ms <= 0)
        o->retention_ms = INT64_C(7) * 24 * 3600 * 1000;
}

static const struct db_driver *driver_for(const char *url)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
        if (strncmp(url, drivers[i]->scheme, strlen(drivers[i]->scheme)) == 0)
            return drivers[i];
    return NULL;
}

static struct store *store_new(const char *url, const struct db_driver *drv, const struct store_opts *opts)
{
    struct store *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->drv = drv;
    s->url = strdup(url);
    if (opts)
        s->opts = *opts;
    store_defaults(&s->opts);
    pthread_mutex_init(&s->writing, NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->reap_lock, NULL);
    pthread_cond_init(&s->freed, NULL);
    for (int i = 0; i < 2; i++)
        s->wake_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!s->url || s->wake_fd[0] < 0 || s->wake_fd[1] < 0) {
        store_close(s);
        return NULL;
    }
    return s;
}

int store_open(const char *url, const struct store_opts *opts, struct store **out, struct err *e)
{
    *out = NULL;
    const struct db_driver *drv = driver_for(url);
    if (!drv)
        return err_set(e, ERR_INVALID, "database URL must begin with sqlite: or postgresql://");
    struct store *s = store_new(url, drv, opts);
    if (!s)
        return err_set(e, ERR_NOMEM, "out of memory or file descriptors for the store");
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (!rc)
        rc = tx_end(&t, schema_migrate(t.db, schema_newest(), e), e);
    if (rc) {
        store_close(s);
        return err_wrap(e, "opening the database");
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    while (s->idle) {
        struct db *db = s->idle;
        s->idle = db->next;
        connection_close(db);
    }
    for (int i = 0; i < 2; i++) {
        connection_close(s->watch[i]);
        if (s->wake_fd[i] >= 0)
            close(s->wake_fd[i]);
    }
    pthread_mutex_destroy(&s->writing);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->reap_lock);
    pthread_cond_destroy(&s->freed);
    free(s->seen);
    free(s->url);
    free(s);
}

int store_check(struct store *s, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n = db_run(t.db, "UPDATE counters SET value = value + 1 WHERE name = ?1", DB_ARGS(db_t("probe")), e);
    if (n == 0)
        n = err_set(e, ERR_CORRUPT, "the database lost its probe row");
    return tx_end(&t, n < 0 ? (int)n : 0, e);
}

int store_tidy(struct store *s, struct err *e)
{
    struct tx t;
    if (!s->drv->tidy)
        return 0;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, s->drv->tidy(t.db, e), e);
}

int store_wait(struct store *s, enum store_topic topic, int timeout_ms, struct err *e)
{
    int rc;
    if (!s->watch[topic]) {
        rc = s->drv->open(s->url, &s->opts, &s->watch[topic], e);
        if (rc)
            return rc;
    }
    rc = s->drv->wait(s->watch[topic], topic, timeout_ms, s->wake_fd[topic], e);
    uint64_t drained;
    if (read(s->wake_fd[topic], &drained, sizeof(drained)) == (ssize_t)sizeof(drained) && rc == 0)
        rc = 1;
    if (rc < 0 || s->watch[topic]->broken) {
        connection_close(s->watch[topic]);
        s->watch[topic] = NULL;
    }
    return rc;
}

void store_wake(struct store *s)
{
    uint64_t one = 1;
    for (int i = 0; i < 2; i++)
        if (write(s->wake_fd[i], &one, sizeof(one)) < 0)
            continue; /* already pending */
}
