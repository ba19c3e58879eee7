//! Passwords and their stored hashes.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc,
};
use zeroize::Zeroizing;

/// A password as it was typed; never shown.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes 1 to 1024 bytes without control characters, or nothing.
    #[must_use]
    pub fn parse(password: &str) -> Option<Self> {
        let possible = (1..=1024).contains(&password.len()) && !password.contains(char::is_control);
        possible.then(|| Self(Zeroizing::new(password.to_owned())))
    }

    /// The password itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A hash as the user table keeps it; never shown.
#[derive(Clone)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes the text of a row; what it means is decided when a password is verified against it.
    #[must_use]
    pub fn new(stored: String) -> Self {
        Self(stored)
    }

    /// The text for the row.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// What comes of holding a password against a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password belongs to the hash.
    Match,
    /// It does not.
    Mismatch,
    /// The hash is in no format, or at no cost, that is verified here.
    Unsupported,
}

/// Hashes and verifies at the cost of the OWASP cheat sheet: argon2id, 19 MiB, two passes, one lane.
pub struct Hasher {
    argon2: Argon2<'static>,
    decoy: phc::PasswordHash,
}

/// Hashing failed, which only an allocation or the system's randomness can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed")]
pub struct HashFault;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The dearest hash of a row that is still computed: a hostile row must not be able to stop a login pool.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

impl Hasher {
    /// Prepares a hasher.
    ///
    /// # Errors
    ///
    /// [`HashFault`], where the system has no randomness.
    pub fn new() -> Result<Self, HashFault> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| HashFault)?;
        // Nobody knows a password for the decoy: its output is drawn, not computed.
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let (left, right) = output.split_at_mut(16);
        left.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        right.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let decoy = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: phc::ParamsString::try_from(&params).map_err(|_| HashFault)?,
            salt: Some(phc::Salt::new(uuid::Uuid::new_v4().as_bytes()).map_err(|_| HashFault)?),
            hash: Some(phc::Output::new(&output).map_err(|_| HashFault)?),
        };
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            decoy,
        })
    }

    /// Hashes a password for a row; takes some tens of milliseconds of one core and 19 MiB.
    ///
    /// # Errors
    ///
    /// [`HashFault`].
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, HashFault> {
        let hash = self.argon2.hash_password(password.expose().as_bytes());
        hash.map(|hash| PasswordHash(hash.to_string()))
            .map_err(|_| HashFault)
    }

    /// Holds a password against a stored hash, or against a decoy where there is none to verify; both cost the same.
    #[must_use]
    pub fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Verdict {
        let parsed = stored.map(|stored| parse(stored).ok_or(Verdict::Unsupported));
        let (hash, otherwise) = match &parsed {
            Some(Ok(hash)) => (hash, Verdict::Mismatch),
            Some(Err(unsupported)) => (&self.decoy, *unsupported),
            None => (&self.decoy, Verdict::Mismatch),
        };
        let verified = self
            .argon2
            .verify_password(password.expose().as_bytes(), hash);
        match (verified, &parsed) {
            (Ok(()), Some(Ok(_))) => Verdict::Match,
            (Ok(()) | Err(_), _) => otherwise,
        }
    }
}

fn parse(stored: &PasswordHash) -> Option<phc::PasswordHash> {
    let hash = phc::PasswordHash::new(&stored.0).ok()?;
    if hash.algorithm != Algorithm::Argon2id.ident() {
        return None;
    }
    let params = Params::try_from(&hash).ok()?;
    let affordable = params.m_cost() <= MAX_MEMORY_KIB
        && params.t_cost() <= MAX_PASSES
        && params.p_cost() <= MAX_LANES;
    let whole = hash.salt.is_some() && hash.hash.is_some();
    (affordable && whole).then_some(hash)
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(argon2id)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    #[test]
    fn only_the_right_password_matches() {
        let hasher = Hasher::new().unwrap();
        let stored = hasher.hash(&password("correct horse")).unwrap();
        assert!(
            stored
                .expose()
                .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
        );
        assert_eq!(
            hasher.verify(&password("correct horse"), Some(&stored)),
            Verdict::Match
        );
        assert_eq!(
            hasher.verify(&password("correct horsf"), Some(&stored)),
            Verdict::Mismatch
        );
        assert_eq!(
            hasher.verify(&password("correct horse"), None),
            Verdict::Mismatch
        );
    }

    /// Made with Python's argon2-cffi 25.1: `PasswordHasher(2, 19456, 1).hash("correct horse")`.
    #[test]
    fn a_foreign_argon2id_hash_is_verified() {
        let hasher = Hasher::new().unwrap();
        let stored = PasswordHash::new(FOREIGN.into());
        assert_eq!(
            hasher.verify(&password("correct horse"), Some(&stored)),
            Verdict::Match
        );
    }

    const FOREIGN: &str = "$argon2id$v=19$m=19456,t=2,p=1$5PmnnyYr2ZN+EbYHmXrKlg$0Is/3bk2AneXIp90dsLL8MRtKiKHcGrMWFZi7Wi/tfU";

    #[test]
    fn hashes_that_are_not_verified_here_never_match() {
        let hasher = Hasher::new().unwrap();
        for stored in [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "$argon2id$v=19$m=19456,t=4000000,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
        ] {
            assert_eq!(
                hasher.verify(&password("secret"), Some(&PasswordHash::new(stored.into()))),
                Verdict::Unsupported,
                "{stored}"
            );
        }
    }

    #[test]
    fn impossible_passwords_do_not_exist() {
        for text in ["", "a\0", "a\nb", "\u{7f}", &"a".repeat(1025)] {
            assert!(Password::parse(text).is_none());
        }
        assert!(Password::parse(&"ä".repeat(512)).is_some());
    }
}
