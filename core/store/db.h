/*
 * db.h: SQL with the database left open. A driver (SQLite, PostgreSQL) is one table of functions; statements are
 * written once. Inside core/store only.
 *
 * Dialect. Parameters are ?1 .. ?16. {lock} becomes FOR UPDATE and {skip OF t} FOR UPDATE OF t SKIP LOCKED where rows
 * are locked one by one, and nothing where a write transaction has the database to itself. Everything else must be SQL
 * both understand.
 *
 * A connection runs one statement at a time: db_query, db_step..., db_done. Statement texts are kept prepared by
 * address, so they must be constants that live for ever.
 */
#ifndef CORE_STORE_DB_H
#define CORE_STORE_DB_H

#include <pthread.h>

#include "core/store/store.h"

struct db_arg {
    enum { DB_INT, DB_REAL, DB_TEXT } type;
    int64_t i;
    double r;
    const char *s; /* NULL: SQL NULL; must live until db_done */
};

#define DB_ARGS_MAX 40
static inline struct db_arg db_i(int64_t v)
{
    return (struct db_arg){.type = DB_INT, .i = v};
}
static inline struct db_arg db_r(double v)
{
    return (struct db_arg){.type = DB_REAL, .r = v};
}
static inline struct db_arg db_t(const char *v)
{
    return (struct db_arg){.type = DB_TEXT, .s = v};
}
#define DB_ARGS(...) \
    (const struct db_arg[]){__VA_ARGS__}, (sizeof((const struct db_arg[]){__VA_ARGS__}) / sizeof(struct db_arg))
#define DB_NO_ARGS NULL, (size_t)0

struct db;

struct db_driver {
    const char *scheme; /* "sqlite:", what the URL begins with */
    const char *param;  /* "?" or "$" before a parameter's number */
    bool locks_rows;    /* {lock} and {skip} mean something */
    int (*open)(const char *url, const struct store_opts *opts, struct db **out, struct err *e);
    void (*close)(struct db *db);
    int (*reconnect)(struct db *db, struct err *e); /* after ERR_NETWORK; NULL: nothing to reconnect */
    int (*begin)(struct db *db, struct err *e);     /* a write transaction, durable unless db->soft */
    int (*commit)(struct db *db, struct err *e);
    void (*rollback)(struct db *db);
    int (*script)(struct db *db, const char *sql, struct err *e);
    int (*prepare)(struct db *db, const char *text, const struct db_arg *args, size_t n, void **stmt, struct err *e);
    void (*unprepare)(struct db *db, void *stmt);
    int (*start)(struct db *db, void *stmt, const struct db_arg *args, size_t n, struct err *e);
    int (*step)(struct db *db, struct err *e); /* 1 row, 0 end */
    void (*done)(struct db *db);
    const char *(*cell)(struct db *db, int column); /* text of a cell of this row, NULL for SQL NULL */
    int64_t (*changes)(struct db *db);              /* rows the finished statement changed */
    /* Holds a named lock until the transaction ends: 1 taken, 0 another has it (only without `wait`). */
    int (*lock)(struct db *db, const char *name, bool wait, struct err *e);
    int (*notify)(struct db *db, enum store_topic t, struct err *e);
    int (*tidy)(struct db *db, struct err *e); /* as store_tidy; NULL: nothing to do */
    /* As store_wait, on a connection of its own; readable wake_fd ends the wait (and stays readable). */
    int (*wait)(struct db *db, enum store_topic t, int timeout_ms, int wake_fd, struct err *e);
};

extern const struct db_driver db_sqlite, db_postgres;

struct db_cached {
    const char *sql;
    void *stmt;
};

struct db { /* first member of each driver's connection */
    const struct db_driver *drv;
    struct db_cached *cache;
    size_t ncache, cache_cap;
    char *repaired[DB_ARGS_MAX]; /* arguments that were not UTF-8, until db_done */
    size_t nrepaired;
    bool active; /* between db_query and db_done */
    bool in_tx;  /* inside a write transaction */
    bool soft;   /* the next write transaction need not survive a power loss */
    bool broken; /* to be closed instead of pooled */
    struct db *next;
};

/* Text that is not valid UTF-8 is stored with U+FFFD in its place. */
int db_query(struct db *db, const char *sql, const struct db_arg *args, size_t n, struct err *e);
int db_step(struct db *db, struct err *e);
void db_done(struct db *db);
int64_t db_cell_int(struct db *db, int column); /* 0 for NULL */
double db_cell_real(struct db *db, int column);
const char *db_cell(struct db *db, int column);
/* Runs to the end: rows changed, or < 0. */
int64_t db_run(struct db *db, const char *sql, const struct db_arg *args, size_t n, struct err *e);
/* Steps to the first row: 1 (call db_done after reading it), 0 none (already done), < 0. */
int db_row(struct db *db, const char *sql, const struct db_arg *args, size_t n, struct err *e);
/* The first cell of the only row, or `none` without a row. */
int db_scalar(struct db *db, const char *sql, const struct db_arg *args, size_t n, int64_t none, int64_t *out,
              struct err *e);
int db_begin(struct db *db, struct err *e);
int db_commit(struct db *db, struct err *e); /* rolls back when it fails */
void db_rollback(struct db *db);
/* Forgets all prepared statements (a driver calls it when the connection goes). */
void db_forget(struct db *db);

/* ---- the store -------------------------------------------------------------------------------------------------- */

struct lease_seen { /* what jobs_reap knows about a running job */
    char id[ID_SIZE];
    int64_t epoch, beat, lease_ms, since_mono_ms;
};

struct store {
    const struct db_driver *drv;
    char *url;
    struct store_opts opts;
    pthread_mutex_t writing; /* where the database has one writer: our threads take turns here, not by polling for it */
    pthread_mutex_t lock;
    pthread_cond_t freed;
    struct db *idle;
    int open_connections;
    struct db *watch[2]; /* by topic */
    int wake_fd[2];
    pthread_mutex_t reap_lock;
    struct lease_seen *seen;
    size_t nseen;
};

struct tx {
    struct store *s;
    struct db *db;
    bool write;
};
/* Borrows a connection; with `write` begins a transaction. */
int tx_begin(struct store *s, bool write, struct tx *t, struct err *e);
/* A write that a power loss may undo (a killed process does not): it waits for no disk. For what is worth nothing afterwards. */
int tx_begin_soft(struct store *s, struct tx *t, struct err *e);
/* Commits when rc >= 0, else rolls back (keeping *e); gives the connection back. Returns rc, or the commit's error. */
int tx_end(struct tx *t, int rc, struct err *e);

/* 0: `s` is valid UTF-8; 1: *out is a copy (free()) with U+FFFD where it was not; ERR_NOMEM. */
int utf8_repair(const char *s, char **out);

/* Brings the schema to the newest version (or to `version`, for tests of older ones). */
int schema_migrate(struct db *db, int version, struct err *e);
int schema_newest(void);

#endif
