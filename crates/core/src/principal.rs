//! The user that a verified token or key identifies, with everything that doors send about the user. It is made once, when a
//! token is first verified, and is cached with the token, so that the cost of a check does not depend on the roles.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;

use super::{
    account::Identity,
    key::KeyId,
    machine_key::{KeyName, MachineKeyId},
    time::UnixTime,
};

/// An identity and the values of its identity headers.
#[derive(Debug)]
pub struct Principal {
    identity: Identity,
    header_values: [Box<str>; 3],
    key: Option<(MachineKeyId, Box<str>)>,
    /// The identity in the wire format of a door.
    encoded: OnceLock<Box<[u8]>>,
    /// The last assertions about the user, one for each audience.
    assertions: ArcSwapOption<Vec<Arc<Asserted>>>,
}

/// A signed assertion about a user. `Debug` does not show it.
pub(crate) struct Asserted {
    /// `aud`.
    pub(crate) audience: Arc<str>,
    /// The key that signed it.
    pub(crate) key: KeyId,
    /// When it was made.
    pub(crate) at: UnixTime,
    /// The assertion.
    pub(crate) text: Arc<str>,
}

impl fmt::Debug for Asserted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asserted(..)")
    }
}

impl Principal {
    /// Renders an identity.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let roles = match identity.roles.to_string() {
            none if none.is_empty() => "-".into(),
            roles => roles.into(),
        };
        let admin = match identity.roles.admin() {
            true => "true",
            false => "false",
        };
        Self {
            header_values: [identity.username.header_value().into(), roles, admin.into()],
            identity,
            key: None,
            encoded: OnceLock::new(),
            assertions: ArcSwapOption::empty(),
        }
    }

    /// Renders the owner of a key, with the roles of the key.
    #[must_use]
    pub fn of_key(identity: Identity, id: MachineKeyId, name: &KeyName) -> Self {
        Self {
            key: Some((id, name.as_str().into())),
            ..Self::new(identity)
        }
    }

    /// The key for machines that identified the user; `None` for a token.
    #[must_use]
    pub fn key(&self) -> Option<MachineKeyId> {
        self.key.as_ref().map(|(id, _)| *id)
    }

    /// The name of the key.
    #[must_use]
    pub fn key_name(&self) -> Option<&str> {
        self.key.as_ref().map(|(_, name)| &**name)
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The values of the identity headers, in the order of their names. None is empty, because gateways keep a client's
    /// own header if Doorward sends an empty one.
    #[must_use]
    pub fn header_values(&self) -> [&str; 3] {
        self.header_values.each_ref().map(|value| &**value)
    }

    /// The identity in the wire format of a door, encoded at the first call. A process has only one such format.
    pub fn encoded(&self, encode: impl FnOnce(&Identity) -> Vec<u8>) -> &[u8] {
        let encoded = || encode(&self.identity).into();
        self.encoded.get_or_init(encoded)
    }

    /// The last assertion about the user for an audience, if there is one.
    pub(crate) fn assertion(&self, audience: &str) -> Option<Arc<Asserted>> {
        let all = self.assertions.load();
        let mut all = all.iter().flat_map(|all| all.iter());
        all.find(|own| *own.audience == *audience).cloned()
    }

    /// Keeps an assertion in place of the last one for its audience, and those for others that are still used.
    pub(crate) fn keep_assertion(&self, made: Asserted, is_used: impl Fn(&Asserted) -> bool) {
        let made = Arc::new(made);
        self.assertions.rcu(|all| {
            let all = all.iter().flat_map(|all| all.iter());
            let others = all.filter(|own| own.audience != made.audience && is_used(own));
            let all: Vec<_> = others.chain([&made]).cloned().collect();
            Some(Arc::new(all))
        });
    }
}

/// The rendered values follow from the identity.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity && self.key == other.key
    }
}

impl Eq for Principal {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Roles, Username};

    fn values(name: &str, roles: &[&str]) -> [String; 3] {
        let principal = Principal::new(Identity {
            subject: "1".into(),
            username: Username::parse(name).unwrap(),
            roles: Roles::parse(roles.iter().copied()).unwrap(),
        });
        principal.header_values().map(str::to_owned)
    }

    #[test]
    fn no_header_is_empty() {
        assert_eq!(values("ada", &[]), ["ada", "-", "false"]);
        assert_eq!(values("-", &[]), ["%2D", "-", "false"]);
        let all = ["ada,b", "ops,admin"];
        assert_eq!(
            values(all[0], &["ops", "admin"]),
            ["ada%2Cb", "admin,ops", "true"]
        );
    }

    #[test]
    fn the_encoded_form_is_computed_once() {
        let principal = Principal::new(Identity {
            subject: "1".into(),
            username: Username::parse("ada").unwrap(),
            roles: Roles::default(),
        });
        let first = principal.encoded(|identity| identity.subject.clone().into_bytes());
        assert_eq!(first, b"1");
        assert_eq!(principal.encoded(|_| unreachable!()), b"1");
    }
}
