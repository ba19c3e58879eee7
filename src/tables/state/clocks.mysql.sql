CREATE TABLE doorward_clocks (
    clock_name VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    seconds BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
