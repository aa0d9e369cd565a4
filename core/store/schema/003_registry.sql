-- Version 3: models with versions and aliases, dataset snapshots, training curves, evaluation baselines.

CREATE TABLE models (
    id TEXT PRIMARY KEY,
    arch TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE model_versions (
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    blob_key TEXT,
    info TEXT NOT NULL DEFAULT '{}',
    metrics TEXT,
    job_id TEXT,
    snapshot_id TEXT,
    parent_version TEXT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (model_id, version)
);

CREATE TABLE model_aliases (
    model_id TEXT NOT NULL,
    alias TEXT NOT NULL,
    version TEXT NOT NULL,
    generation BIGINT NOT NULL DEFAULT 1,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (model_id, alias),
    FOREIGN KEY (model_id, version) REFERENCES model_versions (model_id, version)
);

-- Every move of an alias, also those a gate refused (moved = 0), with the reason.
CREATE TABLE alias_history (
    model_id TEXT NOT NULL,
    alias TEXT NOT NULL,
    generation BIGINT NOT NULL,
    from_version TEXT,
    to_version TEXT NOT NULL,
    moved BIGINT NOT NULL,
    reason TEXT,
    actor TEXT NOT NULL DEFAULT '',
    id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (model_id, alias, id)
);

CREATE TABLE snapshots (
    id TEXT PRIMARY KEY,
    project_id TEXT,
    content_sha256 TEXT NOT NULL,
    manifest_key TEXT NOT NULL,
    clips BIGINT NOT NULL,
    labels BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);
CREATE INDEX snapshots_content ON snapshots (content_sha256);
CREATE INDEX snapshots_project ON snapshots (project_id, id);

CREATE TABLE curve_points (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step BIGINT NOT NULL,
    name TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (job_id, name, step)
);

CREATE TABLE baselines (
    name TEXT PRIMARY KEY,
    result TEXT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    updated_ms BIGINT NOT NULL
);

CREATE TABLE baseline_history (
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('set', 'run')),
    label TEXT,
    pass BIGINT NOT NULL DEFAULT 1,
    result TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (name, id)
);
