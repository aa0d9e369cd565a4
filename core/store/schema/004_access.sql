-- Version 4: API keys, resumable uploads, webhook deliveries.

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    key_sha256 TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    max_running BIGINT NOT NULL DEFAULT 0,
    quota_bytes BIGINT NOT NULL DEFAULT 0,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL DEFAULT 0,
    revoked_ms BIGINT NOT NULL DEFAULT 0,
    used_ms BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL DEFAULT '',
    length_bytes BIGINT NOT NULL DEFAULT -1,
    offset_bytes BIGINT NOT NULL DEFAULT 0,
    metadata TEXT,
    path TEXT NOT NULL,
    node TEXT NOT NULL DEFAULT '',
    clip_id TEXT,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX uploads_expiry ON uploads (expires_ms);

CREATE TABLE webhook_deliveries (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL,
    tenant TEXT NOT NULL DEFAULT '',
    url TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    attempt BIGINT NOT NULL DEFAULT 0,
    next_ms BIGINT NOT NULL,
    status BIGINT NOT NULL DEFAULT 0,
    response TEXT,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL
);
CREATE INDEX webhook_due ON webhook_deliveries (next_ms) WHERE state = 'pending';
CREATE INDEX webhook_job ON webhook_deliveries (job_id, id);
