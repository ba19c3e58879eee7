//! Lines in Envoy's log.

use super::raw::{self, Buffer};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something has changed as it should.
    Info,
    /// Something does not work, and may work again.
    Warn,
    /// Something has to be done by people.
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

/// Writes a line, where Envoy is there to write it.
pub(crate) fn write(level: Level, line: &str) {
    if let Some(log) = raw::log() {
        // SAFETY: Envoy copies the line, and any thread may call this function.
        unsafe { log(level.number(), Buffer::of(line.as_bytes())) }
    }
}
