CREATE TABLE doorward_generations (
    user_id VARBINARY(255) NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    KEY doorward_generations_changed_at (changed_at)
);
