CREATE TABLE doorward_keys (
    key_id VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    user_id VARBINARY(255) NOT NULL,
    username VARBINARY(255) NOT NULL,
    name VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    key_hash VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    roles VARBINARY(2200),
    paths VARBINARY(4200) NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    used_at BIGINT NOT NULL,
    ended_at BIGINT,
    changed_at BIGINT NOT NULL,
    KEY doorward_keys_user_id (user_id),
    KEY doorward_keys_changed_at (changed_at, key_id)
);
