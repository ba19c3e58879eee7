CREATE TABLE doorward_tallies (
    tally_key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    last_failure BIGINT NOT NULL,
    user_id TEXT COLLATE "C",
    changed_at BIGINT NOT NULL
);
CREATE INDEX doorward_tallies_changed_at ON doorward_tallies (changed_at);
