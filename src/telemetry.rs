//! The log: one line per event, to standard error.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic::PanicHookInfo,
};

use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    config::{LogFormat, LogSettings},
    observe::audit::{TARGET, Trail},
};

/// Starts the log and the audit trail of this process. Uses colours only on a terminal, and not if `NO_COLOR` is set.
///
/// Libraries log only at `warn` and above: below that, HTTP/2 and SQL libraries log headers and values.
///
/// # Errors
///
/// The file of the audit trail cannot be opened or created.
pub(crate) fn start(log: LogSettings, trail: &Trail) -> io::Result<()> {
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
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Logs where a panic happened. A formatted message may quote what a client sent, so only a literal one is logged.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        place = panic.location().map(tracing::field::display),
        thread = std::thread::current().name(),
        what = panic.payload().downcast_ref::<&'static str>().copied(),
        backtrace = is_captured.then(|| tracing::field::display(&backtrace)),
        "panicked"
    );
}

/// Starts only the audit trail, for commands.
///
/// # Errors
///
/// The file of the audit trail cannot be opened or created.
pub(crate) fn trail_alone(trail: &Trail) -> io::Result<()> {
    tracing_subscriber::registry().with(trail.layer()?).init();
    Ok(())
}
