//! Commands that add, list, rotate and end keys for machines.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Outcome, known, moment, open, table};
use crate::{
    actions::run::shown_key,
    cli::{self, Format},
    clock::unix_time,
    config::Settings,
    domain::{
        account::Roles,
        machine_key::{KeyName, MachineKey, MachineKeyId},
        machine_keys::KeyLimits,
        token::UnixTime,
    },
    login::account::Account,
    observe::audit::commanded_key,
    tables::{
        database::Fault,
        state::{KeyRow, KeysOf},
        store::Store,
    },
};

/// Adds, lists, rotates and ends keys for machines.
///
/// # Errors
///
/// An invalid name, limit or id, or the fault of the database.
pub(crate) async fn machine_key(
    settings: &Settings,
    command: cli::MachineKey,
) -> anyhow::Result<Outcome> {
    let store = open(settings).await?;
    if !settings.keys.enabled {
        eprintln!("note: keys are not accepted; set keys.enabled = true");
    }
    match command {
        cli::MachineKey::Add {
            name,
            owner,
            roles,
            no_roles,
            paths,
            expires,
        } => {
            let owner = known(&store, &owner).await?;
            let roles = match (no_roles, &*roles) {
                (true, _) => Some(Roles::default()),
                (false, []) => None,
                (false, roles) => Some(Roles::parse(roles.iter().map(String::as_str))?),
            };
            if let Some(missing) = roles
                .iter()
                .flat_map(Roles::iter)
                .find(|role| !owner.roles.contains(role))
            {
                eprintln!(
                    "note: {} does not have the role {}, so the key does not get it either",
                    owner.username.as_str(),
                    missing.as_str()
                );
            }
            let lifetime = match &expires {
                Some(expires) => lifetime(expires)?,
                None => Some(settings.keys.lifetime),
            };
            let new = New {
                name: KeyName::parse(&name).with_context(|| {
                    format!("{name:?} cannot be the name of a key: 1 to 64 letters, digits, \".\", \"_\", \":\", \"@\", \"/\" and \"-\", beginning with a letter or digit")
                })?,
                limits: KeyLimits::new(roles, paths.iter().map(String::as_str))?,
                lifetime,
            };
            add(&store, &owner, new).await
        }
        cli::MachineKey::List { owner, all, output } => {
            list(&store, owner.as_deref(), all, output.output).await
        }
        cli::MachineKey::Rotate {
            id,
            overlap,
            expires,
        } => rotate(&store, &id, &overlap, expires.as_deref()).await,
        cli::MachineKey::End { id } => {
            let id = parse(&id)?;
            match store
                .state
                .connections
                .write(&[store.state.ending_key(id)])
                .await
            {
                Err(Fault::NoRow) => bail!("{id}: no such key, or it is ended already"),
                ended => ended?,
            }
            commanded_key("key-end", None, id);
            println!("Ended {id}; every replica refuses it within two seconds.");
            Ok(Outcome::Yes)
        }
    }
}

/// Name, limits and lifetime of a new key.
struct New {
    name: KeyName,
    limits: KeyLimits,
    /// `None` for a key that never expires.
    lifetime: Option<Duration>,
}

impl New {
    fn row(self, key: &MachineKey, owner: &Account) -> KeyRow {
        let created = unix_time();
        KeyRow {
            id: key.id(),
            user_id: owner.id.clone(),
            username: owner.username.clone(),
            name: self.name,
            hash: key.hash(),
            limits: self.limits,
            created,
            expires: (self.lifetime)
                .map(|lifetime| UnixTime(created.0.saturating_add(lifetime.as_secs()))),
            used: UnixTime(0),
            ended: false,
        }
    }
}

async fn add(store: &Store, owner: &Account, new: New) -> anyhow::Result<Outcome> {
    let key = MachineKey::generate()?;
    let row = new.row(&key, owner);
    let write = store.state.adding_key(&row);
    store.state.connections.write(&[write]).await?;
    commanded_key("key-add", Some(&owner.id), row.id);
    show(&key, &row);
    Ok(Outcome::Yes)
}

/// Prints the key alone on standard output, so that it can be piped into a store of secrets.
fn show(key: &MachineKey, row: &KeyRow) {
    let until = match row.expires {
        Some(expires) => format!("expires at {}", moment(expires.0)),
        None => "never expires".into(),
    };
    eprintln!(
        "Added the key {} of {}, which {until}. This is the only time that it is shown:",
        row.id,
        row.username.as_str()
    );
    println!("{}", key.expose());
}

async fn rotate(
    store: &Store,
    id: &str,
    overlap: &str,
    expires: Option<&str>,
) -> anyhow::Result<Outcome> {
    let id = parse(id)?;
    let overlap = humantime::parse_duration(overlap)
        .with_context(|| format!("{overlap:?} is not a duration; write one such as 24h"))?;
    let old = store.state.keys(KeysOf::Id(id)).await?.pop();
    let old = old.filter(|old| !old.ended);
    let old = old.with_context(|| format!("{id}: no such key, or it is ended"))?;
    let owner = known(store, old.username.as_str()).await?;
    if owner.id != old.user_id {
        bail!("{id}: its owner does not exist any more");
    }
    let now = unix_time();
    let new = New {
        name: old.name.clone(),
        limits: old.limits.clone(),
        lifetime: match expires {
            Some(expires) => lifetime(expires)?,
            None => old
                .expires
                .map(|expires| Duration::from_secs(expires.0.saturating_sub(old.created.0))),
        },
    };
    let key = MachineKey::generate()?;
    let row = new.row(&key, &owner);
    let until = UnixTime(now.0.saturating_add(overlap.as_secs()));
    // In one transaction: otherwise the old key could stay valid beside the new one, or end without a new one.
    let writes = [
        store.state.expiring_key(id, until),
        store.state.adding_key(&row),
    ];
    match store.state.connections.write(&writes).await {
        Err(Fault::NoRow) => bail!("{id}: it was ended meanwhile"),
        written => written?,
    }
    commanded_key("key-rotate", Some(&owner.id), id);
    commanded_key("key-add", Some(&owner.id), row.id);
    let until = old.expires.map_or(until, |expires| expires.min(until));
    eprintln!("The old key {id} is valid until {}.", moment(until.0));
    show(&key, &row);
    Ok(Outcome::Yes)
}

async fn list(
    store: &Store,
    owner: Option<&str>,
    all: bool,
    format: Format,
) -> anyhow::Result<Outcome> {
    let owner = match owner {
        Some(owner) => Some(known(store, owner).await?),
        None => None,
    };
    let of = (owner.as_ref()).map_or(KeysOf::Everybody, |owner| KeysOf::User(&owner.id));
    let now = unix_time();
    let keys: Vec<_> = (store.state.keys(of).await?.into_iter())
        .filter(|key| all || key.is_usable(now))
        .collect();
    if format == Format::Json {
        let keys: Vec<_> = keys.iter().map(|key| with_owner(key, now)).collect();
        println!("{}", serde_json::to_string_pretty(&keys)?);
        return Ok(Outcome::Yes);
    }
    if keys.is_empty() {
        println!("There are no keys; add one with: doorward key add NAME --owner USER");
        return Ok(Outcome::Yes);
    }
    let mut table = table([
        "ID",
        "NAME",
        "OWNER",
        "ROLES",
        "PATHS",
        "STATE",
        "EXPIRES",
        "LAST USED",
    ]);
    for key in keys {
        let roles = (key.limits.roles()).map_or("as the owner".into(), |roles| match &*roles {
            [] => "none".into(),
            roles => roles.join(","),
        });
        let paths = match &*key.limits.paths() {
            [] => "all".into(),
            paths => paths.join(" "),
        };
        table.add_row([
            key.id.to_string(),
            key.name.as_str().into(),
            key.username.as_str().into(),
            roles,
            paths,
            key.state(now).name().into(),
            key.expires
                .map_or("never".into(), |expires| moment(expires.0)),
            match key.used {
                UnixTime(0) => "never".into(),
                used => moment(used.0),
            },
        ]);
    }
    println!("{table}");
    Ok(Outcome::Yes)
}

fn with_owner(key: &KeyRow, now: UnixTime) -> Value {
    let mut shown = shown_key(key, now);
    if let Some(members) = shown.as_object_mut() {
        members.insert("owner".into(), key.username.as_str().into());
        members.insert("owner_id".into(), key.user_id.as_str().into());
    }
    shown
}

fn parse(id: &str) -> anyhow::Result<MachineKeyId> {
    let parsed = MachineKeyId::parse(id);
    // The text may be a whole key, so it is not repeated.
    parsed.context("not the ID of a key: 16 hexadecimal digits, as in `doorward key list`")
}

fn lifetime(text: &str) -> anyhow::Result<Option<Duration>> {
    if text == "never" {
        return Ok(None);
    }
    let duration = humantime::parse_duration(text).ok();
    let duration = duration.filter(|duration| duration.as_secs() > 0);
    let duration = duration.with_context(|| {
        format!("{text:?} is not a lifetime; write one such as 90days, or never")
    })?;
    Ok(Some(duration))
}
