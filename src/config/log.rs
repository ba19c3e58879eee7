//! `[log]`: what is logged, and in which format.

use tracing::Level;

use super::{
    key::{Key, Section},
    reader::Reader,
    value::one_of,
};

/// Settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// The least severe level that is written.
    pub(crate) level: Level,
    /// The format of a line.
    pub(crate) format: LogFormat,
}

/// The format of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text, for people.
    Text,
    /// A JSON object, for machines.
    Json,
}

pub(super) static KEYS: Section = &[&LEVEL, &FORMAT];

static LEVEL: Key<Level> = Key::new(
    "log.level",
    "info",
    |text| {
        one_of(
            text,
            &[
                ("error", Level::ERROR),
                ("warn", Level::WARN),
                ("info", Level::INFO),
                ("debug", Level::DEBUG),
            ],
        )
    },
    "`error`, `warn`, `info` (denials and logins) or `debug` (every decision).",
);

static FORMAT: Key<LogFormat> = Key::new(
    "log.format",
    "text",
    |text| {
        one_of(
            text,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        )
    },
    "`text` or `json`.",
);

impl LogSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            level: reader.get(&LEVEL),
            format: reader.get(&FORMAT),
        }
    }
}
