CREATE TABLE doorward_tallies (
    tally_key VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    last_failure BIGINT NOT NULL,
    user_id VARBINARY(255),
    changed_at BIGINT NOT NULL,
    KEY doorward_tallies_changed_at (changed_at)
);
