//! Commands that manage keys.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{Outcome, moment, table};
use crate::{
    cli::{self, Format},
    clock::unix_time,
    config::Settings,
    domain::{
        key::{Algorithm, Key, KeyId},
        keyring::{KeyState, Keyring},
        token::UnixTime,
    },
    observe::audit::commanded,
};
use doorward_rules::{keys::SecretSource, private};

/// The shortest time between publishing a key and signing with it: verifiers cache the public keys for a minute, and
/// Doorward takes a file two seconds after it was written.
const PUBLISHED: Duration = Duration::from_secs(120);

/// Generates, lists and removes keys.
///
/// # Errors
///
/// A key cannot be generated, read or removed.
pub(crate) fn keyring(settings: &Settings, command: cli::Keys) -> anyhow::Result<Outcome> {
    let now = unix_time();
    match command {
        cli::Keys::Generate { algorithm, id } => {
            let algorithm = algorithm_of(&algorithm)?;
            let at = match settings.jwt.keys.read()?.iter().any(Key::can_sign) {
                true => bail!(
                    "{} has keys already; `doorward keys rotate` makes the next one",
                    settings.jwt.keys.dir.display()
                ),
                false => now,
            };
            // If a secret signs now, every replica and verifier must know the new key before it signs.
            let at = match has_secret(settings) {
                true => after(at, PUBLISHED),
                false => at,
            };
            make(settings, algorithm, id, at)?;
        }
        cli::Keys::Rotate {
            algorithm,
            id,
            after: wait,
        } => {
            let ring = settings.jwt.keys.load(now)?;
            let signer = ring.signer(now).context("no key signs")?;
            let algorithm = match algorithm {
                Some(algorithm) => algorithm_of(&algorithm)?,
                None => signer.algorithm(),
            };
            if let Some(staged) =
                (ring.keys().iter()).find(|key| ring.state(key, now) == KeyState::Staged)
            {
                bail!(
                    "{} is staged already and signs from {} on",
                    staged.id().as_str(),
                    moment(staged.not_before().0)
                );
            }
            let wait = wait.map_or(Ok(Duration::from_secs(600)), |wait| {
                humantime::parse_duration(&wait)
                    .with_context(|| format!("--after {wait:?}: write a duration such as 10m"))
            })?;
            if wait < PUBLISHED && algorithm != Algorithm::Hs256 {
                eprintln!(
                    "warning: verifiers that keep the public keys for up to a minute may meet tokens of a key they do not know; --after 2m is long enough"
                );
            }
            make(settings, algorithm, id, after(now, wait))?;
        }
        cli::Keys::Retire { id, now: at_once } => retire(settings, &id, at_once)?,
        cli::Keys::List(output) => list(&settings.jwt.keys.load(now)?, now, output.output)?,
        cli::Keys::Export => println!("{}", settings.jwt.keys.load(now)?.jwks(now)),
    }
    Ok(Outcome::Yes)
}

fn has_secret(settings: &Settings) -> bool {
    match &settings.jwt.keys.secret {
        SecretSource::Given(_) => true,
        SecretSource::File(path) => path.exists(),
        SecretSource::Missing => false,
    }
}

fn after(now: UnixTime, wait: Duration) -> UnixTime {
    UnixTime(now.0.saturating_add(wait.as_secs()))
}

fn algorithm_of(name: &str) -> anyhow::Result<Algorithm> {
    Algorithm::parse(name).with_context(|| {
        let known: Vec<_> = Algorithm::ALL.iter().map(|known| known.name()).collect();
        format!("{name:?} is none of: {}", known.join(", "))
    })
}

fn make(
    settings: &Settings,
    algorithm: Algorithm,
    id: Option<String>,
    at: UnixTime,
) -> anyhow::Result<()> {
    // A name that sorts by time.
    let drawn = || {
        let random = uuid::Uuid::new_v4().simple().to_string();
        format!(
            "{}-{}",
            moment(at.0).replace(':', ""),
            random.get(..6).unwrap_or_default()
        )
    };
    let id = KeyId::parse(&id.unwrap_or_else(drawn))
        .context("--id: 1 to 64 letters, digits, \".\", \"_\" and \"-\"")?;
    let end = if algorithm == Algorithm::Hs256 {
        "jwk"
    } else {
        "pem"
    };
    let path = settings.jwt.keys.dir.join(format!("{}.{end}", id.as_str()));
    if path.exists() {
        bail!("{} exists already", path.display());
    }
    let text = Key::generate(&id, algorithm, at)?;
    private::keep(&path, &text).with_context(|| path.display().to_string())?;
    // Checks that all keys can be read together, before a replica tries to.
    if let Err(fault) = settings.jwt.keys.load(unix_time()) {
        fs::remove_file(&path)?;
        return Err(fault.into());
    }
    commanded("keys-add", None, None);
    println!("Made {} ({algorithm}) in {}.", id.as_str(), path.display());
    println!(
        "It is published at once, and signs from {} on; the present key verifies until its last token has expired.",
        moment(at.0)
    );
    Ok(())
}

fn retire(settings: &Settings, id: &str, at_once: bool) -> anyhow::Result<()> {
    let now = unix_time();
    let ring = settings.jwt.keys.load(now)?;
    let key = (ring.keys().iter()).find(|key| key.id().as_str() == id);
    let key = key.with_context(|| format!("there is no key {id:?}; see `doorward keys list`"))?;
    let path = settings.jwt.keys.files()?.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        fs::read(path)
            .is_ok_and(|content| Key::read(&name, &content).is_ok_and(|read| read.id() == key.id()))
    });
    let path = path.with_context(|| {
        format!("{id:?} is the secret of the settings; remove it there (jwt.secret or jwt.previous_secret)")
    })?;
    match ring.state(key, now) {
        KeyState::Expired | KeyState::Verifying(None) => {}
        KeyState::Staged if at_once => {}
        KeyState::Signing
            if ring
                .keys()
                .iter()
                .filter(|other| other.can_sign() && other.not_before() <= now)
                .count()
                < 2 =>
        {
            bail!(
                "{id:?} signs, and no other key can; retire the staged key with --now, then make the next one with `doorward keys rotate --after 0s`"
            )
        }
        KeyState::Signing | KeyState::Verifying(_) | KeyState::Staged if at_once => {}
        KeyState::Signing => {
            bail!("{id:?} signs; rotate first, or revoke all of its tokens with --now")
        }
        KeyState::Staged => bail!("{id:?} is staged; --now removes it anyway"),
        KeyState::Verifying(Some(until)) => bail!(
            "tokens of {id:?} are valid until {}; --now revokes them",
            moment(until.0)
        ),
    }
    fs::remove_file(&path).with_context(|| path.display().to_string())?;
    commanded("keys-retire", None, None);
    println!("Removed {id}; this replica refuses its tokens within two seconds.");
    Ok(())
}

fn list(ring: &Keyring, now: UnixTime, format: Format) -> anyhow::Result<()> {
    let rows = ring.keys().iter().map(|key| {
        let (state, until) = match ring.state(key, now) {
            KeyState::Staged => ("staged", None),
            KeyState::Signing => ("signing", None),
            KeyState::Verifying(until) => ("verifying", until),
            KeyState::Expired => ("expired", None),
        };
        (key, state, until)
    });
    if format == Format::Json {
        let rows: Vec<_> = rows
            .map(|(key, state, until)| {
                json!({
                    "kid": key.id().as_str(), "alg": key.algorithm().name(), "state": state,
                    "not_before": key.not_before().0, "until": until.map(|until| until.0),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let mut table = table(["KID", "ALG", "STATE", "SIGNS FROM", "UNTIL"]);
    for (key, state, until) in rows {
        table.add_row([
            key.id().as_str().to_owned(),
            key.algorithm().name().to_owned(),
            state.to_owned(),
            match key.not_before() {
                UnixTime(0) => "-".to_owned(),
                since => moment(since.0),
            },
            until.map_or_else(|| "-".to_owned(), |until| moment(until.0)),
        ]);
    }
    println!("{table}");
    Ok(())
}
