-- Version 1: clips, jobs and their events, workers. Statements must mean the same to SQLite and to PostgreSQL.
-- Times are milliseconds since the epoch; hashes are lower-case hex; JSON is text.

CREATE TABLE tenants (
    id TEXT PRIMARY KEY,
    max_running BIGINT NOT NULL DEFAULT 0,
    served BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE clips (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL DEFAULT '',
    sha256 TEXT NOT NULL,
    name TEXT,
    frames BIGINT NOT NULL,
    width BIGINT NOT NULL,
    height BIGINT NOT NULL,
    fps DOUBLE PRECISION NOT NULL,
    duration_s DOUBLE PRECISION NOT NULL,
    codec TEXT,
    bytes BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL DEFAULT 0,
    UNIQUE (tenant, sha256)
);
CREATE INDEX clips_sha256 ON clips (sha256);
CREATE INDEX clips_expiry ON clips (expires_ms) WHERE expires_ms > 0;

CREATE TABLE project_clips (
    project_id TEXT NOT NULL,
    clip_id TEXT NOT NULL REFERENCES clips (id),
    added_ms BIGINT NOT NULL,
    PRIMARY KEY (project_id, clip_id)
);
CREATE INDEX project_clips_clip ON project_clips (clip_id);

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    tenant TEXT NOT NULL DEFAULT '',
    priority BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL,
    started_ms BIGINT,
    finished_ms BIGINT,
    expires_ms BIGINT NOT NULL DEFAULT 0,
    attempt BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    beat BIGINT NOT NULL DEFAULT 0,
    worker TEXT,
    lease_ms BIGINT NOT NULL DEFAULT 0,
    progress_done BIGINT NOT NULL DEFAULT 0,
    progress_total BIGINT NOT NULL DEFAULT 0,
    progress_unit TEXT NOT NULL,
    model TEXT,
    clip_id TEXT,
    project_id TEXT,
    params TEXT NOT NULL,
    outputs TEXT,
    output_epoch BIGINT NOT NULL DEFAULT 0,
    error_code TEXT,
    error_message TEXT,
    webhook_url TEXT,
    idempotency_key TEXT,
    request_hash TEXT,
    traceparent TEXT,
    event_seq BIGINT NOT NULL DEFAULT 0,
    CHECK (state <> 'running' OR (worker IS NOT NULL AND epoch > 0)),
    CHECK (state <> 'succeeded' OR output_epoch = epoch)
);
CREATE INDEX jobs_queued ON jobs (priority DESC, id) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (tenant) WHERE state = 'running';
CREATE INDEX jobs_state ON jobs (state, kind, finished_ms);
CREATE INDEX jobs_expiry ON jobs (expires_ms) WHERE expires_ms > 0;
CREATE INDEX jobs_clip ON jobs (clip_id) WHERE clip_id IS NOT NULL;
CREATE INDEX jobs_project ON jobs (project_id, id) WHERE project_id IS NOT NULL;
CREATE UNIQUE INDEX jobs_key ON jobs (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE job_events (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (job_id, seq)
);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT,
    pid BIGINT NOT NULL DEFAULT 0,
    device TEXT,
    started_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    draining BIGINT NOT NULL DEFAULT 0,
    job_id TEXT,
    info TEXT
);

-- Blobs (or, ending with '/', all blobs below) whose record is gone; the sweep removes them unless somebody refers to them again.
CREATE TABLE blob_gc (
    key TEXT PRIMARY KEY,
    created_ms BIGINT NOT NULL
);

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('probe', 0), ('requeued', 0), ('lease_losses', 0);
