//! `[keys]`: keys for machines. The keys that sign tokens are in `[jwt]`.

use std::time::Duration;

use super::{
    fault::ValueFault,
    identity::IdentitySettings,
    key::{Key, Optional, Section},
    reader::Reader,
    value::{DAY, boolean, duration, number},
};
use crate::domain::identity_headers::{IdentityHeaders, KEY_NAME, KeyHeader};

/// Settings of keys for machines.
#[derive(Clone, Debug)]
pub(crate) struct KeysSettings {
    /// Whether they are accepted.
    pub(crate) enabled: bool,
    /// The header in which they may be shown, besides `Authorization`.
    pub(crate) header: Option<KeyHeader>,
    /// The lifetime of a key whose maker names none, and the longest that people may choose.
    pub(crate) lifetime: Duration,
    /// The most usable keys of one user.
    pub(crate) most: usize,
}

pub(super) static KEYS: Section = &[&ENABLED, &HEADER, &LIFETIME, &MOST];

static ENABLED: Key<bool> = Key::new(
    "keys.enabled",
    "false",
    boolean,
    "Whether [keys for machines](machine-keys.md) are accepted. Services then also get `x-auth-key` with the name of the key.",
);

static HEADER: Optional<KeyHeader> = Key::new(
    "keys.header",
    "none",
    |text| KeyHeader::parse(text).map_err(ValueFault::from),
    "Header in which keys may be shown besides `Authorization`, such as `x-api-key`. No service gets this header.",
)
.optional();

static LIFETIME: Key<Duration> = Key::new(
    "keys.lifetime",
    "90days",
    |text| duration(text, Duration::from_secs(60), 3660 * DAY),
    "Lifetime of a key that is added without one, and the longest lifetime at `/keys`, 1min to 3660days.",
);

static MOST: Key<usize> = Key::new(
    "keys.most",
    "50",
    |text| number(text, 1, 10_000),
    "Largest number of usable keys that one user may make at `/keys`, 1 to 10000.",
);

impl KeysSettings {
    pub(super) fn read(reader: &mut Reader<'_>, identity: &IdentitySettings) -> Self {
        let settings = Self {
            enabled: reader.get(&ENABLED),
            header: reader.find(&HEADER),
            lifetime: reader.get(&LIFETIME),
            most: reader.get(&MOST),
        };
        let names = &identity.headers;
        let header = settings.header.as_ref().map(KeyHeader::as_str);
        let likes_own = header.and_then(|header| names.like(header));
        let likes_key = (settings.enabled).then(|| names.like(KEY_NAME)).flatten();
        if let Some(name) = likes_own {
            reader.fault_of(&HEADER, ValueFault::HeaderTaken(name.to_owned()));
        }
        if let Some(name) = likes_key {
            reader.fault_of(&ENABLED, ValueFault::HeaderTaken(name.to_owned()));
        }
        let is_assertion = identity
            .assertion
            .as_ref()
            .is_some_and(|assertion| header.is_some_and(|header| assertion.header.is_like(header)));
        if is_assertion {
            reader.fault_of(&HEADER, ValueFault::HeaderOfAssertion);
        }
        settings
    }

    /// The identity headers, with those of keys if they are on.
    pub(crate) fn identity(&self, identity: &IdentitySettings) -> IdentityHeaders {
        let headers = identity.kept();
        match self.enabled {
            true => headers.with_keys(self.header.clone()),
            false => headers,
        }
    }
}
