CREATE TABLE doorward_endings (
    ended_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    KEY doorward_endings_changed_at (changed_at)
);
