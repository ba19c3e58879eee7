//! Passwords and their stored hashes.

mod argon2;
mod bcrypt;
mod crypt;
mod kind;
mod ldap;
mod ours;
mod parse;
mod pbkdf2;
mod plaintext;
mod scheme;
mod scrypt;
mod stored;
mod text;

use std::{fmt, hint::black_box};

use ::argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::domain::password::Password;

use self::{
    argon2::Argon2Hash,
    stored::{Memory, Stored},
};

pub use self::{
    kind::{Kind, LengthClass},
    scheme::Scheme,
};

/// A hash as the user table keeps it; never shown.
#[derive(Clone)]
pub struct PasswordHash(Zeroizing<String>);

impl PasswordHash {
    /// Takes the text of a row; what it means is decided when a password is verified against it.
    #[must_use]
    pub fn new(stored: String) -> Self {
        Self(Zeroizing::new(stored))
    }

    /// The text for the row.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether two rows hold the same text.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        *self.0 == *other.0
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

/// Hashes at the cost of the OWASP cheat sheet (argon2id, 19 MiB, two passes, one lane), and verifies that and the
/// hashes that other software left in a user table.
pub struct Hasher {
    argon2: Argon2<'static>,
    decoy: Argon2Hash,
    memory: Memory,
    /// KiB that one hash may take.
    most_memory: u64,
    plaintext_allowed: bool,
}

/// KiB that every hash is taken to need.
const LEAST_MEMORY: u64 = 64;

/// KiB of one hash of ours, without which nobody could log in.
pub const OWN_MEMORY: u64 = ours::MEMORY_KIB as u64;

/// Hashing failed, which only an allocation or the system's randomness can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed")]
pub struct HashFault;

impl Hasher {
    /// Prepares a hasher that takes no stored text for a password as it is.
    ///
    /// # Errors
    ///
    /// [`HashFault`], where the system has no randomness.
    pub fn new() -> Result<Self, HashFault> {
        let params = Params::new(
            ours::MEMORY_KIB,
            ours::PASSES,
            ours::LANES,
            Some(Params::DEFAULT_OUTPUT_LEN),
        )
        .map_err(|_| HashFault)?;
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        // Nobody knows a password for the decoy: its output is drawn, not computed.
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

    /// Says how many KiB hashes may take together; a row that needs more is not verified.
    #[must_use]
    pub fn limit_memory(self, kib: u64) -> Self {
        Self {
            memory: Memory::limited(kib),
            most_memory: kib,
            ..self
        }
    }

    /// Says whether a stored text that is no hash is the password itself, which only a migration should allow.
    #[must_use]
    pub fn allow_plaintext(self, allowed: bool) -> Self {
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

    /// Holds a password against a stored hash, or against a decoy where there is none to verify. The decoy costs as much as
    /// a hash of ours; a hash of others costs what its row says, and the decoy besides where that is next to nothing.
    #[must_use]
    pub fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Verdict {
        let password = password.expose().as_bytes();
        let known = stored.and_then(|stored| self.affordable(stored));
        // A scheme that costs next to nothing would tell by its speed that there is such a user.
        if known.as_ref().is_none_or(|known| !known.is_slow()) {
            black_box(self.decoy.matches(password, &self.memory));
        }
        match known {
            Some(known) if known.matches(password, &self.memory) => Verdict::Match,
            None if stored.is_some() => Verdict::Unsupported,
            Some(_) | None => Verdict::Mismatch,
        }
    }

    /// What a stored text is, if it is verified here.
    fn affordable<'a>(&self, stored: &'a PasswordHash) -> Option<Box<dyn Stored + 'a>> {
        parse::parse(stored.expose(), self.plaintext_allowed)
            .filter(|known| known.is_affordable() && known.memory() <= self.most_memory)
    }

    /// How many KiB holding a password against a stored hash takes, or against the decoy.
    #[must_use]
    pub fn memory(&self, stored: Option<&PasswordHash>) -> u64 {
        let known = stored.and_then(|stored| self.affordable(stored));
        let decoy = self.decoy.memory();
        let memory = known.map_or(decoy, |known| match known.is_slow() {
            true => known.memory(),
            false => known.memory().max(decoy),
        });
        memory.max(LEAST_MEMORY)
    }

    /// Whether a stored hash is of a known scheme and needs more memory than hashes may take.
    #[must_use]
    pub fn is_too_large(&self, stored: &PasswordHash) -> bool {
        parse::parse(stored.expose(), self.plaintext_allowed)
            .is_some_and(|known| known.is_affordable() && known.memory() > self.most_memory)
    }

    /// Whether a login with this hash should replace it: it is of another scheme than argon2id, or costs less than ours.
    #[must_use]
    pub fn is_outdated(&self, stored: &PasswordHash) -> bool {
        parse::parse(stored.expose(), self.plaintext_allowed)
            .is_none_or(|stored| stored.is_outdated())
    }

    /// What holding a password against a stored hash costs; nothing where it takes as long as against the decoy, which is
    /// what a text that is not verified here comes to.
    #[must_use]
    pub fn kind(&self, stored: Option<&PasswordHash>) -> Option<Kind> {
        let known = self.affordable(stored?)?;
        (!known.costs_as_ours()).then(|| Kind {
            scheme: known.scheme(),
            cost: known.cost(),
        })
    }

    /// The scheme of a stored hash.
    #[must_use]
    pub fn scheme(&self, stored: &PasswordHash) -> Scheme {
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
