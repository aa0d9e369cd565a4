-- Version 6: data sets for evaluation, one current content per name; the bytes are datasets/<sha256>.

CREATE TABLE evalsets (
    tenant TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    sequences BIGINT NOT NULL,
    frames BIGINT NOT NULL,
    masks BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE INDEX evalsets_sha256 ON evalsets (sha256);
