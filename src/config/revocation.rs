//! `[revocation]`: how a replica learns which tokens other replicas have revoked.

use std::time::Duration;

use super::{
    key::{Key, Section},
    reader::Reader,
    value::{DAY, duration, one_of},
};

/// Settings of revocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RevocationSettings {
    /// How often to read revocations.
    pub(crate) poll: Duration,
    /// The age of the last reading from which on no token is accepted; `None` for never.
    pub(crate) refuses_after: Option<Duration>,
}

#[derive(Clone, Copy)]
enum WhenStale {
    Warn,
    Refuse,
}

pub(super) static KEYS: Section = &[&POLL, &WHEN_STALE, &STALE_AFTER];

static POLL: Key<Duration> = Key::new(
    "revocation.poll",
    "1s",
    |text| duration(text, Duration::from_millis(100), Duration::from_secs(60)),
    "How often Doorward reads which tokens other replicas have revoked, 100ms to 60s.",
);

static WHEN_STALE: Key<WhenStale> = Key::new(
    "revocation.when_stale",
    "warn",
    |text| {
        one_of(
            text,
            &[("warn", WhenStale::Warn), ("refuse", WhenStale::Refuse)],
        )
    },
    "What happens to tokens while Doorward cannot read revocations: `warn` (they stay valid) or `refuse` (503).",
);

static STALE_AFTER: Key<Duration> = Key::new(
    "revocation.stale_after",
    "30s",
    |text| duration(text, Duration::from_secs(2), DAY),
    "How long after the last reading `refuse` starts, 2s to 1day.",
);

impl RevocationSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let stale_after = reader.get(&STALE_AFTER);
        Self {
            poll: reader.get(&POLL),
            refuses_after: match reader.get(&WHEN_STALE) {
                WhenStale::Warn => None,
                WhenStale::Refuse => Some(stale_after),
            },
        }
    }
}
