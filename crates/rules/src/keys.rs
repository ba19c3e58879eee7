//! Token keys in files: a directory or a Kubernetes secret mount, and the secret of the settings.

use std::{
    fmt,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use doorward_core::{
    key::{Key, KeyFault},
    keyring::{Keyring, KeyringFault},
    secret::{Secret, SecretFault},
    time::UnixTime,
};
use zeroize::Zeroizing;

use crate::{files::Files, private::keep};

/// Where keys come from.
#[derive(Debug)]
pub struct KeySources {
    /// A directory of keys.
    pub dir: PathBuf,
    /// The secret of HS256.
    pub secret: SecretSource,
    /// The secret that signed tokens before; it only verifies.
    pub previous_secret: Option<Secret>,
    /// One key in addition to those of the directory.
    pub key: Option<KeyText>,
    /// The lifetime of a token, including clock skew.
    pub lasts: Duration,
}

/// Where the secret of HS256 comes from.
#[derive(Debug)]
pub enum SecretSource {
    /// The settings contain it.
    Given(Secret),
    /// It is in this file; Doorward generates it if the file does not exist.
    File(PathBuf),
    /// It is not set, and cannot be generated, because other replicas need the same one.
    Missing,
}

/// The text of a key that can be parsed; `Debug` does not show it.
pub struct KeyText(Zeroizing<String>);

/// The command that generates a secret.
pub const MAKE_SECRET: &str = "openssl rand -hex 32";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysFault {
    /// The directory cannot be read.
    #[error("jwt.keys_dir: {}", dir.display())]
    Dir { dir: PathBuf, source: io::Error },
    /// The directory existed before and is missing.
    #[error(
        "jwt.keys_dir: {} is missing; restore it, or restart to run without its keys",
        .0.display()
    )]
    DirGone(PathBuf),
    /// A file of the directory cannot be read.
    #[error("the key in {}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The files of the directory contain no valid key set.
    #[error(transparent)]
    Key(#[from] KeyringFault),
    /// The key of the settings is refused.
    #[error("jwt.key (JWT_KEY)")]
    Text(#[source] KeyFault),
    /// The keys do not fit together.
    #[error("the keys in {}", dir.display())]
    Together { dir: PathBuf, source: KeyringFault },
    /// The secret cannot be read.
    #[error("the secret in {}", path.display())]
    ReadSecret { path: PathBuf, source: io::Error },
    /// The secret is weak.
    #[error("the secret in {}: {fault}; make one with: {MAKE_SECRET}", path.display())]
    Secret { path: PathBuf, fault: SecretFault },
    /// The secret cannot be written.
    #[error("the secret in {} cannot be written", path.display())]
    WriteSecret { path: PathBuf, source: io::Error },
    /// The secret was written but does not exist.
    #[error(
        "the secret in {} cannot be written: its path is a dangling link; remove it",
        .0.display()
    )]
    DanglingSecret(PathBuf),
    /// The secret existed before and is missing.
    #[error(
        "there is no secret in {}, no jwt.secret is set, and no key signs; restore the missing file, or restart to generate a secret, which revokes all tokens",
        .0.display()
    )]
    SecretGone(PathBuf),
    /// Nothing signs, and no secret can be generated.
    #[error(
        "environment: JWT_SECRET: is not set, there is no key in {}, and every replica on this database needs the same one; make it with: {MAKE_SECRET}",
        .0.display()
    )]
    NoSecret(PathBuf),
    /// The previous secret equals the current one.
    #[error(
        "jwt.previous_secret (JWT_SECRET_PREVIOUS) is the secret that signs; remove it, or change jwt.secret"
    )]
    PreviousSecret,
}

impl KeyText {
    /// Takes the text of one key, as JWK or PEM.
    ///
    /// # Errors
    ///
    /// Why the key is refused.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let text = Self(text.to_owned().into());
        text.key()?;
        Ok(text)
    }

    fn key(&self) -> Result<Key, KeyFault> {
        Key::read("jwt-key", self.0.as_bytes())
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

impl KeySources {
    /// Reads all keys, and generates the secret if it is needed and missing.
    ///
    /// # Errors
    ///
    /// A file cannot be read, a key is refused, the keys contradict each other, or no key signs.
    pub fn load(&self, now: UnixTime) -> Result<Keyring, KeysFault> {
        self.start(&Files::default(), now)
    }

    /// The same, with these files.
    ///
    /// # Errors
    ///
    /// As for [`KeySources::load`].
    pub fn start(&self, files: &Files, now: UnixTime) -> Result<Keyring, KeysFault> {
        let keys = self.given(files)?;
        let secret = match &self.secret {
            SecretSource::File(path) => match kept(path, files)? {
                // If keys have replaced the generated secret, it is still needed until its last token has expired.
                None if !keys.iter().any(Key::can_sign) => {
                    keep(path, &Secret::generate()).map_err(|source| KeysFault::WriteSecret {
                        path: path.clone(),
                        source,
                    })?;
                    files.forget(path);
                    let kept = kept(path, files)?;
                    if kept.is_none() {
                        return Err(KeysFault::DanglingSecret(path.clone()));
                    }
                    kept
                }
                kept => kept,
            },
            SecretSource::Given(_) | SecretSource::Missing => None,
        };
        self.together(keys, secret, now)
    }

    /// Reads all keys again and generates nothing: another secret would invalidate all tokens.
    ///
    /// # Errors
    ///
    /// As for [`KeySources::load`]; also a missing secret, and a missing directory that existed before.
    pub fn again(&self, files: &Files, had_dir: bool, now: UnixTime) -> Result<Keyring, KeysFault> {
        if had_dir && !self.has_dir(files) {
            return Err(KeysFault::DirGone(self.dir.clone()));
        }
        let keys = self.given(files)?;
        let secret = match &self.secret {
            SecretSource::File(path) => match kept(path, files)? {
                None if !keys.iter().any(Key::can_sign) => {
                    return Err(KeysFault::SecretGone(path.clone()));
                }
                kept => kept,
            },
            SecretSource::Given(_) | SecretSource::Missing => None,
        };
        self.together(keys, secret, now)
    }

    /// Whether the key directory exists.
    #[must_use]
    pub fn has_dir(&self, files: &Files) -> bool {
        let listed = files.list(&self.dir);
        !listed.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    /// Reads all keys like [`KeySources::load`], but generates nothing. `None`: the secret would be generated, and sign.
    ///
    /// # Errors
    ///
    /// As for [`KeySources::load`].
    pub fn check(&self, now: UnixTime) -> Result<Option<Keyring>, KeysFault> {
        let files = Files::default();
        let keys = self.given(&files)?;
        let secret = match &self.secret {
            SecretSource::File(path) => match kept(path, &files)? {
                // It would be generated.
                None if !keys.iter().any(Key::can_sign) => return Ok(None),
                kept => kept,
            },
            SecretSource::Given(_) | SecretSource::Missing => None,
        };
        self.together(keys, secret, now).map(Some)
    }

    /// The keys of the directory only.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a key that is refused.
    pub fn read(&self) -> Result<Vec<Key>, KeysFault> {
        self.read_from(&Files::default())
    }

    /// The files of the directory, by name; empty if the directory does not exist.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>, KeysFault> {
        self.list(&Files::default())
    }

    /// The keys of the directory and of the settings.
    fn given(&self, files: &Files) -> Result<Vec<Key>, KeysFault> {
        let mut keys = self.read_from(files)?;
        if let Some(text) = &self.key {
            keys.push(text.key().map_err(KeysFault::Text)?);
        }
        Ok(keys)
    }

    fn together(
        &self,
        mut keys: Vec<Key>,
        kept: Option<Secret>,
        now: UnixTime,
    ) -> Result<Keyring, KeysFault> {
        match (&self.secret, kept) {
            (_, Some(secret)) => keys.push(Key::from_secret(&secret, UnixTime(0))),
            (SecretSource::Given(secret), None) => {
                keys.push(Key::from_secret(secret, UnixTime(0)));
            }
            (SecretSource::Missing, None) if !keys.iter().any(Key::can_sign) => {
                return Err(KeysFault::NoSecret(self.dir.clone()));
            }
            (SecretSource::Missing | SecretSource::File(_), None) => {}
        }
        if let Some(previous) = &self.previous_secret {
            let previous = Key::from_secret(previous, UnixTime(0)).only_verifying();
            if keys.iter().any(|key| key.id() == previous.id()) {
                return Err(KeysFault::PreviousSecret);
            }
            keys.push(previous);
        }
        let keys = Keyring::new(keys, self.lasts).map_err(|source| KeysFault::Together {
            dir: self.dir.clone(),
            source,
        })?;
        if keys.signer(now).is_none() {
            return Err(KeyringFault::NoSigner.into());
        }
        Ok(keys)
    }

    fn read_from(&self, files: &Files) -> Result<Vec<Key>, KeysFault> {
        let paths = self.list(files)?;
        paths.into_iter().map(|path| read(path, files)).collect()
    }

    fn list(&self, files: &Files) -> Result<Vec<PathBuf>, KeysFault> {
        match files.list(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|source| KeysFault::Dir {
                dir: self.dir.clone(),
                source,
            }),
        }
    }
}

/// The key in a file; its name is the file name, unless it has one.
fn read(path: PathBuf, files: &Files) -> Result<Key, KeysFault> {
    let content = match files.read(&path) {
        Ok(content) => content,
        Err(source) => return Err(KeysFault::File { path, source }),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let key = Key::read(&name, &content);
    key.map_err(|fault| KeyringFault::Key(path.display().to_string(), fault).into())
}

/// The secret in a file, if the file exists.
fn kept(path: &Path, files: &Files) -> Result<Option<Secret>, KeysFault> {
    let path = || path.to_owned();
    let content = match files.read(&path()) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(KeysFault::ReadSecret {
                path: path(),
                source,
            });
        }
    };
    let secret = Secret::parse(&content);
    secret.map(Some).map_err(|fault| KeysFault::Secret {
        path: path(),
        fault,
    })
}
