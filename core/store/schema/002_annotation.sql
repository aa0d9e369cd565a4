-- Version 2: projects, keyframe masks, labels with their provenance, and who changed what.

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL,
    settings TEXT NOT NULL DEFAULT '{}',
    version BIGINT NOT NULL DEFAULT 1,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL
);
CREATE INDEX projects_tenant ON projects (tenant, id);

-- Every version of every keyframe mask. The newest version of a frame is the mask, unless it is deleted.
CREATE TABLE masks (
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    clip_id TEXT NOT NULL REFERENCES clips (id),
    frame BIGINT NOT NULL,
    version BIGINT NOT NULL,
    deleted BIGINT NOT NULL DEFAULT 0,
    sha256 TEXT NOT NULL,
    objects BIGINT NOT NULL DEFAULT 1,
    author TEXT NOT NULL DEFAULT '',
    origin TEXT NOT NULL DEFAULT 'manual',
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (project_id, clip_id, frame, version)
);
CREATE INDEX masks_sha256 ON masks (sha256);

-- What a propagation or a reviewer says about a frame. left_frame and right_frame are the keyframes it came from, -1 for none.
CREATE TABLE labels (
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    clip_id TEXT NOT NULL REFERENCES clips (id),
    frame BIGINT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('manual', 'pseudo', 'rejected', 'uncovered')),
    state TEXT NOT NULL CHECK (state IN ('proposed', 'accepted', 'rejected')),
    confidence DOUBLE PRECISION NOT NULL DEFAULT 0,
    left_frame BIGINT NOT NULL DEFAULT -1,
    right_frame BIGINT NOT NULL DEFAULT -1,
    left_version BIGINT NOT NULL DEFAULT 0,
    right_version BIGINT NOT NULL DEFAULT 0,
    model TEXT,
    model_sha256 TEXT,
    flow TEXT,
    sha256 TEXT,
    uncertainty_sha256 TEXT,
    job_id TEXT,
    version BIGINT NOT NULL DEFAULT 1,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (project_id, clip_id, frame)
);
CREATE INDEX labels_sha256 ON labels (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX labels_uncertainty ON labels (uncertainty_sha256) WHERE uncertainty_sha256 IS NOT NULL;
CREATE INDEX labels_review ON labels (project_id, state, confidence);

CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    before_json TEXT,
    after_json TEXT,
    request_id TEXT
);
CREATE INDEX audit_subject ON audit (subject, id);
