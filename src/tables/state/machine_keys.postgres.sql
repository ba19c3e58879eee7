CREATE TABLE doorward_keys (
    key_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL,
    username TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    key_hash TEXT COLLATE "C" NOT NULL,
    roles TEXT COLLATE "C",
    paths TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT NOT NULL,
    ended_at BIGINT,
    changed_at BIGINT NOT NULL
);
CREATE INDEX doorward_keys_user_id ON doorward_keys (user_id);
CREATE INDEX doorward_keys_changed_at ON doorward_keys (changed_at, key_id);
