/*
 * columns.h: the columns of the records that leave the store, once: struct members, SELECT lists, readers and
 * destructors are made from these rows. TEXT(name)   char *name, owned by the record; NULL for SQL NULL INT(name)
 * int64_t name; 0 for SQL NULL. *_ms are milliseconds since the epoch (UTC), 0 when it has not happened REAL(name)
 * double name COUNT(name, sql)  int64_t name, computed by sql
 */
#ifndef CORE_STORE_COLUMNS_H
#define CORE_STORE_COLUMNS_H

/* clang-format off */
#define JOB_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) \
    TEXT(kind)  /* job_kind.def */ \
    TEXT(state) /* job_state.def */ \
    TEXT(tenant) /* API key id, "" when the service is open */ \
    INT(priority) \
    INT(created_ms) \
    INT(started_ms) /* of the last attempt */ \
    INT(finished_ms) \
    INT(expires_ms) /* set when finished: the sweep removes the job after this */ \
    INT(attempt)    /* 1 while the first attempt runs */ \
    INT(max_attempts) \
    INT(epoch) /* counts claims; the current attempt writes below jobs/{id}/{epoch}/ */ \
    TEXT(worker) \
    INT(lease_ms) \
    INT(progress_done) \
    INT(progress_total) /* 0: not known yet */ \
    TEXT(progress_unit) \
    TEXT(model) \
    TEXT(clip_id) \
    TEXT(project_id) \
    TEXT(params)      /* JSON object */ \
    TEXT(outputs)     /* JSON object, set by job_publish */ \
    INT(output_epoch) /* epoch whose blobs are published; 0 before */ \
    TEXT(error_code)  /* err_name() */ \
    TEXT(error_message) \
    TEXT(webhook_url) \
    TEXT(idempotency_key) \
    TEXT(request_hash) \
    TEXT(traceparent) \
    INT(event_seq) /* id of the last event */

#define CLIP_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) \
    TEXT(tenant) \
    TEXT(sha256) \
    TEXT(name) /* file name as uploaded, or NULL */ \
    INT(frames) \
    INT(width) \
    INT(height) \
    REAL(fps) \
    REAL(duration_s) \
    TEXT(codec) \
    INT(bytes) \
    INT(created_ms) \
    INT(expires_ms) /* 0: kept until deleted */ \
    COUNT(refs, "((SELECT count(*) FROM jobs r WHERE r.clip_id = clips.id AND r.state IN ('queued','running'))" \
          " + (SELECT count(*) FROM project_clips p WHERE p.clip_id = clips.id))")

#define EVENT_COLUMNS(TEXT, INT, REAL, COUNT) \
    INT(seq)   /* 1, 2, 3... within its job, in commit order: the id of the event stream */ \
    TEXT(type) /* "state", "progress", "log" */ \
    TEXT(data) /* JSON object */ \
    INT(at_ms)

#define WORKER_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) \
    TEXT(host) \
    INT(pid) \
    TEXT(device) \
    INT(started_ms) \
    INT(seen_ms) \
    INT(draining) \
    TEXT(job_id) /* what it is doing, or NULL */ \
    TEXT(info)   /* JSON object */

/* clang-format on */

#endif
