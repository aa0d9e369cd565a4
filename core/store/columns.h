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
    TEXT(model)         /* as it was asked for: "name", "name@version" or "name:alias" */ \
    TEXT(model_version) /* what that was when the job began (registry_pin); NULL before */ \
    TEXT(model_sha256)  /* of that version's weights */ \
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

#define PROJECT_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) \
    TEXT(tenant) \
    TEXT(name) \
    TEXT(settings) /* JSON object, see project.h */ \
    INT(version)   /* counts changes of name and settings */ \
    INT(created_ms) \
    INT(updated_ms) \
    COUNT(clips, "(SELECT count(*) FROM project_clips c WHERE c.project_id = projects.id)")

#define MASK_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(project_id) \
    TEXT(clip_id) \
    INT(frame) \
    INT(version) /* 1, 2, 3... of this frame; a deletion is a version too */ \
    INT(deleted) \
    TEXT(sha256)  /* of the PNG as it was sent; the bytes are blob masks/<sha256> */ \
    INT(objects)  /* distinct labels besides 0 */ \
    TEXT(author) \
    TEXT(origin) /* "manual", "correction" (there was a pseudo-label), "import" */ \
    INT(created_ms)

/* A pseudo-label is stale when a keyframe that it came from has changed (2), else when another one stands between them (1). */
#define LABEL_SAME_CLIP "m.project_id = labels.project_id AND m.clip_id = labels.clip_id"
#define LABEL_KEY_CHANGED(side) \
    "(labels." side "_frame >= 0 AND labels." side "_version <> coalesce((SELECT m.version FROM masks m WHERE " \
    LABEL_SAME_CLIP " AND m.frame = labels." side "_frame ORDER BY m.version DESC LIMIT 1), 0))"
#define LABEL_STALE \
    "(CASE WHEN labels.source <> 'pseudo' THEN 0 WHEN " LABEL_KEY_CHANGED("left") " OR " LABEL_KEY_CHANGED("right") \
    " THEN 2 WHEN EXISTS (SELECT 1 FROM masks m WHERE " LABEL_SAME_CLIP " AND m.frame > labels.left_frame AND" \
    " m.frame < CASE WHEN labels.right_frame < 0 THEN 9223372036854775807 ELSE labels.right_frame END" /* a range of the key */ \
    " AND m.deleted = 0 AND NOT EXISTS (SELECT 1 FROM masks n" \
    " WHERE n.project_id = m.project_id AND n.clip_id = m.clip_id AND n.frame = m.frame AND n.version > m.version))" \
    " THEN 1 ELSE 0 END)"

#define LABEL_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(project_id) \
    TEXT(clip_id) \
    INT(frame) \
    TEXT(source) /* label_source */ \
    TEXT(state)  /* label_state */ \
    REAL(confidence) /* 0..1, an estimate of the region similarity with the true mask */ \
    INT(left_frame)  /* keyframes it came from; -1: none on this side */ \
    INT(right_frame) \
    INT(left_version) /* of those keyframes, when it was made */ \
    INT(right_version) \
    TEXT(model) \
    TEXT(model_sha256) \
    TEXT(flow) \
    TEXT(sha256)             /* of its mask; NULL without one */ \
    TEXT(uncertainty_sha256) /* grey PNG, 255 uncertain; or NULL */ \
    TEXT(job_id) \
    INT(version) /* counts changes of the row */ \
    INT(updated_ms) \
    COUNT(stale, LABEL_STALE)

#define AUDIT_COLUMNS(TEXT, INT, REAL, COUNT) \
    TEXT(id) \
    INT(at_ms) \
    TEXT(actor)   /* who: the API key's id, "" when the service is open; a job writes "job:ID" */ \
    TEXT(subject) /* "projects/ID" */ \
    TEXT(action)  /* "keyframe.put", "label.accept", ... */ \
    TEXT(before_json) /* JSON object or NULL */ \
    TEXT(after_json) \
    TEXT(request_id)

/* clang-format on */

#endif
