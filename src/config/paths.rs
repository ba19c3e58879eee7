//! `[paths]`: which ambiguous paths are judged instead of refused.

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::each,
};
use crate::domain::path::{Also, Tolerance};

pub(super) static KEYS: Section = &[&TOLERATE, &ALSO];

static TOLERATE: Optional<Tolerance> = Key::list(
    "paths.tolerate",
    "none",
    |names| {
        let mut tolerance = Tolerance::default();
        each(names, |name| match tolerance.tolerate(name) {
            true => Ok(()),
            false => Err(ValueFault::Tolerance(name.to_owned())),
        })?;
        Ok(tolerance)
    },
    "Ambiguous spellings that Doorward judges in both readings instead of refusing the request: `encoded-slash`, `encoded-percent`, `semicolon`, `double-slash` (except at the start of a path).",
)
.reloads()
.optional();

static ALSO: Optional<Also> = Key::list(
    "paths.also",
    "none",
    |names| {
        let mut also = Also::default();
        each(names, |name| match also.cut(name) {
            true => Ok(()),
            false => Err(ValueFault::Reading(name.to_owned())),
        })?;
        Ok(also)
    },
    "What the service may cut from a path; Doorward judges that reading too: `extension` (`.json` of the last segment), `trailing-dot` (dots and blanks at the end of segments).",
)
.reloads()
.optional();

pub(super) fn read(reader: &mut Reader<'_>) -> Tolerance {
    let tolerance = reader.find(&TOLERATE).unwrap_or_default();
    Tolerance {
        also: reader.find(&ALSO).unwrap_or_default(),
        ..tolerance
    }
}
