//! Commands for rules, each in a file of its own.

mod check;
mod promote;
mod replay;
mod trial;

pub(crate) use self::promote::Written;
use super::Outcome;
use crate::{cli, config::Settings};

/// Runs a command for rules.
///
/// # Errors
///
/// An argument is invalid, or a file or the database cannot be read or written.
pub(crate) async fn policy(
    settings: &Settings,
    command: cli::Policy,
    written: Written<'_>,
) -> anyhow::Result<Outcome> {
    match command {
        cli::Policy::Check(command) => check::check(settings, command).await,
        cli::Policy::Promote(command) => promote::promote(settings, &command, written),
        cli::Policy::Replay(command) => replay::replay(settings, &command),
    }
}
