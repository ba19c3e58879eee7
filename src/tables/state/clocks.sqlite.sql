CREATE TABLE doorward_clocks (
    clock_name TEXT NOT NULL PRIMARY KEY,
    seconds BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
