CREATE TABLE doorward_clocks (
    clock_name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seconds BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
