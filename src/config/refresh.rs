//! `[refresh]`: refresh tokens and their sessions.

use std::time::Duration;

use super::{
    key::{Key, Section},
    reader::Reader,
    value::{DAY, boolean, duration},
};

/// Settings of refresh tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefreshSettings {
    /// How long sessions last; `None` if there are no refresh tokens.
    pub(crate) lifetime: Option<Duration>,
    /// How long a used refresh token still returns the same successor.
    pub(crate) grace: Duration,
}

pub(super) static KEYS: Section = &[&ENABLED, &LIFETIME, &GRACE];

static ENABLED: Key<bool> = Key::new(
    "refresh.enabled",
    "false",
    boolean,
    "Whether a login also issues a refresh token, and `POST /refresh` exchanges it.",
);

static LIFETIME: Key<Duration> = Key::new(
    "refresh.lifetime",
    "30days",
    |text| duration(text, Duration::from_secs(600), 366 * DAY),
    "Time from a login to the end of its session, 10min to 366days.",
)
.reloads();

static GRACE: Key<Duration> = Key::new(
    "refresh.grace",
    "30s",
    |text| duration(text, Duration::ZERO, Duration::from_secs(300)),
    "How long a used refresh token still returns the same successor, at most 5min. If it is used later, its session ends.",
);

impl RefreshSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let lifetime = reader.get(&LIFETIME);
        Self {
            lifetime: reader.get(&ENABLED).then_some(lifetime),
            grace: reader.get(&GRACE),
        }
    }
}
