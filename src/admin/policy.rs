//! Commands for rules, each in a file of its own.

mod check;
mod trial;

use std::path::Path;

use doorward_rules::files::Files;

use super::Outcome;
use crate::{cli, config::Settings};

/// Reads the settings, or those of another file instead of the usual one.
pub(crate) type Load<'a> = dyn Fn(Option<&Path>, &Files) -> anyhow::Result<Settings> + 'a;

/// Runs a command for rules.
///
/// # Errors
///
/// What the command cannot read or write.
pub(crate) async fn policy(load: &Load<'_>, command: cli::Policy) -> anyhow::Result<Outcome> {
    match command {
        cli::Policy::Check(command) => check::check(&load(None, &Files::default())?, command).await,
    }
}
