//! HS256 secrets: which are refused, and what is derived from them.

mod known;

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// The key of HS256: at least 32 bytes that cannot be guessed (RFC 7518, 3.2); never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a secret is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// Shorter than the output of the hash.
    #[error("has {0} bytes; HS256 needs at least 32 (RFC 7518, 3.2)")]
    Short(usize),
    /// Repetitive, or a phrase from a tutorial.
    #[error("is easy to guess")]
    Guessable,
    /// In a public list, or a pattern.
    #[error("is known to everybody: it is in a public list of secrets, or follows a pattern")]
    Known,
}

impl Secret {
    /// The minimum length in bytes.
    pub const MIN: usize = 32;

    /// Parses a secret without the line end that files have.
    ///
    /// # Errors
    ///
    /// Why it is weak.
    pub fn parse(secret: &[u8]) -> Result<Self, SecretFault> {
        let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        Self::parse_exactly(secret)
    }

    /// Parses the bytes of a secret unchanged.
    ///
    /// # Errors
    ///
    /// Why it is weak.
    pub fn parse_exactly(secret: &[u8]) -> Result<Self, SecretFault> {
        let parsed = Self::parse_example(secret)?;
        match known::is_known(secret) {
            true => Err(SecretFault::Known),
            false => Ok(parsed),
        }
    }

    /// Parses a secret of an example: published secrets are accepted, but nothing may be signed with them.
    ///
    /// # Errors
    ///
    /// Why it is weak, even for an example.
    pub(super) fn parse_example(secret: &[u8]) -> Result<Self, SecretFault> {
        if secret.len() < Self::MIN {
            return Err(SecretFault::Short(secret.len()));
        }
        if is_guessable(secret) {
            return Err(SecretFault::Guessable);
        }
        Ok(Self(Zeroizing::new(secret.to_owned())))
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Generates a secret with more than 256 random bits, as 128 hexadecimal digits.
    #[must_use]
    pub fn generate() -> Zeroizing<String> {
        // A version 4 UUID has 122 random bits (RFC 9562, 5.4).
        let key = [(); 4].map(|()| uuid::Uuid::new_v4());
        Zeroizing::new(key.iter().map(|part| part.simple().to_string()).collect())
    }
}

impl Secret {
    /// A key for another purpose that does not reveal this one.
    pub(super) fn derived(&self, purpose: &str) -> hmac::Key {
        let own = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        hmac::Key::new(
            hmac::HMAC_SHA256,
            hmac::sign(&own, purpose.as_bytes()).as_ref(),
        )
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Phrases that published examples use as secrets.
const WELL_KNOWN: &[&str] = &[
    "secret",
    "changeme",
    "change-me",
    "change_me",
    "password",
    "example",
    "your-256-bit",
    "a-string-secret-at-least-256-bits-long",
    "0123456789abcdef",
    "qwerty",
];

fn is_guessable(secret: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in secret {
        if let Some(slot) = seen.get_mut(usize::from(*byte)) {
            *slot = true;
        }
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let repeats = (1..=secret.len() / 2).any(|period| {
        secret
            .iter()
            .zip(secret.iter().skip(period))
            .all(|(left, right)| left == right)
    });
    let text = String::from_utf8_lossy(secret).to_ascii_lowercase();
    distinct < 10 || repeats || WELL_KNOWN.iter().any(|phrase| text.contains(phrase))
}
