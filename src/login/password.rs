//! Passwords and their stored hashes.

mod argon2;
mod bcrypt;
mod crypt;
mod drupal;
mod kind;
mod ldap;
mod ours;
mod parse;
mod pbkdf2;
mod plaintext;
mod refused;
mod salted_sha;
mod scheme;
mod scrypt;
mod stored;
mod text;
mod yescrypt;

use std::{fmt, hint::black_box};

use ::argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::domain::password::Password;

use self::{
    argon2::Argon2Hash,
    stored::{Memory, Stored},
};

pub(crate) use self::{
    kind::{Kind, LengthClass},
    scheme::Scheme,
};

/// A hash as stored in the user table; never shown.
#[derive(Clone)]
pub struct PasswordHash(Zeroizing<String>);

impl PasswordHash {
    /// Takes the text of a row; it is parsed when a password is verified against it.
    #[must_use]
    pub fn new(stored: String) -> Self {
        Self(Zeroizing::new(stored))
    }

    /// The text for the row.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether two rows contain the same text.
    #[must_use]
    pub(crate) fn is(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// The result of verifying a password against a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password belongs to the hash.
    Match,
    /// It does not.
    Mismatch,
    /// The format of the hash is unknown, or its cost is above the limits.
    Unsupported,
}

/// Hashes at the cost of the OWASP cheat sheet (argon2id, 19 MiB, two passes, one lane), and verifies that and the
/// hashes that other software left in a user table.
pub struct Hasher {
    argon2: Argon2<'static>,
    decoy: Argon2Hash,
    memory: Memory,
    /// The most KiB of one hash.
    most_memory: u64,
    plaintext_allowed: bool,
}

/// KiB that are assumed for every hash.
const LEAST_MEMORY: u64 = 64;

/// KiB of one hash of Doorward's own; with less, nobody could log in.
pub(crate) const OWN_MEMORY: u64 = ours::MEMORY_KIB as u64;

/// Hashing failed; only a failed allocation or missing randomness of the system can cause this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed")]
pub struct HashFault;

impl Hasher {
    /// Prepares a hasher that accepts no plaintext passwords.
    ///
    /// # Errors
    ///
    /// [`HashFault`], if the system has no randomness.
    pub fn new() -> Result<Self, HashFault> {
        let params = Params::new(
            ours::MEMORY_KIB,
            ours::PASSES,
            ours::LANES,
            Some(Params::DEFAULT_OUTPUT_LEN),
        )
        .map_err(|_| HashFault)?;
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        // No password fits the decoy: its output is random, not computed.
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let (left, right) = output.split_at_mut(16);
        left.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        right.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        Ok(Self {
            argon2: Argon2::new(algorithm, version, params.clone()),
            decoy: Argon2Hash {
                algorithm,
                version,
                params,
                salt: uuid::Uuid::new_v4().as_bytes().to_vec(),
                output: output.to_vec(),
            },
            memory: Memory::default(),
            most_memory: u64::MAX,
            plaintext_allowed: false,
        })
    }

    /// Sets how many KiB hashes may take together; a row that needs more is not verified.
    #[must_use]
    pub(crate) fn limit_memory(self, kib: u64) -> Self {
        Self {
            memory: Memory::limited(kib),
            most_memory: kib,
            ..self
        }
    }

    /// Sets whether a stored text that is not a hash is the password itself; only a migration should allow this.
    #[must_use]
    pub(crate) fn allow_plaintext(self, allowed: bool) -> Self {
        Self {
            plaintext_allowed: allowed,
            ..self
        }
    }

    /// Hashes a password for a row; takes some tens of milliseconds of one core and 19 MiB.
    ///
    /// # Errors
    ///
    /// [`HashFault`].
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, HashFault> {
        let password = password.expose().as_bytes();
        argon2::hash(&self.argon2, password, &self.memory)
            .map(PasswordHash::new)
            .ok_or(HashFault)
    }

    /// Verifies a password against a stored hash, or against a decoy if there is none. The decoy costs as much as a hash of
    /// Doorward's own. Another hash costs what its row says, plus the decoy if that is very cheap.
    #[must_use]
    pub fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Verdict {
        let password = password.expose().as_bytes();
        let known = stored.and_then(|stored| self.affordable(stored));
        // The speed of a very cheap scheme would show that the user exists.
        if known.as_ref().is_none_or(|known| !known.is_slow()) {
            black_box(self.decoy.matches(password, &self.memory));
        }
        match known {
            Some(known) if known.matches(password, &self.memory) => Verdict::Match,
            None if stored.is_some() => Verdict::Unsupported,
            Some(_) | None => Verdict::Mismatch,
        }
    }

    /// Parses a stored text; `None` if it is not supported.
    fn affordable<'a>(&self, stored: &'a PasswordHash) -> Option<Box<dyn Stored + 'a>> {
        parse::parse(stored.expose(), self.plaintext_allowed)
            .filter(|known| known.is_affordable() && known.memory() <= self.most_memory)
    }

    /// How many KiB it takes to verify a password against a stored hash, or against the decoy.
    #[must_use]
    pub(crate) fn memory(&self, stored: Option<&PasswordHash>) -> u64 {
        let known = stored.and_then(|stored| self.affordable(stored));
        let decoy = self.decoy.memory();
        let memory = known.map_or(decoy, |known| match known.is_slow() {
            true => known.memory(),
            false => known.memory().max(decoy),
        });
        memory.max(LEAST_MEMORY)
    }

    /// Frees the memory that is kept for one hash. A hashing thread calls it when it ends because it was idle.
    pub(crate) fn rest(&self) {
        self.memory.release_one();
    }

    /// Whether a stored hash is of a known scheme and needs more memory than hashes may take.
    #[must_use]
    pub(crate) fn is_too_large(&self, stored: &PasswordHash) -> bool {
        parse::parse(stored.expose(), self.plaintext_allowed)
            .is_some_and(|known| known.is_affordable() && known.memory() > self.most_memory)
    }

    /// Whether a login should replace this hash: it has another scheme than argon2id, or costs less than Doorward's own.
    #[must_use]
    pub(crate) fn is_outdated(&self, stored: &PasswordHash) -> bool {
        parse::parse(stored.expose(), self.plaintext_allowed)
            .is_none_or(|stored| stored.is_outdated())
    }

    /// The cost of verifying a password against a stored hash; `None` if it takes as long as the decoy, as it does for a text
    /// that is not supported.
    #[must_use]
    pub(crate) fn kind(&self, stored: Option<&PasswordHash>) -> Option<Kind> {
        let known = self.affordable(stored?)?;
        (!known.costs_as_ours()).then(|| Kind {
            scheme: known.scheme(),
            cost: known.cost(),
        })
    }

    /// Whether a login computes this hash: its scheme is known, and its cost is within the limits.
    #[must_use]
    pub(crate) fn accepts(&self, stored: &PasswordHash) -> bool {
        self.affordable(stored).is_some()
    }

    /// The name of the format of a stored hash; also of known formats that are refused, because they are broken or have no
    /// salt.
    #[must_use]
    pub(crate) fn format(&self, stored: &PasswordHash) -> &'static str {
        let refused = || refused::name(stored.expose());
        let scheme = self.scheme(stored);
        let refused = (scheme == Scheme::Unknown).then(refused).flatten();
        refused.unwrap_or_else(|| scheme.name())
    }

    /// The scheme of a stored hash.
    #[must_use]
    pub(crate) fn scheme(&self, stored: &PasswordHash) -> Scheme {
        parse::scheme(stored, self.plaintext_allowed)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(argon2id)")
    }
}

#[cfg(test)]
mod tests;
