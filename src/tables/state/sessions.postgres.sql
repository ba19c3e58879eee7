CREATE TABLE doorward_sessions (
    session_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL,
    username TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    current_hash TEXT COLLATE "C" NOT NULL,
    previous_hash TEXT COLLATE "C",
    sealed TEXT COLLATE "C",
    rotated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX doorward_sessions_user_id ON doorward_sessions (user_id);
CREATE INDEX doorward_sessions_expires_at ON doorward_sessions (expires_at);
