//! `doorward init`: writes the first settings, and the configuration of the gateway.

mod files;
mod questions;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use self::{
    files::{Answers, Table, gateway_files, next_commands, settings},
    questions::Questions,
};
use super::Outcome;
use crate::cli::{Init, UserDatabase};

/// Asks for missing arguments, writes the files, and says what to run next. It never overwrites a file.
///
/// # Errors
///
/// A file exists, or cannot be written; an answer is missing.
pub(super) fn init(arguments: Init) -> anyhow::Result<Outcome> {
    let dir = arguments.dir.clone();
    let answers = answered(arguments, &mut Questions::new(io::stdin().lock()))?;
    let mut files = vec![(dir.join("doorward.toml"), settings(&answers))];
    let of_gateway = gateway_files(answers.gateway).iter();
    files.extend(of_gateway.map(|(name, text)| (dir.join(name), (*text).to_owned())));
    write_new(&files)?;
    for (path, _) in &files {
        println!("Wrote {}.", path.display());
    }
    println!("\n{}", next_commands(&answers, &dir));
    Ok(Outcome::Yes)
}

fn answered(
    arguments: Init,
    questions: &mut Questions<impl io::BufRead>,
) -> anyhow::Result<Answers> {
    let Init {
        gateway,
        database,
        table,
        username,
        password,
        dir: _,
    } = arguments;
    let gateway = match gateway {
        Some(gateway) => gateway,
        None => questions.choice("Which gateway asks Doorward?", "--gateway")?,
    };
    let database = match database {
        Some(database) => database,
        None => questions.choice("Where are the users?", "--database")?,
    };
    let columns_named = username.is_some() || password.is_some();
    let table = match (table, database) {
        (Some(table), _) => table,
        (None, UserDatabase::Sqlite) if !columns_named => OWN.to_owned(),
        (None, _) => questions.text(
            "Which table has the users? (own: Doorward creates one)",
            "--table",
            OWN,
        )?,
    };
    if table == OWN {
        if columns_named {
            bail!(
                "--username and --password name columns of an existing table; name it with --table"
            );
        }
        return Ok(Answers {
            gateway,
            database,
            table: None,
        });
    }
    let username = match username {
        Some(column) => column,
        None => questions.text(
            "Which column has the name that people type?",
            "--username",
            "email",
        )?,
    };
    let password = match password {
        Some(column) => column,
        None => questions.text(
            "Which column has the password hash?",
            "--password",
            "password",
        )?,
    };
    Ok(Answers {
        gateway,
        database,
        table: Some(Table {
            name: table,
            username,
            password,
        }),
    })
}

/// Doorward's own table.
const OWN: &str = "own";

/// Writes all files. If one exists, writes none; if one cannot be written, removes those before it.
fn write_new(files: &[(PathBuf, String)]) -> anyhow::Result<()> {
    let there = |path: &Path| path.symlink_metadata().is_ok();
    let existing: Vec<_> = files
        .iter()
        .filter(|(path, _)| there(path))
        .map(|(path, _)| path.display().to_string())
        .collect();
    if !existing.is_empty() {
        bail!(
            "nothing was written: {} exists already; --dir names another directory",
            existing.join(", ")
        );
    }
    for (at, (path, text)) in files.iter().enumerate() {
        let mut options = OpenOptions::new();
        // `create_new` also fails if somebody else creates the file at the same time.
        let opened = options.write(true).create_new(true).open(path);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            for (earlier, _) in files.iter().take(at) {
                let _ = fs::remove_file(earlier);
            }
            return Err(error).with_context(|| format!("{} was not written", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
