-- Version 7: API keys: which tenant a key works for, and the secret before a rotation, good until its time is over.

ALTER TABLE api_keys ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN previous_sha256 TEXT;
ALTER TABLE api_keys ADD COLUMN previous_until_ms BIGINT NOT NULL DEFAULT 0;
