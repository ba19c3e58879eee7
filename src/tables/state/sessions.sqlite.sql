CREATE TABLE doorward_sessions (
    session_id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    username TEXT NOT NULL,
    generation BIGINT NOT NULL,
    current_hash TEXT NOT NULL,
    previous_hash TEXT,
    sealed TEXT,
    rotated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX doorward_sessions_user_id ON doorward_sessions (user_id);
CREATE INDEX doorward_sessions_expires_at ON doorward_sessions (expires_at);
