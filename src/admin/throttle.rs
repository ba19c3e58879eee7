//! Commands that list and clear counts of failed logins.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{Outcome, moment, open, table, username};
use crate::{
    cli::{self, Format, Output},
    clock::{unix_millis, unix_time},
    config::Settings,
    login::throttle::{Change, SharedFailure, Throttle, address_key},
    observe::audit::commanded,
    tables::{database::Write, state::ListedFailures, store::Store},
};

/// Lists and clears counts of failed logins.
///
/// # Errors
///
/// An invalid name or address, or the fault of the database.
pub(crate) async fn throttle(
    settings: Settings,
    command: cli::Throttle,
) -> anyhow::Result<Outcome> {
    let store = open(&settings).await?;
    let keys = settings.jwt.keys.load(unix_time())?;
    let seal = keys.seal().context("no key has a private half")?.clone();
    let throttle = Throttle::new(seal, settings.throttle);
    match command {
        cli::Throttle::List(output) => list(&store, &throttle, output).await,
        cli::Throttle::Clear {
            names,
            address,
            all,
        } => clear(&store, &throttle, &names, address, all).await,
    }
}

async fn list(store: &Store, throttle: &Throttle, output: Output) -> anyhow::Result<Outcome> {
    let names: BTreeMap<String, String> = match store.users.list().await {
        Ok(listed) => listed
            .into_iter()
            .map(|user| (user.id, user.username))
            .collect(),
        // With `users.query`, users are found only by name.
        Err(_) => BTreeMap::new(),
    };
    let now = unix_millis();
    let rows: Vec<_> = store
        .state
        .tallies()
        .await?
        .into_iter()
        .map(|counted| {
            let ListedFailures {
                key,
                tally,
                user_id,
            } = counted;
            let wait = throttle.wait(&key, tally, now);
            let about = match key.split_once(':') {
                Some(("a", network)) => format!("address {network}"),
                Some(("f", _)) => "an account, from an address it knows".into(),
                Some(_) | None => "an account".into(),
            };
            let name = user_id.as_ref().and_then(|id| names.get(id)).cloned();
            (about, user_id, name, tally, wait)
        })
        .collect();
    if output.output == Format::Json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(about, id, name, tally, wait)| {
                json!({
                    "about": about, "user_id": id, "username": name, "failures": tally.failures,
                    "last_failure": tally.last.0 / 1000, "wait_seconds": wait.as_secs_f64().ceil(),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(Outcome::Yes);
    }
    if rows.is_empty() {
        println!("There are no failed logins, and nobody has to wait.");
        return Ok(Outcome::Yes);
    }
    let mut table = table(["ABOUT", "USER", "FAILURES", "LAST", "WAITS"]);
    for (about, id, name, tally, wait) in rows {
        table.add_row([
            about,
            name.or(id).unwrap_or_else(|| "-".into()),
            tally.failures.to_string(),
            moment(tally.last.0 / 1000),
            humantime::format_duration(Duration::from_secs(
                wait.as_millis()
                    .div_ceil(1000)
                    .try_into()
                    .unwrap_or(u64::MAX),
            ))
            .to_string(),
        ]);
    }
    println!("{table}");
    Ok(Outcome::Yes)
}

async fn clear(
    store: &Store,
    throttle: &Throttle,
    names: &[String],
    address: Option<IpAddr>,
    all: bool,
) -> anyhow::Result<Outcome> {
    let mut writes: Vec<Write> = Vec::new();
    let mut done: Vec<(&str, Option<String>)> = Vec::new();
    if all {
        writes.push(store.state.clearing_all());
        done.push(("throttle-clear-all", None));
    }
    for name in names {
        let username = username(name)?;
        writes.push(cleared(store, &throttle.account(&username)));
        let account = store.users.find(&username).await?;
        let id = account.map(|account| account.id);
        if let Some(id) = &id {
            writes.push(store.state.clearing_user(id));
        }
        done.push(("throttle-clear", id));
    }
    if let Some(key) = address.and_then(address_key) {
        writes.push(cleared(store, &key));
        done.push(("throttle-clear-address", None));
    }
    if writes.is_empty() {
        bail!("say which failures to clear: a name, --address ADDRESS or --all");
    }
    store.state.connections.write(&writes).await?;
    for (command, id) in done {
        commanded(command, id.as_deref(), address);
    }
    println!("Cleared; every replica knows within revocation.poll.");
    Ok(Outcome::Yes)
}

fn cleared(store: &Store, key: &str) -> Write {
    let share = SharedFailure {
        key: key.into(),
        change: Change::Cleared,
        is_first: false,
    };
    store.state.sharing(&share, None)
}
