//! Lines in Envoy's log.

use super::raw::{self, Buffer};

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// A normal change.
    Info,
    /// A failure that may end by itself.
    Warn,
    /// A failure that somebody must fix.
    Error,
}

impl Level {
    /// `envoy_dynamic_module_type_log_level`.
    fn number(self) -> u32 {
        match self {
            Self::Info => 2,
            Self::Warn => 3,
            Self::Error => 4,
        }
    }
}

/// Writes a line; does nothing in tests without an Envoy.
pub(crate) fn write(level: Level, line: &str) {
    if let Some(log) = raw::log() {
        // SAFETY: Envoy copies the line, and any thread may call this function.
        unsafe { log(level.number(), Buffer::of(line.as_bytes())) }
    }
}
