//! All keys: one signs, all verify. The state of a key follows from the times at which keys start to sign, so a
//! rotation just adds a key.

use std::time::Duration;

use aws_lc_rs::hmac;
use jsonwebtoken::jwk::Jwk;
use serde_json::json;

use super::{
    key::{Key, KeyFault, KeyId},
    secret::Secret,
    time::UnixTime,
};

/// Doorward's own keys.
#[derive(Debug)]
pub struct Keyring {
    /// Sorted by the time at which they start to sign.
    keys: Vec<Key>,
    /// The lifetime of a token, including clock skew.
    lasts: Duration,
}

/// The state of a key at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published and verifying; signs later.
    Staged,
    /// The key that signs.
    Signing,
    /// No longer signs; verifies until the last token that it signed has expired. `None`: a key that never signs, and
    /// verifies without end.
    Verifying(Option<UnixTime>),
    /// No longer used; can be removed.
    Expired,
}

/// Why a set of keys is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFault {
    /// One key is invalid.
    #[error("{0}: {1}")]
    Key(String, KeyFault),
    /// Two keys have the same name.
    #[error("two keys are called {0:?}")]
    TwoOfAName(String),
    /// Two keys start to sign at the same time.
    #[error(
        "{0:?} and {1:?} begin to sign at the same time; set another time in one of them (not-before, or nbf)"
    )]
    Tie(String, String),
    /// No key can sign now.
    #[error(
        "no key signs yet: all begin later, or have no private part; make one with: doorward keys generate"
    )]
    NoSigner,
}

impl Keyring {
    /// Takes keys in any order, and the lifetime of tokens including clock skew.
    ///
    /// # Errors
    ///
    /// Why the keys are invalid together.
    pub fn new(mut keys: Vec<Key>, lasts: Duration) -> Result<Self, KeyringFault> {
        keys.sort_by(|left, right| {
            (left.not_before(), left.id()).cmp(&(right.not_before(), right.id()))
        });
        for (index, key) in keys.iter().enumerate() {
            for other in keys.iter().skip(index + 1) {
                if key.id() == other.id() {
                    return Err(KeyringFault::TwoOfAName(key.id().as_str().into()));
                }
                if key.can_sign() && other.can_sign() && key.not_before() == other.not_before() {
                    let name = |key: &Key| key.id().as_str().to_owned();
                    return Err(KeyringFault::Tie(name(key), name(other)));
                }
            }
        }
        Ok(Self { keys, lasts })
    }

    /// A keyring of one HS256 secret.
    #[must_use]
    pub fn of_secret(secret: &Secret, lasts: Duration) -> Self {
        Self {
            keys: vec![Key::from_secret(secret, UnixTime(0))],
            lasts,
        }
    }

    /// The same keys without their private halves: all that verifying needs. A secret of HS256 verifies as it signs, and
    /// stays.
    #[must_use]
    pub fn public_halves(&self) -> Self {
        Self {
            keys: self.keys.iter().map(Key::public_half).collect(),
            lasts: self.lasts,
        }
    }

    /// The key that signs now: of those that have started to sign, the latest.
    #[must_use]
    pub fn signer(&self, now: UnixTime) -> Option<&Key> {
        let may = |key: &&Key| key.can_sign() && key.not_before() <= now;
        self.keys.iter().rev().find(may)
    }

    /// The state of a key.
    #[must_use]
    pub fn state(&self, key: &Key, now: UnixTime) -> KeyState {
        if !key.can_sign() {
            return KeyState::Verifying(None);
        }
        if key.not_before() > now {
            return KeyState::Staged;
        }
        let later = |other: &&Key| other.can_sign() && other.not_before() > key.not_before();
        let Some(successor) = self.keys.iter().find(later) else {
            return KeyState::Signing;
        };
        if successor.not_before() > now {
            return KeyState::Signing;
        }
        let end = successor
            .not_before()
            .0
            .saturating_add(self.lasts.as_secs());
        match end > now.0 {
            true => KeyState::Verifying(Some(UnixTime(end))),
            false => KeyState::Expired,
        }
    }

    /// The keys, sorted by the time at which they start to sign.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key with this name, unless it has expired.
    #[must_use]
    pub fn find(&self, id: &str, now: UnixTime) -> Option<&Key> {
        let key = self.keys.iter().find(|key| key.id().as_str() == id)?;
        (self.state(key, now) != KeyState::Expired).then_some(key)
    }

    /// The key whose tokens have this header, unless it has expired.
    #[must_use]
    pub(super) fn by_header(&self, header: &str, now: UnixTime) -> Option<&Key> {
        // The signing key is the last one or close to it, and most tokens are signed with it.
        let key = self.keys.iter().rev().find(|key| key.header() == header)?;
        (self.state(key, now) != KeyState::Expired).then_some(key)
    }

    /// The public halves of all keys that have not expired (RFC 7517, 5).
    #[must_use]
    pub fn jwks(&self, now: UnixTime) -> String {
        let keys: Vec<&Jwk> = self
            .keys
            .iter()
            .filter(|key| self.state(key, now) != KeyState::Expired)
            .filter_map(Key::public)
            .collect();
        json!({"keys": keys}).to_string()
    }

    /// The key for hashes of names in tables, the same at every replica: derived from the oldest key.
    #[must_use]
    pub fn seal(&self) -> Option<&hmac::Key> {
        self.keys.iter().find_map(Key::seal)
    }

    /// The key names, for the log.
    pub fn names(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().map(Key::id)
    }
}

#[cfg(test)]
mod tests;
