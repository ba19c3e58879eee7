//! The keys of tokens as files: a directory of them, or a Kubernetes secret mount, and the secret of the settings.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};

use crate::{
    clock::unix_time,
    config::{MAKE_SECRET, SecretSource, Settings},
    domain::{
        key::Key,
        keyring::{Keyring, KeyringFault},
        token::{Secret, UnixTime},
    },
};
use doorward_rules::files::Files;

pub use doorward_rules::private::keep;

/// Reads all keys, and makes the secret where one is to be made.
///
/// # Errors
///
/// A file that cannot be read, a key that is refused, keys that do not hold together, or none that signs.
pub fn load(settings: &Settings) -> anyhow::Result<Keyring> {
    start(settings, &Files::default())
}

/// The same, out of these files.
///
/// # Errors
///
/// As for [`load`].
pub fn start(settings: &Settings, files: &Files) -> anyhow::Result<Keyring> {
    let keys = given(settings, files)?;
    let secret = match &settings.jwt.secret {
        SecretSource::File(path) => match kept(path, files)? {
            // Once keys sign that were made for it, the secret that was generated is needed until its last token is gone.
            None if !keys.iter().any(Key::can_sign) => {
                let made = keep(path, &Secret::generate());
                made.with_context(|| {
                    format!("the secret in {} cannot be written", path.display())
                })?;
                files.forget(path);
                let kept = kept(path, files)?;
                if kept.is_none() {
                    bail!(
                        "the secret in {} cannot be written: its path is a dangling link; remove it",
                        path.display()
                    );
                }
                kept
            }
            kept => kept,
        },
        SecretSource::Given(_) | SecretSource::Missing => None,
    };
    together(settings, keys, secret)
}

/// Reads all keys again, and makes nothing: another secret would end all tokens.
///
/// # Errors
///
/// As for [`load`]; a secret that is gone; and a directory that is gone where there was one.
pub fn again(settings: &Settings, files: &Files, had_dir: bool) -> anyhow::Result<Keyring> {
    if had_dir && !has_dir(settings, files) {
        bail!(
            "jwt.keys_dir: {} is missing; restore it, or restart to run without its keys",
            settings.jwt.keys_dir.display()
        );
    }
    let keys = given(settings, files)?;
    let secret = match &settings.jwt.secret {
        SecretSource::File(path) => match kept(path, files)? {
            None if !keys.iter().any(Key::can_sign) => bail!(
                "there is no secret in {}, no jwt.secret is set, and no key signs; restore the missing file, or restart to generate a secret, which revokes all tokens",
                path.display()
            ),
            kept => kept,
        },
        SecretSource::Given(_) | SecretSource::Missing => None,
    };
    together(settings, keys, secret)
}

/// Whether there is a directory of keys.
#[must_use]
pub fn has_dir(settings: &Settings, files: &Files) -> bool {
    let listed = files.list(&settings.jwt.keys_dir);
    !listed.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Looks at all keys as [`load`] does, and makes nothing.
///
/// # Errors
///
/// As for [`load`].
pub fn check(settings: &Settings) -> anyhow::Result<()> {
    let files = Files::default();
    let keys = given(settings, &files)?;
    let secret = match &settings.jwt.secret {
        SecretSource::File(path) => match kept(path, &files)? {
            // It would be made.
            None if !keys.iter().any(Key::can_sign) => return Ok(()),
            kept => kept,
        },
        SecretSource::Given(_) | SecretSource::Missing => None,
    };
    together(settings, keys, secret).map(drop)
}

/// The keys of the directory, and the one of the settings.
fn given(settings: &Settings, files: &Files) -> anyhow::Result<Vec<Key>> {
    let mut keys = read_from(settings, files)?;
    if let Some(text) = &settings.jwt.key {
        keys.push(text.key().context("jwt.key (JWT_KEY)")?);
    }
    Ok(keys)
}

fn together(
    settings: &Settings,
    mut keys: Vec<Key>,
    kept: Option<Secret>,
) -> anyhow::Result<Keyring> {
    match (&settings.jwt.secret, kept) {
        (_, Some(secret)) => keys.push(Key::from_secret(&secret, UnixTime(0))),
        (SecretSource::Given(secret), None) => {
            keys.push(Key::from_secret(secret, UnixTime(0)));
        }
        (SecretSource::Missing, None) if !keys.iter().any(Key::can_sign) => bail!(
            "environment: JWT_SECRET: is not set, there is no key in {}, and every replica on this database needs the same one; make it with: {MAKE_SECRET}",
            settings.jwt.keys_dir.display()
        ),
        (SecretSource::Missing | SecretSource::File(_), None) => {}
    }
    if let Some(previous) = &settings.jwt.previous_secret {
        let previous = Key::from_secret(previous, UnixTime(0)).only_verifying();
        if keys.iter().any(|key| key.id() == previous.id()) {
            bail!(
                "jwt.previous_secret (JWT_SECRET_PREVIOUS) is the secret that signs; remove it, or change jwt.secret"
            );
        }
        keys.push(previous);
    }
    let keys = Keyring::new(keys, settings.jwt.terms.lasts())
        .with_context(|| format!("the keys in {}", settings.jwt.keys_dir.display()))?;
    if keys.signer(unix_time()).is_none() {
        return Err(KeyringFault::NoSigner.into());
    }
    Ok(keys)
}

/// The keys of the directory alone.
///
/// # Errors
///
/// A file that cannot be read, or a key that is refused.
pub fn read(settings: &Settings) -> anyhow::Result<Vec<Key>> {
    read_from(settings, &Files::default())
}

fn read_from(settings: &Settings, files: &Files) -> anyhow::Result<Vec<Key>> {
    list(&settings.jwt.keys_dir, files)?
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let content = files.read(path);
            let content = content.with_context(|| format!("the key in {}", path.display()))?;
            let key = Key::read(&name, &content);
            key.map_err(|fault| KeyringFault::Key(path.display().to_string(), fault).into())
        })
        .collect()
}

/// The files of a directory of keys, by name; none where there is no such directory.
///
/// # Errors
///
/// The directory cannot be read.
pub fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    list(dir, &Files::default())
}

fn list(dir: &Path, files: &Files) -> anyhow::Result<Vec<PathBuf>> {
    match files.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        names => names.with_context(|| format!("jwt.keys_dir: {}", dir.display())),
    }
}

/// The secret in a file, where there is one.
fn kept(path: &Path, files: &Files) -> anyhow::Result<Option<Secret>> {
    let place = || format!("the secret in {}", path.display());
    match files.read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        kept => {
            let secret = Secret::parse(&kept.with_context(place)?);
            secret
                .map(Some)
                .map_err(|fault| anyhow!("{}: {fault}; make one with: {MAKE_SECRET}", place()))
        }
    }
}
