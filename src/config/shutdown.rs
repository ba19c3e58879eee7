//! `[shutdown]`: how Doorward stops.

use std::time::Duration;

use super::{
    fault::ValueFault,
    key::{Key, Section},
    reader::Reader,
    value::duration,
};

/// Settings of the shutdown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShutdownSettings {
    /// How long Doorward keeps serving after SIGTERM.
    pub(crate) delay: Duration,
    /// How long open requests may take after that.
    pub(crate) deadline: Duration,
}

pub(super) static KEYS: Section = &[&DELAY, &DEADLINE];

static DELAY: Key<Duration> = Key::new(
    "shutdown.delay",
    "5s",
    length,
    "How long Doorward goes on serving after SIGTERM, while it reports that it is not ready: at most 10min. SIGINT skips this.",
);

static DEADLINE: Key<Duration> = Key::new(
    "shutdown.deadline",
    "20s",
    length,
    "How long open requests may take after that, before Doorward drops their connections: at most 10min.",
);

impl ShutdownSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            delay: reader.get(&DELAY),
            deadline: reader.get(&DEADLINE),
        }
    }
}

fn length(text: &str) -> Result<Duration, ValueFault> {
    duration(text, Duration::ZERO, Duration::from_secs(600))
}
