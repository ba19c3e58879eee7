//! The keys of tokens as files: a directory of them, or a Kubernetes secret mount, and the secret of the settings.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    authorizer::unix_time,
    config::{MAKE_SECRET, SecretSource, Settings},
    database::create_private_dir,
    domain::{
        key::Key,
        keyring::{Keyring, KeyringFault},
        token::{Secret, UnixTime},
    },
};

/// Reads all keys, and makes the secret where one is to be made.
///
/// # Errors
///
/// A file that cannot be read, a key that is refused, keys that do not hold together, or none that signs.
pub fn load(settings: &Settings) -> anyhow::Result<Keyring> {
    let keys = read(settings)?;
    // Once keys sign that were made for it, the secret that was generated is needed until its last token is gone.
    let secret = match &settings.secret {
        SecretSource::File(path) if path.exists() || !keys.iter().any(Key::can_sign) => {
            Some(kept(path)?)
        }
        SecretSource::Given(_) | SecretSource::Missing | SecretSource::File(_) => None,
    };
    together(settings, keys, secret)
}

/// Looks at all keys as [`load`] does, and makes nothing.
///
/// # Errors
///
/// As for [`load`].
pub fn check(settings: &Settings) -> anyhow::Result<()> {
    let keys = read(settings)?;
    let secret = match &settings.secret {
        SecretSource::File(path) if path.exists() => Some(kept(path)?),
        // It would be made.
        SecretSource::File(_) if !keys.iter().any(Key::can_sign) => return Ok(()),
        SecretSource::Given(_) | SecretSource::Missing | SecretSource::File(_) => None,
    };
    together(settings, keys, secret).map(drop)
}

fn together(
    settings: &Settings,
    mut keys: Vec<Key>,
    kept: Option<Secret>,
) -> anyhow::Result<Keyring> {
    match (&settings.secret, kept) {
        (_, Some(secret)) => keys.push(Key::from_secret(&secret, UnixTime(0))),
        (SecretSource::Given(secret), None) => {
            keys.push(Key::from_secret(secret, UnixTime(0)));
        }
        (SecretSource::Missing, None) if !keys.iter().any(Key::can_sign) => bail!(
            "environment: JWT_SECRET: is not set, there is no key in {}, and every replica on this database needs the same one; make it with: {MAKE_SECRET}",
            settings.keys_dir.display()
        ),
        (SecretSource::Missing | SecretSource::File(_), None) => {}
    }
    if let Some(previous) = &settings.previous_secret {
        let previous = Key::from_secret(previous, UnixTime(0)).only_verifying();
        if keys.iter().any(|key| key.id() == previous.id()) {
            bail!(
                "jwt.previous_secret (JWT_SECRET_PREVIOUS) is the secret that signs; take it out, or change jwt.secret"
            );
        }
        keys.push(previous);
    }
    let keys = Keyring::new(keys, settings.terms.lasts())
        .with_context(|| format!("the keys in {}", settings.keys_dir.display()))?;
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
    files(&settings.keys_dir)?
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let content = fs::read(path).map(zeroize::Zeroizing::new);
            let content = content.with_context(|| format!("the key in {}", path.display()))?;
            let key = Key::read(&name, &content);
            key.map_err(|fault| KeyringFault::Key(path.display().to_string(), fault).into())
        })
        .collect()
}

/// The files of a directory of keys, by name; none where there is no such directory. What begins with a dot is how
/// Kubernetes exchanges a mount as a whole.
///
/// # Errors
///
/// The directory cannot be read.
pub fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("jwt.keys_dir: {}", dir.display()))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("jwt.keys_dir: {}", dir.display()))?;
        let path = entry.path();
        if !entry.file_name().as_encoded_bytes().starts_with(b".") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The secret in a file; drawn and kept where there is none.
fn kept(path: &Path) -> anyhow::Result<Secret> {
    let kept = keep_secret(path)
        .with_context(|| format!("the secret in {} cannot be kept", path.display()))?;
    Secret::parse(&kept).with_context(|| format!("the secret in {}", path.display()))
}

fn keep_secret(path: &Path) -> std::io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        kept => return kept,
    }
    keep(path, &Secret::generate())?;
    fs::read(path)
}

/// Puts a file that only its owner can read where there is none. Written whole beside it and linked into place: a second
/// process finds all of it or nothing.
///
/// # Errors
///
/// The file cannot be made.
pub fn keep(path: &Path, content: &str) -> std::io::Result<()> {
    create_private_dir(path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.draft-{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}
