//! Keys for machines: `dwk_ID_SECRET`, for programs that have no person to log in. Named, limited, and ended one by one.
//!
//! Not the keys that sign tokens; those are in `key`. Must not know: which keys exist.

use std::fmt;

use aws_lc_rs::{digest, hmac, rand};
use zeroize::Zeroizing;

use super::{hex, session::NoRandomness};

/// How every key begins, so that scanners for leaked secrets find it.
pub const PREFIX: &str = "dwk_";

const ID: usize = 8;
const SECRET: usize = 32;
const CHECKSUM: usize = 4;

/// The length of a key in bytes: prefix, id, `_`, secret and checksum.
pub(crate) const LENGTH: usize = PREFIX.len() + 2 * ID + 1 + 2 * SECRET + 2 * CHECKSUM;

/// The longest name of a key, in bytes.
pub const MAX_NAME: usize = 64;

/// The public half of a key. It names the key in tables, logs and commands, and gives no access.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineKeyId(pub(crate) u64);

impl MachineKeyId {
    /// Parses 16 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = hex::decode(text)?;
        Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
    }

    /// The id in a key, whether or not the rest of the key is correct.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        let rest = key.strip_prefix(PREFIX)?;
        Self::parse(rest.get(..2 * ID)?)
    }
}

impl fmt::Display for MachineKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for MachineKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of a whole key, which is stored instead of the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Parses 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(hex::decode(text)?.try_into().ok()?))
    }

    /// Whether this is the hash of the key; takes the same time for every wrong key.
    pub(crate) fn is_of(&self, key: &str, hash_key: &hmac::Key) -> bool {
        hmac::verify(hash_key, key.as_bytes(), &self.0).is_ok()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// A guess needs 2^256 attempts, so the key of the hash need not be secret: it keeps the hashes of other systems from
/// being taken for ours. The text that is hashed contains the id, so a hash belongs to one row.
pub(crate) fn hash_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"doorward machine key, version 1")
}

/// A new key, which is shown once; `Debug` does not show it.
pub struct MachineKey(pub(crate) Zeroizing<String>);

impl MachineKey {
    /// Draws a key.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut id = [0; ID];
        rand::fill(&mut id).map_err(|_| NoRandomness)?;
        Self::with_id(MachineKeyId(u64::from_be_bytes(id)))
    }

    /// Draws the secret of a key with this id.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn with_id(id: MachineKeyId) -> Result<Self, NoRandomness> {
        let mut secret = Zeroizing::new([0; SECRET]);
        rand::fill(&mut *secret).map_err(|_| NoRandomness)?;
        let secret = Zeroizing::new(hex::encode(&*secret));
        let mut key = Zeroizing::new(String::with_capacity(LENGTH));
        for part in [PREFIX, &id.to_string(), "_", &secret] {
            key.push_str(part);
        }
        let checksum = checksum(&key);
        key.push_str(&checksum);
        Ok(Self(key))
    }

    /// The key as its owner gets it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its id. Every key that was generated has one.
    #[must_use]
    pub fn id(&self) -> MachineKeyId {
        MachineKeyId::of(&self.0).unwrap_or(MachineKeyId(0))
    }

    /// Its hash, which is stored.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        let tag = hmac::sign(&hash_key(), self.0.as_bytes());
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        KeyHash(hash)
    }
}

impl fmt::Debug for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineKey(..)")
    }
}

/// The first digits of SHA-256. It tells a mistyped or cut key from one that does not exist, without a table.
fn checksum(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    hex::encode(digest.as_ref().get(..CHECKSUM).unwrap_or_default())
}

/// Whether a text has the form of a key, with a correct checksum.
#[must_use]
pub fn is_well_formed(key: &str) -> bool {
    let Some((body, sum)) = key.split_at_checked(LENGTH - 2 * CHECKSUM) else {
        return false;
    };
    let secret = body.get(PREFIX.len() + 2 * ID..).unwrap_or_default();
    key.len() == LENGTH
        && MachineKeyId::of(key).is_some()
        && secret.strip_prefix('_').and_then(hex::decode).is_some()
        && checksum(body) == sum
}

/// The name of a key, for people: 1 to 64 bytes of letters, digits, `.`, `_`, `:`, `@`, `/` and `-`, beginning with a letter
/// or digit. It is sent to services in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// Parses a name; `None` if it is not possible.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let possible = name.len() <= MAX_NAME
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._:@/-".contains(&b));
        possible.then(|| Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
