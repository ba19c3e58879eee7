//! A key that a request shows, in whichever header it is.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::MachineKeys;
use crate::{
    credential::{Credential, Login},
    machine_key::PREFIX,
};

/// Where keys are.
#[derive(Clone, Debug, Default)]
pub enum KeySource {
    /// Keys are off: a key is judged as a token, and is a malformed one.
    #[default]
    Off,
    /// In this memory.
    Here(Arc<MachineKeys>),
    /// In Doorward, which decides requests with a key. The module inside Envoy has none.
    Elsewhere,
}

impl KeySource {
    /// Whether keys are accepted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        match self {
            Self::Off => false,
            Self::Here(_) | Self::Elsewhere => true,
        }
    }
}

/// A key that a request shows; not verified.
pub(crate) struct ShownKey<'a> {
    text: Text<'a>,
    /// How the client showed it.
    pub(crate) place: KeyPlace,
}

enum Text<'a> {
    Sent(&'a str),
    Decoded(Zeroizing<String>),
}

/// How a client showed a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// As the password of Basic.
    Basic,
    /// As a Bearer token, or in the header of keys.
    Token,
}

impl<'a> ShownKey<'a> {
    /// The key in a credential. Basic credentials are read only where a rule says so.
    pub(crate) fn of(credential: Credential<'a>, takes_basic: bool) -> Option<Self> {
        match credential {
            Credential::Key(key) => Some(Self::sent(key.expose())),
            Credential::Bearer(token) if token.expose().starts_with(PREFIX) => {
                Some(Self::sent(token.expose()))
            }
            Credential::Basic(basic) if takes_basic => {
                // A password that is not a key, such as that of a user, is refused as a malformed key.
                let key = Login::key_in(basic).unwrap_or_default();
                Some(Self {
                    text: Text::Decoded(key),
                    place: KeyPlace::Basic,
                })
            }
            Credential::Absent
            | Credential::Basic(_)
            | Credential::Bearer(_)
            | Credential::Cookie(_)
            | Credential::Foreign
            | Credential::Malformed(_) => None,
        }
    }

    fn sent(text: &'a str) -> Self {
        Self {
            text: Text::Sent(text),
            place: KeyPlace::Token,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match &self.text {
            Text::Sent(text) => text,
            Text::Decoded(text) => text,
        }
    }
}
