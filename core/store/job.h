/* job.h: what the queue's files share. Inside core/store only. */
#ifndef CORE_STORE_JOB_H
#define CORE_STORE_JOB_H

#include "core/store/record.h"

enum job_verb {
#define MOVE(verb, from, to) VERB_##verb,
#include "core/store/job_state.def"
    VERB_COUNT
};

struct job_move {
    const char *id;
    int64_t epoch; /* required epoch, 0: any */
    int64_t beat;  /* required heartbeat count, -1: any */
    int64_t now_ms;
    /* What they mean depends on the verb: claim (worker, -, lease_ms), publish (outputs, -, expires_ms), fail and retry
     * (error code, message, expires_ms), cancel (-, -, expires_ms). */
    const char *a, *b;
    int64_t n;
};
/* Does one move with its event, inside a write transaction: 1 moved and *out (may be NULL) read, 0 the job is not where
 * it starts. */
int job_move(struct db *db, enum job_verb verb, const struct job_move *m, struct job *out, struct err *e);

/* Appends an event and trims the old ones; the caller holds the job's row in a write transaction and has raised
 * event_seq to `seq`. */
int event_append(struct db *db, const char *job_id, int64_t seq, const char *type, const char *data, int64_t now_ms,
                 struct err *e);
/* `s` as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
void json_put_string(struct buf *b, const char *s);

/* The lease is held: 0, else ERR_LEASE_LOST or ERR_CANCELED. The job's row is locked until the transaction ends. */
int lease_check(struct db *db, const struct job_lease *l, struct err *e);

/* Hands a key, or all below a prefix, to the sweep. */
int gc_add(struct db *db, const char *key, int64_t now_ms, struct err *e);

/* Whether a record refers to the blob, or to one below the prefix: 1, 0, < 0. Keys nobody answers for count as referred
 * to. */
int blob_referenced(struct db *db, const char *key, struct err *e);

/* Takes back a queued removal of a blob that is to be stored: 1 a record has it already, 0 it must be put, < 0. */
int blob_reserve(struct store *s, const char *key, struct err *e);
/* First thing in the transaction that inserts the record: locks the key until it ends. ERR_BUSY: a sweep was faster. */
int blob_confirm(struct db *db, struct blobs *b, const char *key, struct err *e);

/* Records a clip whose bytes are stored, inside a write transaction: 0 new, 1 it was there. */
int clip_insert(struct db *db, const struct clip_new *n, struct clip_record *out, struct err *e);

/* Appends an event of that type to a leased job; heartbeats too. */
int job_event_locked(struct db *db, const struct job_lease *l, const char *type, const char *data, struct err *e);

/* ",a,b," of the names whose bits are set (all for 0), for `?1 LIKE '%,' || column || ',%'`. */
void kind_set(unsigned wanted, struct buf *out);
void state_set(unsigned wanted, struct buf *out);

#endif
