/*
 * store.h: the records of the service and its job queue. One file of SQLite in WAL mode by default, PostgreSQL beyond
 * one machine; nothing above this header can tell which, except by the URL it opens.
 *
 * Promises. What a call acknowledged survives kill -9 and power loss (heartbeats and progress only the former). Any number of threads and processes may use one
 * database at once; a `struct store` may be used from any thread (each call borrows a connection). Every change of a
 * job's state is one compare-and-swap that also appends its event. A running job belongs to the worker whose {id,
 * epoch} it carries: a worker that lost its lease gets ERR_LEASE_LOST from every call and can change nothing.
 *
 * Leases do not depend on anybody's wall clock: a heartbeat changes a counter, and jobs_reap() gives a job up when it
 * saw no change for the lease time on its own monotonic clock. So a jumping clock neither kills a live job nor keeps a
 * dead one.
 *
 * Errors every call can return: ERR_IO (database), ERR_CORRUPT, ERR_FULL (disk), ERR_BUSY (locked for longer than the
 * timeout), ERR_NETWORK (PostgreSQL away; the next call reconnects), ERR_NOMEM. Others are named at the call.
 *
 * Records own their strings: *_fini() frees them (a zeroed record is fine). On error an output record is left zeroed.
 */
#ifndef CORE_STORE_STORE_H
#define CORE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/store/blob.h"
#include "core/store/columns.h"

struct store;

/* ---- records ---------------------------------------------------------------------------------------------------- */

/* Members, with their meaning, stand in columns.h. */
#define STORE_TEXT(name) char *name;
#define STORE_INT(name) int64_t name;
#define STORE_REAL(name) double name;
#define STORE_COUNT(name, sql) int64_t name;

struct job {
    JOB_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};

struct clip_record {
    CLIP_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};

struct job_event {
    EVENT_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};

struct worker_record {
    WORKER_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};

void job_fini(struct job *j);
void clip_record_fini(struct clip_record *c);

/* Lists own their items. next_cursor is NULL on the last page. */
struct job_list {
    struct job *items;
    size_t n;
    char *next_cursor;
};
struct clip_list {
    struct clip_record *items;
    size_t n;
    char *next_cursor;
};
struct event_list {
    struct job_event *items;
    size_t n;
};
struct worker_list {
    struct worker_record *items;
    size_t n;
};
void job_list_fini(struct job_list *l);
void clip_list_fini(struct clip_list *l);
void event_list_fini(struct event_list *l);
void worker_list_fini(struct worker_list *l);

/* ---- opening ---------------------------------------------------------------------------------------------------- */

struct store_opts {
    int busy_timeout_ms;  /* how long a call waits for a lock; 0: 10000 */
    int max_connections;  /* per process; 0: 16. Further callers wait */
    int64_t queue_limit;  /* queued jobs beyond this are refused with ERR_BUSY; 0: no limit */
    int64_t tenant_limit; /* the same per tenant; 0: no limit */
    int64_t retention_ms; /* finished jobs expire this long after they finish; 0: 7 days */
};

/* Opens "sqlite:PATH" or "postgresql://...", creating and migrating the schema as needed (opts may be NULL). Processes
 * may do so at once. ERR_INVALID: not such a URL. ERR_UNSUPPORTED: the database was written by a newer version.
 * ERR_CORRUPT: not a database. */
int store_open(const char *url, const struct store_opts *opts, struct store **out, struct err *e);
void store_close(struct store *s); /* no other call may be running; NULL is fine */
/* Writes and reads back a row: 0 when the store can take work. For /readyz. */
int store_check(struct store *s, struct err *e);
/* Work that would otherwise fall to some commit now and then and hold it up. Call about once a second. */
int store_tidy(struct store *s, struct err *e);
/* A forked child must not use its parent's store: it opens its own, and forgets the inherited one by not touching it.
 */

enum store_topic { STORE_TOPIC_QUEUE, STORE_TOPIC_EVENTS };
/* Waits until something may have changed about the topic since the last call for it (by anybody, in any process), or
 * timeout_ms went by. 1 changed (or may have), 0 timeout, < 0 error. Wakes within 50 ms on SQLite, at once on
 * PostgreSQL. One waiting thread per topic and store. */
int store_wait(struct store *s, enum store_topic topic, int timeout_ms, struct err *e);
/* Makes store_wait return soon; async-signal-safe. */
void store_wake(struct store *s);

/* ---- jobs ------------------------------------------------------------------------------------------------------- */

enum job_kind {
#define X(name, unit) JOB_##name,
#include "core/store/job_kind.def"
#undef X
    JOB_KIND_COUNT
};
#define JOB_KINDS_ALL ((1u << JOB_KIND_COUNT) - 1)

enum job_state {
#define STATE(name, final) JOB_STATE_##name,
#include "core/store/job_state.def"
    JOB_STATE_COUNT
};

const char *job_kind_name(enum job_kind k);
int job_kind_parse(const char *name); /* enum job_kind or ERR_INVALID */
const char *job_state_name(enum job_state s);
int job_state_parse(const char *name); /* enum job_state or ERR_INVALID */
bool job_state_final(const char *name);

struct job_new {    /* strings are borrowed; NULL means none */
    const char *id; /* from id_new, of a caller that has put blobs below jobs/{id}/ already; NULL: a new one */
    enum job_kind kind;
    const char *params; /* JSON object; NULL: {} */
    const char *model;
    const char *clip_id; /* must exist */
    const struct clip_new
        *new_clip; /* instead of clip_id: recorded in the same transaction, unless the job exists already */
    const char *project_id;
    const char *tenant;   /* NULL: "" */
    int64_t priority;     /* larger runs first */
    int64_t max_attempts; /* 0: 3 */
    int64_t progress_total;
    const char *webhook_url;
    const char *idempotency_key; /* unique per tenant for as long as its job lives */
    const char *request_hash;    /* what must be equal when the key comes again */
    const char *traceparent;
};

/* Queues a job. The same idempotency key with the same hash gives the job that exists (*existed = true, may be NULL).
 * ERR_CONFLICT: the key came with another hash. ERR_BUSY: the queue is full (the message says whose). ERR_NOTFOUND: no
 * such clip. ERR_EXISTS: a train job, and one of its project waits or runs (the message names it). */
int job_create(struct store *s, const struct job_new *n, struct job *out, bool *existed, struct err *e);
/* The job of an idempotency key: 1 found (check request_hash yourself), 0 none. */
int job_by_key(struct store *s, const char *tenant, const char *key, struct job *out, struct err *e);
int job_get(struct store *s, const char *id, struct job *out, struct err *e); /* ERR_NOTFOUND */

struct job_filter {
    unsigned states;        /* bits 1 << JOB_STATE_x; 0: all */
    unsigned kinds;         /* bits 1 << JOB_x; 0: all */
    const char *tenant;     /* NULL: all */
    const char *project_id; /* NULL: all */
};
/* Newest first. `cursor` is NULL or a next_cursor; ERR_INVALID when it is neither. limit is clamped to 1..1000. */
int job_list(struct store *s, const struct job_filter *f, const char *cursor, int limit, struct job_list *out,
             struct err *e);

struct job_place {
    int64_t position; /* 1: next; 0: not queued */
    int64_t eta_ms;   /* until it is finished, from what jobs of its kind took lately; -1: not known */
};
int job_place(struct store *s, const struct job *j, struct job_place *out, struct err *e);

/* queued or running -> canceled, at once; the worker learns it from its next call. Canceling a canceled job changes
 * nothing. ERR_NOTFOUND; ERR_CONFLICT: already succeeded or failed. `out` may be NULL. */
int job_cancel(struct store *s, const char *id, struct job *out, struct err *e);
/* Removes a job in any state with its events; its blobs are handed to the sweep. ERR_NOTFOUND. */
int job_delete(struct store *s, const char *id, struct err *e);

/* -- the worker's side */

struct job_lease {
    char id[ID_SIZE];
    int64_t epoch;
};
struct job_lease job_lease_of(const struct job *j);

/* Takes the next job of the kinds (bits 1 << JOB_x): highest priority; among tenants the one with the fewest running,
 * then the one that waited longest; then the oldest. 1 claimed, 0 nothing to do. Tenants over their max_running are
 * passed over. */
int job_claim(struct store *s, const char *worker, unsigned kinds, int64_t lease_ms, struct job *out, struct err *e);
/* These return ERR_CANCELED (canceled by somebody: stop, remove your blobs) or ERR_LEASE_LOST (another owns it, or it
 * was deleted). */
int job_heartbeat(struct store *s, const struct job_lease *l, struct err *e);
int job_progress(struct store *s, const struct job_lease *l, int64_t done, int64_t total,
                 struct err *e); /* heartbeats too */
int job_log(struct store *s, const struct job_lease *l, const char *data_json,
            struct err *e); /* a "log" event; heartbeats too */
/* What a job needs across attempts (a training checkpoint) stands in jobs/{id}/NAME/ with a NAME that is no number: it
 * lives as long as the job, while jobs/{id}/{epoch}/ goes with its attempt. */
/* running -> succeeded; makes jobs/{id}/{epoch}/ the job's outputs, with `outputs_json` (an object) describing them. */
int job_publish(struct store *s, const struct job_lease *l, const char *outputs_json, struct err *e);
/* Ends the attempt with a reason: back to the queue when `retry` and an attempt is left, else failed. *requeued may be
 * NULL. */
int job_fail(struct store *s, const struct job_lease *l, int code, const char *message, bool retry, bool *requeued,
             struct err *e);
/* Gives the job back untouched (drain): queued again, the attempt does not count. */
int job_release(struct store *s, const struct job_lease *l, struct err *e);

/* -- housekeeping, by any process at any time */

struct job_reaped {
    int64_t requeued, failed;
};
/* Ends the attempts of workers that went silent. Call about once a second. One process at a time does the work. `out`
 * may be NULL. */
int jobs_reap(struct store *s, struct job_reaped *out, struct err *e);
/* The supervisor saw this worker die: its jobs go on at once, with `reason` as their error. */
int jobs_abandon(struct store *s, const char *worker, const char *reason, struct job_reaped *out, struct err *e);

/* ---- events ----------------------------------------------------------------------------------------------------- */

#define JOB_EVENTS_KEPT 1000 /* per job; of "progress" only the newest stays */
/* Events with seq > after, oldest first, at most limit. An unknown job has none. */
int job_events(struct store *s, const char *job_id, int64_t after, int limit, struct event_list *out, struct err *e);

/* ---- clips ------------------------------------------------------------------------------------------------------ */

/* Puts the file at `path` into `b` as clips/<sha256> and records it (fields of `c`: tenant, name, frames .. codec,
 * expires_ms; the rest is filled in). The same content of the same tenant gives the clip that exists (*existed = true,
 * may be NULL), with the later of the two expiries. With `move`, path is consumed on success (and may be on failure).
 */
int clip_add(struct store *s, struct blobs *b, const char *path, bool move, const struct clip_record *c,
             struct clip_record *out, bool *existed, struct err *e);
/* A clip whose bytes are stored but that has no record yet: clip_add is clip_put, then the record. */
struct clip_new {
    struct blobs *blobs;
    char sha256[SHA256_HEX_SIZE];
    int64_t bytes;
    struct clip_record record; /* as clip_add's `c`, strings borrowed; filled in by the caller */
};
int clip_put(struct store *s, struct blobs *b, const char *path, bool move, struct clip_new *out, struct err *e);
int clip_record_new(struct store *s, const struct clip_new *n, struct clip_record *out, bool *existed, struct err *e);
/* What decoding all of a clip taught; until then `frames` may be what its container claims. */
int clip_set_frames(struct store *s, const char *id, int64_t frames, struct err *e);
int clip_get(struct store *s, const char *id, struct clip_record *out, struct err *e); /* ERR_NOTFOUND */
/* The tenant's clip with this content: 1 found, 0 none. */
int clip_find(struct store *s, const char *tenant, const char *sha256, struct clip_record *out, struct err *e);
int clip_list(struct store *s, const char *tenant, const char *cursor, int limit, struct clip_list *out, struct err *e);
int clip_delete(struct store *s, const char *id,
                struct err *e); /* ERR_NOTFOUND; ERR_CONFLICT: a job or a project uses it */
/* "clips/<sha256>" */
#define CLIP_KEY_SIZE (6 + SHA256_HEX_SIZE)
void clip_key(const struct clip_record *c, char out[CLIP_KEY_SIZE]);

/* ---- workers ---------------------------------------------------------------------------------------------------- */

/* Registers or refreshes a worker (id, host, pid, device, draining, job_id, info of `w`). */
int worker_beat(struct store *s, const struct worker_record *w, struct err *e);
int worker_remove(struct store *s, const char *id, struct err *e);
/* Workers seen within max_age_ms; with 0, all. */
int worker_list(struct store *s, int64_t max_age_ms, struct worker_list *out, struct err *e);

/* ---- tenants ---------------------------------------------------------------------------------------------------- */

/* Jobs of one tenant that may run at once; 0: no limit. */
int tenant_set_max_running(struct store *s, const char *tenant, int64_t max_running, struct err *e);

/* ---- retention and numbers -------------------------------------------------------------------------------------- */

struct store_sweep {
    int64_t jobs, clips, workers;  /* records removed because they expired */
    int64_t blobs;                 /* blobs of removed records */
    int64_t orphans, orphan_bytes; /* blobs no record knows (torn writes, late workers); only with `deep` */
};
/* Removes expired jobs, unused expired clips and long-gone workers, then blobs nobody refers to any more: those of
 * ended attempts and removed jobs at once, content-addressed ones grace_ms after their last record went. `deep` also
 * walks all blobs and removes those older than grace_ms without a record. grace_ms must be longer than storing one clip
 * can take (an hour). Safe beside everything else. */
int store_sweep(struct store *s, struct blobs *b, bool deep, int64_t grace_ms, struct store_sweep *out, struct err *e);

struct store_counts {
    int64_t jobs[JOB_STATE_COUNT][JOB_KIND_COUNT]; /* as they are now */
    int64_t oldest_queued_ms;                      /* age of the oldest queued job; 0 without one */
    int64_t workers;                               /* seen within 15 s */
    int64_t clips, clip_bytes;
    int64_t requeued, lease_losses; /* since the database was made */
};
int store_counts(struct store *s, struct store_counts *out, struct err *e);

#endif
