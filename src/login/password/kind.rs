//! The time that verifying a stored hash takes.

use super::Scheme;
use crate::domain::password::Password;

/// Hashes of one kind take the same time for passwords of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind {
    /// The scheme.
    pub(crate) scheme: Scheme,
    /// The parameters that affect the time.
    pub(crate) cost: [u32; 3],
}

/// A range of password lengths. Schemes that hash the password in every round take longer for a longer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LengthClass(usize);

impl LengthClass {
    /// The most bytes of a password in each class.
    pub(crate) const BYTES: [usize; 5] = [64, 128, 256, 512, Password::MOST_BYTES];

    /// The class of nearly every password.
    pub(crate) const SHORT: Self = Self(0);

    /// The last one.
    pub(crate) const LONGEST: Self = Self(Self::BYTES.len() - 1);

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::BYTES.len()).map(Self)
    }

    /// The index of the class.
    #[must_use]
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// The most bytes of a password in this class.
    #[must_use]
    pub(crate) fn bytes(self) -> usize {
        Self::BYTES
            .get(self.0)
            .copied()
            .unwrap_or(Password::MOST_BYTES)
    }

    /// The class of a password's length.
    #[must_use]
    pub(crate) fn of(password: &Password) -> Self {
        let bytes = password.expose().len();
        let class = Self::all().find(|class| bytes <= class.bytes());
        class.unwrap_or(Self::LONGEST)
    }

    /// A made-up password of the greatest length of this class.
    #[must_use]
    pub(crate) fn example(self) -> Option<Password> {
        Password::parse(&"x".repeat(self.bytes()))
    }
}

impl Kind {
    /// Whether a longer password takes longer.
    #[must_use]
    pub(crate) fn grows(self) -> bool {
        match self.scheme {
            Scheme::Sha512Crypt
            | Scheme::Sha256Crypt
            | Scheme::Md5Crypt
            | Scheme::Phpass
            | Scheme::Drupal => true,
            // The password is hashed only once.
            Scheme::Argon2id
            | Scheme::Argon2i
            | Scheme::Argon2d
            | Scheme::Bcrypt
            | Scheme::BcryptSha256
            | Scheme::BcryptSha384
            | Scheme::Scrypt
            | Scheme::Yescrypt
            | Scheme::Pbkdf2
            | Scheme::LdapSha
            | Scheme::SaltedSha
            | Scheme::Plaintext
            | Scheme::Unknown => false,
        }
    }

    /// The approximate microseconds for a short password, to find the most expensive kinds.
    #[must_use]
    pub(crate) fn estimate(self) -> u64 {
        let [first, second, third] = self.cost.map(u64::from);
        let power = |of: u64| {
            1_u64
                .checked_shl(u32::try_from(of).unwrap_or(64))
                .unwrap_or(u64::MAX)
        };
        match self.scheme {
            Scheme::Argon2id | Scheme::Argon2i | Scheme::Argon2d => first * second / 2,
            Scheme::Bcrypt | Scheme::BcryptSha256 | Scheme::BcryptSha384 => {
                power(first).saturating_mul(60)
            }
            Scheme::Scrypt => power(first).saturating_mul(second * third) / 3,
            Scheme::Yescrypt => power(first).saturating_mul(second * third) / 6,
            Scheme::Pbkdf2 => first / 3,
            Scheme::Sha512Crypt | Scheme::Sha256Crypt => first / 2,
            Scheme::Phpass => power(first) / 8,
            Scheme::Drupal => power(first) / 2,
            Scheme::Md5Crypt
            | Scheme::LdapSha
            | Scheme::SaltedSha
            | Scheme::Plaintext
            | Scheme::Unknown => 0,
        }
    }
}
