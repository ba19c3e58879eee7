//! All keys: one signs, all verify. What a key does follows from the times at which keys begin to sign, so a rotation is
//! nothing but one key more.

use std::time::Duration;

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use super::{
    key::{Key, KeyFault, KeyId},
    token::{Secret, UnixTime},
};

/// The keys of this house.
#[derive(Debug)]
pub struct Keyring {
    /// By the time they begin to sign.
    keys: Vec<Key>,
    /// How long the last token that a key has signed is good.
    lasts: Duration,
}

/// What a key does at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is published and verifies, but signs later.
    Staged,
    /// It signs.
    Signing,
    /// It signs no more, and verifies until then, when the last token that it signed has expired. Without an end, it is
    /// one that only ever verifies.
    Verifying(Option<UnixTime>),
    /// It does nothing any more, and may be removed.
    Expired,
}

/// Why keys do not hold together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFault {
    /// A key is refused.
    #[error("{0}: {1}")]
    Key(String, KeyFault),
    /// Two keys of one name.
    #[error("two keys are called {0:?}")]
    TwoOfAName(String),
    /// Two keys begin to sign at the same time.
    #[error(
        "{0:?} and {1:?} begin to sign at the same time; say since when in one of them (not-before, or nbf)"
    )]
    Tie(String, String),
    /// No key signs.
    #[error(
        "no key signs yet: all begin later, or have no private part; make one with: doorward keys generate"
    )]
    NoSigner,
}

impl Keyring {
    /// Takes keys in any order, and how long a token lasts that is signed with one of them, clocks that differ included.
    ///
    /// # Errors
    ///
    /// Why they do not hold together.
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

    /// One secret alone.
    #[must_use]
    pub fn of_secret(secret: &Secret, lasts: Duration) -> Self {
        Self {
            keys: vec![Key::from_secret(secret, UnixTime(0))],
            lasts,
        }
    }

    /// The key that signs: of those that may by now, the one that began last.
    #[must_use]
    pub fn signer(&self, now: UnixTime) -> Option<&Key> {
        let may = |key: &&Key| key.can_sign() && key.not_before() <= now;
        self.keys.iter().rev().find(may)
    }

    /// What a key does.
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

    /// The keys, by the time they begin to sign.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key of a name, unless it does nothing any more.
    #[must_use]
    pub fn find(&self, id: &str, now: UnixTime) -> Option<&Key> {
        let key = self.keys.iter().find(|key| key.id().as_str() == id)?;
        (self.state(key, now) != KeyState::Expired).then_some(key)
    }

    /// The key whose tokens begin with this header, unless it does nothing any more.
    #[must_use]
    pub(super) fn by_header(&self, header: &str, now: UnixTime) -> Option<&Key> {
        // The one that signs is the last or nearly so, and its tokens are the most.
        let key = self.keys.iter().rev().find(|key| key.header() == header)?;
        (self.state(key, now) != KeyState::Expired).then_some(key)
    }

    /// The public halves of every key that verifies or will (RFC 7517, 5).
    #[must_use]
    pub fn jwks(&self, now: UnixTime) -> String {
        let keys: Vec<&Value> = self
            .keys
            .iter()
            .filter(|key| self.state(key, now) != KeyState::Expired)
            .filter_map(Key::public)
            .collect();
        json!({"keys": keys}).to_string()
    }

    /// A key for keeping names out of tables, the same at every replica; of the key that has been there longest.
    #[must_use]
    pub fn seal(&self) -> Option<&hmac::Key> {
        self.keys.iter().find_map(Key::seal)
    }

    /// The names of keys, for the log.
    pub fn names(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().map(Key::id)
    }
}

#[cfg(test)]
mod tests;
