//! `[jwt]`: the keys of tokens, and what tokens say.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use doorward_rules::keys::{KeySources, KeyText, SecretSource};

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
    value::{DAY, directory, duration, name},
};
use crate::{
    domain::token::{Secret, TokenTerms},
    tables::database::Database,
};

/// Settings of tokens.
#[derive(Debug)]
pub(crate) struct JwtSettings {
    /// Where keys come from.
    pub(crate) keys: KeySources,
    /// What tokens say, and how long they last.
    pub(crate) terms: TokenTerms,
}

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
    "Secret of HS256, at least 32 bytes. Required if the user table is in MySQL, MariaDB or PostgreSQL and there is no other key.",
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
    |text| Ok(KeyText::parse(text)?),
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
        let secret = match (reader.find(&SECRET), users) {
            (Some(secret), _) => SecretSource::Given(secret),
            (None, Database::Sqlite(_)) => SecretSource::File(data_dir.join("jwt.secret")),
            (None, Database::MySql(_) | Database::Postgres(_)) => SecretSource::Missing,
        };
        let previous_secret = reader.find(&PREVIOUS_SECRET);
        let key = reader.find(&KEY);
        let dir = (reader.find(&KEYS_DIR)).unwrap_or_else(|| data_dir.join("keys"));
        let terms = TokenTerms {
            issuer: reader.get(&ISSUER),
            audience: reader.get(&AUDIENCE),
            lifetime: reader.get(&LIFETIME),
            leeway: reader.get(&LEEWAY),
        };
        Self {
            keys: KeySources {
                dir,
                secret,
                previous_secret,
                key,
                lasts: terms.lasts(),
            },
            terms,
        }
    }
}
