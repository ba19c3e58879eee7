//! Completions for shells and manual pages, made from the grammar of the command line.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Outcome;
use crate::cli::{Cli, Man};

/// Prints the completions of a shell.
///
/// # Errors
///
/// Standard output cannot be written.
pub(super) fn completions(shell: Shell) -> anyhow::Result<Outcome> {
    let mut script = vec![];
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    io::stdout().write_all(&script)?;
    Ok(Outcome::Yes)
}

/// Prints the manual page, or writes one page for each command into a directory.
///
/// # Errors
///
/// Standard output or the directory cannot be written.
pub(super) fn man(arguments: &Man) -> anyhow::Result<Outcome> {
    // Otherwise `help` would have a page for each command.
    let command = Cli::command().disable_help_subcommand(true);
    match &arguments.into {
        Some(into) => {
            clap_mangen::generate_to(command, into).with_context(|| into.display().to_string())?
        }
        None => clap_mangen::Man::new(command).render(&mut io::stdout())?,
    }
    Ok(Outcome::Yes)
}

const NAME: &str = "doorward";
