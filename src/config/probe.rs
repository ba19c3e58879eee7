//! `[probe]`: the secret of `doorward probe`.

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
};
use crate::domain::token::Secret;

/// Settings of the probe.
#[derive(Debug)]
pub(crate) struct ProbeSettings {
    /// The secret of questions and answers.
    pub(crate) key: Option<Secret>,
}

pub(super) static KEYS: Section = &[&KEY];

static KEY: Optional<Secret> = Key::new(
    "probe.key",
    "none",
    |text| Secret::parse(text.as_bytes()).map_err(ValueFault::Secret),
    "Secret that Doorward and `doorward probe` share, at least 32 bytes, used for nothing else. Without it, Doorward answers no probe. It gives no access: whoever knows it can only learn which rule decides a request.",
)
.reloads()
.optional();

impl ProbeSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            key: reader.find(&KEY),
        }
    }
}
