//! The log: one line an event, to standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    audit::{TARGET, Trail},
    config::{Log, LogFormat},
};

/// Starts the log and the audit trail of this process. Colours only on a terminal, and not where `NO_COLOR` is set.
///
/// Libraries log from `warn` on alone: below that, HTTP/2 and SQL show headers and values.
///
/// # Errors
///
/// The file of the trail cannot be opened or made.
pub fn start(log: Log, trail: &Trail) -> io::Result<()> {
    let levels = Targets::new()
        .with_default(log.level.min(tracing::Level::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), log.level)
        .with_target(TARGET, tracing::level_filters::LevelFilter::OFF);
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false);
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(levels));
    registry.with(trail.layer()?).init();
    Ok(())
}

/// Starts the audit trail alone, for a command.
///
/// # Errors
///
/// The file of the trail cannot be opened or made.
pub fn trail_alone(trail: &Trail) -> io::Result<()> {
    tracing_subscriber::registry().with(trail.layer()?).init();
    Ok(())
}
