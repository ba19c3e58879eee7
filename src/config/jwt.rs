//! `[jwt]`: the keys of tokens, and what tokens say.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::{DAY, directory, duration, name},
};
use crate::{
    domain::{
        key::{self, KeyFault},
        token::{Secret, TokenTerms},
    },
    tables::database::Database,
};

/// Settings of tokens.
#[derive(Debug)]
pub struct JwtSettings {
    /// The secret of HS256.
    pub secret: SecretSource,
    /// The secret that signed tokens before; it only verifies.
    pub previous_secret: Option<Secret>,
    /// One key in addition to those of the directory.
    pub key: Option<KeyText>,
    /// The directory of keys.
    pub keys_dir: PathBuf,
    /// What tokens say, and how long they last.
    pub terms: TokenTerms,
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

impl KeyText {
    /// Parses the key.
    ///
    /// # Errors
    ///
    /// Why the key is refused.
    pub fn key(&self) -> Result<key::Key, KeyFault> {
        key::Key::read("jwt-key", self.0.as_bytes())
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

/// The command that makes a good secret.
pub const MAKE_SECRET: &str = "openssl rand -hex 32";

pub(super) static KEYS: Section = &[
    &SECRET,
    &PREVIOUS_SECRET,
    &KEY,
    &KEYS_DIR,
    &ISSUER,
    &AUDIENCE,
    &LIFETIME,
    &LEEWAY,
];

static SECRET: Optional<Secret> = Key::new(
    "jwt.secret",
    "generated in data_dir",
    |text| Secret::parse(text.as_bytes()).map_err(ValueFault::Secret),
    "Secret of HS256, at least 32 bytes. Required if the user table is in MySQL or MariaDB and there is no other key.",
)
.also(&["JWT_SECRET"])
.reloads()
.optional();

static PREVIOUS_SECRET: Optional<Secret> = Key::new(
    "jwt.previous_secret",
    "none",
    |text| Secret::parse(text.as_bytes()).map_err(ValueFault::PreviousSecret),
    "The secret that signed tokens before; it only verifies.",
)
.also(&["JWT_SECRET_PREVIOUS"])
.reloads()
.optional();

static KEY: Optional<KeyText> = Key::new(
    "jwt.key",
    "none",
    |text| {
        let read = KeyText(text.to_owned().into());
        read.key()?;
        Ok(read)
    },
    "Text of one key (JWK or PEM), in addition to the keys in `jwt.keys_dir`: for a key in the environment or in one mounted file.",
)
.also(&["JWT_KEY"])
.reloads()
.optional();

static KEYS_DIR: Optional<PathBuf> = Key::new(
    "jwt.keys_dir",
    "keys in data_dir",
    directory,
    "Directory of keys (JWK or PEM, one per file), which `doorward keys` manages, or a mount of them. The key that started last signs; all keys verify.",
)
.optional();

static ISSUER: Key<String> = Key::new("jwt.issuer", "doorward", name, "Claim `iss` of tokens.");

static AUDIENCE: Key<String> = Key::new("jwt.audience", "doorward", name, "Claim `aud` of tokens.");

static LIFETIME: Key<Duration> = Key::new(
    "jwt.lifetime",
    "24h",
    |text| duration(text, Duration::from_secs(60), 366 * DAY),
    "Time from the issue of a token to its expiry, 1min to 366days.",
)
.reloads();

static LEEWAY: Key<Duration> = Key::new(
    "jwt.leeway",
    "30s",
    |text| duration(text, Duration::ZERO, Duration::from_secs(60)),
    "How far clocks may differ, at most 60s.",
)
.reloads();

impl JwtSettings {
    pub(super) fn read(reader: &mut Reader<'_>, data_dir: &Path, users: &Database) -> Self {
        Self {
            secret: match (reader.find(&SECRET), users) {
                (Some(secret), _) => SecretSource::Given(secret),
                (None, Database::Sqlite(_)) => SecretSource::File(data_dir.join("jwt.secret")),
                (None, Database::MySql(_)) => SecretSource::Missing,
            },
            previous_secret: reader.find(&PREVIOUS_SECRET),
            key: reader.find(&KEY),
            keys_dir: (reader.find(&KEYS_DIR)).unwrap_or_else(|| data_dir.join("keys")),
            terms: TokenTerms {
                issuer: reader.get(&ISSUER),
                audience: reader.get(&AUDIENCE),
                lifetime: reader.get(&LIFETIME),
                leeway: reader.get(&LEEWAY),
            },
        }
    }
}
