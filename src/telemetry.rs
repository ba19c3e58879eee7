//! The log: one line an event, to standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat};

/// Starts the log of this process. Colours only on a terminal, and not where `NO_COLOR` is set.
///
/// Libraries log from `warn` on alone: below that, HTTP/2 and SQL show headers and values.
pub fn start(log: Log) {
    let levels = Targets::new()
        .with_default(log.level.min(tracing::Level::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), log.level);
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false);
    let registry = tracing_subscriber::registry().with(levels);
    match log.format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
}
