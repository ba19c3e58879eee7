//! Commands for rules, each in a file of its own.

mod check;
mod coverage;
mod diff;
mod promote;
mod replay;
mod test;
mod trial;

use std::path::Path;

use doorward_rules::files::Files;

pub(crate) use self::promote::Written;
use super::Outcome;
use crate::{cli, config::Settings};

/// Reads the settings, or those of another file instead of the usual one.
pub(crate) type Load<'a> = dyn Fn(Option<&Path>, &Files) -> anyhow::Result<Settings> + 'a;

/// Runs a command for rules.
///
/// # Errors
///
/// What the command cannot read or write.
pub(crate) async fn policy(
    load: &Load<'_>,
    command: cli::Policy,
    written: Written<'_>,
) -> anyhow::Result<Outcome> {
    let settings = || load(None, &Files::default());
    match command {
        cli::Policy::Check(command) => check::check(&settings()?, command).await,
        cli::Policy::Promote(command) => promote::promote(&settings()?, &command, written),
        cli::Policy::Replay(command) => replay::replay(&settings()?, &command),
        cli::Policy::Coverage(command) => coverage::coverage(&settings()?, &command),
        cli::Policy::Diff(command) => diff::diff(load, &command),
        cli::Policy::Test(command) => test::test(load, &command).await,
    }
}
