//! The names of supported schemes.

use std::fmt;

/// The scheme of a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scheme {
    /// Argon2id, the scheme of Doorward's own hashes.
    Argon2id,
    /// Argon2i.
    Argon2i,
    /// Argon2d.
    Argon2d,
    /// bcrypt of the password.
    Bcrypt,
    /// bcrypt of a SHA-256 digest of the password, as in Django and passlib.
    BcryptSha256,
    /// bcrypt of an HMAC of the password with SHA-384, as in WordPress.
    BcryptSha384,
    /// scrypt.
    Scrypt,
    /// yescrypt, `$y$` of `crypt(3)`.
    Yescrypt,
    /// PBKDF2 with SHA-1, SHA-256 or SHA-512.
    Pbkdf2,
    /// `$6$` of `crypt(3)`.
    Sha512Crypt,
    /// `$5$` of `crypt(3)`.
    Sha256Crypt,
    /// `$1$` of `crypt(3)`, and `$apr1$` of Apache.
    Md5Crypt,
    /// phpass: WordPress, phpBB.
    Phpass,
    /// SHA-512 in the manner of phpass: Drupal 7 to 9.
    Drupal,
    /// `{SSHA}` and its kin.
    LdapSha,
    /// One round of SHA with a salt: Werkzeug before 2.3, Django's `sha1$`.
    SaltedSha,
    /// The password itself, if that is allowed.
    Plaintext,
    /// Anything else, and malformed hashes.
    Unknown,
}

impl Scheme {
    /// The name for people.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Argon2id => "argon2id",
            Self::Argon2i => "argon2i",
            Self::Argon2d => "argon2d",
            Self::Bcrypt => "bcrypt",
            Self::BcryptSha256 => "bcrypt-sha256",
            Self::BcryptSha384 => "bcrypt-sha384",
            Self::Scrypt => "scrypt",
            Self::Yescrypt => "yescrypt",
            Self::Pbkdf2 => "pbkdf2",
            Self::Sha512Crypt => "sha512-crypt",
            Self::Sha256Crypt => "sha256-crypt",
            Self::Md5Crypt => "md5-crypt",
            Self::Phpass => "phpass",
            Self::Drupal => "drupal",
            Self::LdapSha => "ldap-sha",
            Self::SaltedSha => "salted-sha",
            Self::Plaintext => "plaintext",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
