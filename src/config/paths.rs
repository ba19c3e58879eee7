//! `[paths]`: which ambiguous paths are judged instead of refused.

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::each,
};
use crate::domain::path::{Also, Tolerance};

pub(super) static KEYS: Section = &[&TOLERATE, &ALSO];

#[derive(Clone, Copy)]
enum Spelling {
    EncodedSlash,
    EncodedPercent,
    Semicolon,
    DoubleSlash,
}

#[derive(Clone, Copy)]
enum Cut {
    Extension,
    TrailingDot,
}

static TOLERATE: Optional<Vec<Spelling>> = Key::list(
    "paths.tolerate",
    "none",
    |names| {
        each(names, |name| match name {
            "encoded-slash" => Ok(Spelling::EncodedSlash),
            "encoded-percent" => Ok(Spelling::EncodedPercent),
            "semicolon" => Ok(Spelling::Semicolon),
            "double-slash" => Ok(Spelling::DoubleSlash),
            _ => Err(ValueFault::Tolerance(name.to_owned())),
        })
    },
    "Ambiguous spellings that Doorward judges in both readings instead of refusing the request: `encoded-slash`, `encoded-percent`, `semicolon`, `double-slash` (except at the start of a path).",
)
.reloads()
.optional();

static ALSO: Optional<Vec<Cut>> = Key::list(
    "paths.also",
    "none",
    |names| {
        each(names, |name| match name {
            "extension" => Ok(Cut::Extension),
            "trailing-dot" => Ok(Cut::TrailingDot),
            _ => Err(ValueFault::Reading(name.to_owned())),
        })
    },
    "What the service may cut from a path; Doorward judges that reading too: `extension` (`.json` of the last segment), `trailing-dot` (dots and blanks at the end of segments).",
)
.reloads()
.optional();

pub(super) fn read(reader: &mut Reader<'_>) -> Tolerance {
    let mut tolerance = Tolerance::default();
    for spelling in reader.find(&TOLERATE).unwrap_or_default() {
        match spelling {
            Spelling::EncodedSlash => tolerance.encoded_slash = true,
            Spelling::EncodedPercent => tolerance.encoded_percent = true,
            Spelling::Semicolon => tolerance.semicolon = true,
            Spelling::DoubleSlash => tolerance.double_slash = true,
        }
    }
    let Also {
        extension,
        trailing_dot,
    } = &mut tolerance.also;
    for cut in reader.find(&ALSO).unwrap_or_default() {
        match cut {
            Cut::Extension => *extension = true,
            Cut::TrailingDot => *trailing_dot = true,
        }
    }
    tolerance
}
