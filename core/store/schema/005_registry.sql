-- Version 5: the exact model of a job, one training at a time for a project, where a model version comes from, what a move
-- of an alias was, and the job a snapshot was taken for.

ALTER TABLE jobs ADD COLUMN model_version TEXT;
ALTER TABLE jobs ADD COLUMN model_sha256 TEXT;
CREATE UNIQUE INDEX jobs_one_train ON jobs (project_id) WHERE kind = 'train' AND state IN ('queued', 'running');

ALTER TABLE model_versions ADD COLUMN origin TEXT NOT NULL DEFAULT 'import' CHECK (origin IN ('builtin', 'import', 'train'));
CREATE UNIQUE INDEX model_versions_job ON model_versions (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX model_versions_sha256 ON model_versions (sha256);

-- 'keep': a gate refused the move. 'rollback' takes back the newest 'set' that was not taken back yet.
ALTER TABLE alias_history ADD COLUMN action TEXT NOT NULL DEFAULT 'set' CHECK (action IN ('set', 'rollback', 'keep'));

ALTER TABLE snapshots ADD COLUMN job_id TEXT;
CREATE UNIQUE INDEX snapshots_job ON snapshots (job_id) WHERE job_id IS NOT NULL;
