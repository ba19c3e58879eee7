//! `[audit]`: the audit trail.

use super::{
    fault::ValueFault,
    key::{Key, Section},
    reader::Reader,
};
use crate::observe::audit::Trail;

/// Settings of the audit trail.
#[derive(Debug)]
pub(crate) struct AuditSettings {
    /// Where it goes.
    pub(crate) to: Trail,
}

pub(super) static KEYS: Section = &[&TO];

static TO: Key<Trail> = Key::new(
    "audit.to",
    "off",
    |text| match text {
        "off" => Ok(Trail::Off),
        "stderr" => Ok(Trail::Stderr),
        "" => Err(ValueFault::Trail),
        path => Ok(Trail::File(path.into())),
    },
    "Where the audit trail goes, as JSON lines: `off`, `stderr` or a file.",
);

impl AuditSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            to: reader.get(&TO),
        }
    }
}
