CREATE TABLE doorward_sessions (
    session_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    user_id VARBINARY(255) NOT NULL,
    username VARBINARY(255) NOT NULL,
    generation BIGINT NOT NULL,
    current_hash VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    previous_hash VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    sealed VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    rotated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    KEY doorward_sessions_user_id (user_id),
    KEY doorward_sessions_expires_at (expires_at)
);
