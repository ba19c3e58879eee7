CREATE TABLE doorward_generations (
    user_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE INDEX doorward_generations_changed_at ON doorward_generations (changed_at, user_id);
