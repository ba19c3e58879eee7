//! `[envoy]`: what Doorward sends to Envoy besides the decision.

use super::{
    key::{Key, Section},
    reader::Reader,
    value::boolean,
};

/// Settings of the gRPC door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EnvoySettings {
    /// Whether Envoy receives dynamic metadata.
    pub(crate) metadata: bool,
}

pub(super) static KEYS: Section = &[&METADATA];

static METADATA: Key<bool> = Key::new(
    "envoy.metadata",
    "true",
    boolean,
    "Whether Envoy receives each decision as dynamic metadata (`sub`, `roles`, `rule`, `reason`), for its access log and its other filters.",
);

impl EnvoySettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            metadata: reader.get(&METADATA),
        }
    }
}
