//! `[feed]`: rules, public keys and revocations for the filter inside Envoy.

use super::{
    key::{Key, Section},
    reader::Reader,
    value::boolean,
};

/// Settings of the feed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedSettings {
    /// Whether it is served.
    pub(crate) enabled: bool,
}

pub(super) static KEYS: Section = &[&ENABLED];

static ENABLED: Key<bool> = Key::new(
    "feed.enabled",
    "false",
    boolean,
    "Whether trusted gateways can read rules, public keys and revocations at `/feed`, as the filter inside Envoy does.",
);

impl FeedSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            enabled: reader.get(&ENABLED),
        }
    }
}
