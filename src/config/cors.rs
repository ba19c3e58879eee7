//! `[cors]`: requests of browsers from other origins.

use super::{
    key::{Key, Section},
    reader::Reader,
    value::boolean,
};

/// Settings of CORS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CorsSettings {
    /// Whether preflights pass.
    pub(crate) allow_preflight: bool,
}

pub(super) static KEYS: Section = &[&ALLOW_PREFLIGHT];

static ALLOW_PREFLIGHT: Key<bool> = Key::new(
    "cors.allow_preflight",
    "false",
    boolean,
    "Whether a CORS preflight passes without a token if a rule matches the request that it announces. A rule that names `OPTIONS` decides instead.",
)
.reloads();

impl CorsSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            allow_preflight: reader.get(&ALLOW_PREFLIGHT),
        }
    }
}
