//! `[passwords]`: what new passwords must be.

use std::path::PathBuf;

use super::{
    key::{Key, Optional, Section},
    reader::Reader,
    value::{file, number},
};
use crate::login::enrolment::PasswordRules;

pub(super) static KEYS: Section = &[&MIN_LENGTH, &MIN_SCORE, &BLOCKLIST];

static MIN_LENGTH: Key<usize> = Key::new(
    "passwords.min_length",
    "12",
    |text| number(text, 8, 64),
    "Characters from which on a new password is long enough whatever `passwords.min_score` says, 8 to 64.",
)
.reloads();

static MIN_SCORE: Key<u8> = Key::new(
    "passwords.min_score",
    "3",
    |text| number(text, 2, 4),
    "The zxcvbn score that a shorter new password needs, 2 to 4.",
)
.reloads();

static BLOCKLIST: Optional<PathBuf> = Key::new(
    "passwords.blocklist",
    "none",
    file,
    "File of passwords that Doorward refuses, one per line.",
)
.reloads()
.optional();

pub(super) fn read(reader: &mut Reader<'_>) -> PasswordRules {
    let list = reader.content(&BLOCKLIST).unwrap_or_default();
    PasswordRules {
        min_length: reader.get(&MIN_LENGTH),
        min_score: reader.get(&MIN_SCORE),
        blocklist: list
            .lines()
            .map(|line| line.trim().to_lowercase())
            .filter(|line| !line.is_empty())
            .collect(),
    }
}
