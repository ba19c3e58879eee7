CREATE TABLE doorward_endings (
    ended_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE INDEX doorward_endings_changed_at ON doorward_endings (changed_at, ended_id);
