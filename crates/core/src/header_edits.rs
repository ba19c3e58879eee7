//! The changes that a pass makes in the headers of a request before the service gets it. All doors use them, each in
//! its own format.
//!
//! Must not know: protocols, or what a service does with a header.

use super::{
    decision::{Admission, Caller, Forwarding},
    identity_headers::IdentityHeaders,
};

/// What a gateway can do with a request besides replacing headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gateway {
    /// It can remove headers and has shown all of them, so no alias of an identity header is among them.
    ShowsAll,
    /// It can remove headers and has shown only some of them, so an alias may be hidden.
    #[default]
    ShowsSome,
    /// It can only replace headers reliably, so a missing identity is written as values. Aliases may be hidden.
    Replaces,
}

/// The headers to set and to remove. No name is in both, because Envoy would remove what it has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderEdits<'a> {
    names: [&'static str; 3],
    values: Option<[&'a str; 3]>,
    remove: [&'static [&'static str]; 3],
}

impl<'a> HeaderEdits<'a> {
    /// The edits of a pass.
    #[must_use]
    pub fn of(admission: &'a Admission, headers: IdentityHeaders, gateway: Gateway) -> Self {
        let Admission {
            caller,
            authorization,
        } = admission;
        let values = match (caller, gateway) {
            (Caller::Known(principal), _) => Some(principal.header_values()),
            (Caller::Anonymous, Gateway::Replaces) => Some(NOBODY),
            (Caller::Anonymous, Gateway::ShowsAll | Gateway::ShowsSome) => None,
        };
        Self {
            names: headers.names(),
            values,
            remove: [
                match gateway {
                    Gateway::ShowsAll => &[],
                    Gateway::ShowsSome | Gateway::Replaces => headers.common_aliases(),
                },
                match values {
                    Some(_) => &[],
                    None => headers.names_to_remove(),
                },
                match authorization {
                    Forwarding::Keep => &[],
                    Forwarding::Strip => &["authorization"],
                },
            ],
        }
    }

    /// Names and values. Each replaces all headers of its name.
    pub fn set(&self) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
        let values = self.values.into_iter().flatten();
        self.names.into_iter().zip(values)
    }

    /// The names to remove.
    pub fn remove(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.remove.into_iter().flatten().copied()
    }
}

/// The values of the identity headers without an identity: gateways keep a client's own header if Doorward sends none.
const NOBODY: [&str; 3] = ["-", "-", "false"];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        account::{Identity, Roles, Username},
        principal::Principal,
    };

    #[test]
    fn every_identity_header_is_set_or_removed() {
        let known = Caller::Known(Arc::new(Principal::new(Identity {
            subject: "1".into(),
            username: Username::parse("ada").unwrap(),
            roles: Roles::default(),
        })));
        let headers = IdentityHeaders::default();
        let names = headers.names();
        for caller in [Caller::Anonymous, known] {
            for authorization in [Forwarding::Keep, Forwarding::Strip] {
                for gateway in [Gateway::ShowsAll, Gateway::ShowsSome, Gateway::Replaces] {
                    let admission = Admission {
                        caller: caller.clone(),
                        authorization,
                    };
                    let edits = HeaderEdits::of(&admission, headers, gateway);
                    let set: Vec<_> = edits.set().collect();
                    let removed: Vec<_> = edits.remove().collect();
                    for name in names {
                        let is_set = set.iter().any(|(set, _)| *set == name);
                        assert_ne!(is_set, removed.contains(&name), "{edits:?}");
                    }
                    assert!(set.iter().all(|(_, value)| !value.is_empty()));
                    let hides_aliases = gateway != Gateway::ShowsAll;
                    for alias in headers.common_aliases() {
                        assert_eq!(removed.contains(alias), hides_aliases, "{edits:?}");
                    }
                    assert_eq!(
                        removed.contains(&"authorization"),
                        authorization == Forwarding::Strip
                    );
                }
            }
        }
    }
}
