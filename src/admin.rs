//! All commands except `serve`: users, settings, rules, tokens, keys of both kinds and failure counts, for people and for machines.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "commands print results and warnings for their user"
)]

mod check;
mod init;
mod keyring;
mod machine_key;
mod manual;
mod policy;
mod probe;
mod throttle;
mod token;
mod user;

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use comfy_table::{Table, presets::NOTHING};

pub(crate) use self::{
    check::{check_ops, check_url},
    keyring::keyring,
    machine_key::machine_key,
    policy::{Written, policy},
    probe::probe,
    throttle::throttle,
    token::token,
    user::user,
};
use crate::{
    cli::Setup,
    clock::unix_time,
    config::{self, Settings},
    domain::account::{Roles, Username},
    login::account::Account,
    serve,
    tables::{database::Database, store::Store, users::UsersFault},
};

/// The database timeout of commands.
const PATIENCE: Duration = Duration::from_secs(5);

/// The result of a command; it decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done, accepted or passes: status 0.
    Yes,
    /// Refused or does not pass: status 1.
    No,
}

/// Runs a command that reads no settings.
///
/// # Errors
///
/// A file or standard output cannot be written; an answer is missing.
pub(crate) fn setup(command: Setup) -> anyhow::Result<Outcome> {
    match command {
        Setup::Init(arguments) => init::init(arguments),
        Setup::Completions { shell } => manual::completions(shell),
        Setup::Man(arguments) => manual::man(&arguments),
    }
}

/// Creates or updates the tables.
///
/// # Errors
///
/// A database cannot be reached, or has a `users` table that Doorward did not create.
pub(crate) async fn migrate(settings: &Settings) -> anyhow::Result<Outcome> {
    serve::store(settings, 1, PATIENCE)?.migrate().await?;
    match &settings.state.place {
        None => println!("The tables in {} are up to date.", settings.database.place),
        Some(state) => println!(
            "The tables in {} and {state} are up to date.",
            settings.database.place
        ),
    }
    Ok(Outcome::Yes)
}

/// Opens the store, and creates the tables of embedded databases.
async fn open(settings: &Settings) -> anyhow::Result<Store> {
    let store = serve::store(settings, 1, PATIENCE)?;
    if let Database::Sqlite(_) = &settings.database.place {
        store.users.migrate().await?;
    }
    if let Database::Sqlite(_) = settings.state_database() {
        store.state.migrate().await?;
    }
    Ok(store)
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header);
    table
}

fn moment(seconds: u64) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
        Some(moment) => humantime::format_rfc3339_seconds(moment).to_string(),
        None => "-".into(),
    }
}

fn spoken(roles: &Roles) -> String {
    match roles.to_string() {
        none if none.is_empty() => "without roles".into(),
        roles => format!("with the roles {roles}"),
    }
}

fn username(name: &str) -> anyhow::Result<Username> {
    Username::parse(name).with_context(|| {
        format!("{name:?} cannot be a name: 1 to 255 bytes without colon and control characters")
    })
}

async fn known(store: &Store, name: &str) -> anyhow::Result<Account> {
    let username = username(name)?;
    let account = store.users.find(&username).await?;
    account
        .ok_or(UsersFault::Unknown)
        .with_context(|| name.to_owned())
}

/// Prints that the settings are valid; [`Settings::load`] has already reported faults.
///
/// # Errors
///
/// A secret is required and missing.
pub(crate) fn config_check(settings: &Settings) -> anyhow::Result<Outcome> {
    let now = unix_time();
    match settings.jwt.keys.check(now)? {
        Some(keys) => settings.identity.fits(&keys, now)?,
        None => settings.identity.fits_a_secret()?,
    }
    if settings.gateways.trusted.covers_the_internet() {
        eprintln!(
            "warning: trusted_proxies: {} holds half of the Internet or more; name the networks of your gateways",
            settings.gateways.trusted
        );
    }
    println!(
        "The settings hold together: {} rules, users in {}, checks on {}.",
        settings.policy.rules().len(),
        settings.database.place,
        settings.listen.grpc,
    );
    Ok(Outcome::Yes)
}

/// Prints the JSON Schema of the settings.
///
/// # Errors
///
/// It cannot be written as JSON.
pub(crate) fn config_schema() -> anyhow::Result<Outcome> {
    println!("{}", serde_json::to_string_pretty(&config::schema())?);
    Ok(Outcome::Yes)
}
