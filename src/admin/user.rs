//! Commands that manage users.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Read as _},
};

use anyhow::{Context as _, bail};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Outcome, known, moment, open, spoken, table, username};
use crate::{
    cli::{self, Format},
    clock::unix_time,
    config::Settings,
    domain::{
        account::{Role, Roles, Username},
        password::Password,
    },
    login::password::{Hasher, PasswordHash},
    observe::audit::commanded,
    tables::{store::Store, users::UsersFault},
};

/// Adds, changes and lists users.
///
/// # Errors
///
/// An invalid name, role or password, or the fault of the database.
pub(crate) async fn user(settings: &Settings, command: cli::User) -> anyhow::Result<Outcome> {
    let store = open(settings).await?;
    let now = unix_time();
    let expires = settings.jwt.terms.all_expired(now);
    match command {
        cli::User::Add {
            name,
            admin,
            roles,
            weak,
            no_password,
        } => {
            let username = new_username(&name)?;
            let names = settings.names();
            if let Some(issuer) = names.looks_foreign(&username) {
                bail!(
                    "{name:?} begins with the prefix of {issuer}, so services would take it for a user of that issuer"
                );
            }
            if names.is_reserved(&username) {
                eprintln!(
                    "note: {name:?} is a reserved name; nobody can register it, but you can add it"
                );
            }
            let roles = roles.iter().map(String::as_str);
            let roles = Roles::parse(roles.chain(admin.then_some("admin")))?;
            let hash = match no_password {
                // No password matches an empty hash.
                true => PasswordHash::new(String::new()),
                false => new_hash(settings, &username, weak)?,
            };
            store
                .add(&username, &hash, &roles, now)
                .await
                .with_context(|| format!("{name:?} was not added"))?;
            let added = store.users.find(&username).await?;
            commanded("user-add", added.as_ref().map(|added| &*added.id), None);
            println!("Added {name}, {}.", spoken(&roles));
        }
        cli::User::Passwd { name, weak } => {
            let account = known(&store, &name).await?;
            let hash = new_hash(settings, &account.username, weak)?;
            let changed = store.change_password(&account, &hash, expires).await;
            if matches!(changed, Err(UsersFault::Unknown)) {
                bail!("somebody else has just changed the password; nothing was changed");
            }
            changed?;
            commanded("user-passwd", Some(&account.id), None);
            println!("Changed the password of {name}; all tokens of {name} are revoked.");
        }
        cli::User::Role {
            name,
            grant,
            revoke,
        } => {
            let account = known(&store, &name).await?;
            let grant = Roles::parse(grant.iter().map(String::as_str))?;
            let revoke = Roles::parse(revoke.iter().map(String::as_str))?;
            let changes = grant.iter().chain(revoke.iter()).next().is_some();
            let kept = account.roles.iter().filter(|role| !revoke.contains(role));
            let roles: Vec<Role> = kept.chain(grant.iter()).cloned().collect();
            let roles = Roles::collect(roles)?;
            if changes {
                store.set_roles(&account, &roles, now, expires).await?;
                commanded("user-role", Some(&account.id), None);
            }
            let tokens = if changes {
                "; tokens with other roles are revoked"
            } else {
                ""
            };
            println!("{name} is {}{tokens}.", spoken(&roles));
        }
        cli::User::Disable { name } => {
            let account = known(&store, &name).await?;
            store.disable(&account, now, expires).await?;
            commanded("user-disable", Some(&account.id), None);
            println!("{name} cannot log in any more, and all tokens of {name} are revoked.");
        }
        cli::User::Enable { name } => {
            let account = known(&store, &name).await?;
            store.enable(&account, now).await?;
            commanded("user-enable", Some(&account.id), None);
            println!("{name} can log in again.");
        }
        cli::User::Logout { name } => {
            let account = known(&store, &name).await?;
            store.end_all(&account.id, expires).await?;
            commanded("user-logout", Some(&account.id), None);
            println!("All tokens of {name} are revoked.");
        }
        cli::User::Remove { name } => {
            let account = known(&store, &name).await?;
            store.remove(&account, expires).await?;
            commanded("user-remove", Some(&account.id), None);
            println!("Removed {name}; all tokens of {name} are revoked.");
        }
        cli::User::List(output) => list(settings, &store, output.output).await?,
        cli::User::Hashes(output) => hashes(settings, &store, output.output).await?,
    }
    Ok(Outcome::Yes)
}

async fn list(settings: &Settings, store: &Store, format: Format) -> anyhow::Result<()> {
    let listed = store.users.list().await?;
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    if listed.is_empty() {
        println!("There are no users; add one with: doorward user add NAME");
        return Ok(());
    }
    let names = settings.names();
    let mut table = table(["NAME", "ROLES", "LOGIN", "ADDED", "ID"]);
    for user in listed {
        let added = user.created_at.and_then(|added| added.try_into().ok());
        let state = match Username::parse(&user.username) {
            _ if user.disabled => "disabled",
            Some(name) if names.is_foreign_name(&name).is_some() => "refused: foreign name",
            Some(_) | None => "enabled",
        };
        table.add_row([
            user.username,
            user.roles.join(","),
            state.into(),
            added.map_or_else(|| "-".into(), moment),
            user.id,
        ]);
    }
    println!("{table}");
    Ok(())
}

/// How many users have hashes of one format.
#[derive(Default)]
struct Count {
    users: u64,
    /// Hashes that Doorward replaces at the next login.
    outdated: u64,
    /// Users who cannot log in: Doorward does not verify the format, or the cost is above the limits.
    refused: u64,
}

/// Counts the formats of stored hashes, and shows no hash.
async fn hashes(settings: &Settings, store: &Store, format: Format) -> anyhow::Result<()> {
    let hasher = Hasher::new()?.allow_plaintext(settings.users.plaintext);
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    store
        .users
        .hashes(|hash| {
            let count = counts.entry(hasher.format(&hash)).or_default();
            count.users += 1;
            count.outdated += u64::from(hasher.is_outdated(&hash));
            count.refused += u64::from(!hasher.accepts(&hash));
        })
        .await?;
    if format == Format::Json {
        let counts: Vec<_> = counts
            .iter()
            .map(|(format, count)| {
                let Count {
                    users,
                    outdated,
                    refused,
                } = count;
                json!({"scheme": format, "users": users, "outdated": outdated, "refused": refused})
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&counts)?);
        return Ok(());
    }
    let mut table = table(["SCHEME", "USERS", "TO BE REPLACED", "REFUSED"]);
    for (format, count) in counts {
        let numbers = [count.users, count.outdated, count.refused].map(|number| number.to_string());
        let [users, outdated, refused] = numbers;
        table.add_row([format.to_owned(), users, outdated, refused]);
    }
    println!("{table}");
    Ok(())
}

fn new_username(name: &str) -> anyhow::Result<Username> {
    if name.trim() != name {
        bail!("{name:?} begins or ends with a blank, which is not visible");
    }
    username(name)
}

fn new_hash(settings: &Settings, username: &Username, weak: bool) -> anyhow::Result<PasswordHash> {
    let password = password()?;
    match settings.passwords.check(&password, username) {
        Ok(()) => {}
        Err(fault) if weak => eprintln!("warning: {fault}"),
        Err(fault) => bail!("{fault}; --weak accepts it anyway"),
    }
    Ok(Hasher::new()?.hash(&password)?)
}

fn password() -> anyhow::Result<Password> {
    let typed = if io::stdin().is_terminal() {
        let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
        let again = Zeroizing::new(rpassword::prompt_password("Again: ")?);
        if first != again {
            bail!("the two passwords differ");
        }
        first
    } else {
        let mut text = Zeroizing::new(String::new());
        io::stdin()
            .take(4096)
            .read_to_string(&mut text)
            .context("the password on standard input")?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned())
    };
    Password::parse(&typed)
        .context("a password is one line of 1 to 1024 bytes without control characters")
}
