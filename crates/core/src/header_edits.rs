//! The changes that a pass makes in the headers of a request before the service gets it. All doors use them, each in
//! its own format.
//!
//! Must not know: protocols, or what a service does with a header.

use super::{
    cookie::CookieEdit,
    decision::{Admission, Assertion, Caller, Forwarding},
    identity_headers::{IdentityHeaders, KEY_NAME},
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
#[derive(Clone, Copy, Debug)]
pub struct HeaderEdits<'a> {
    headers: IdentityHeaders,
    values: Option<[&'a str; 3]>,
    key: Option<&'a str>,
    cookie: Option<&'a str>,
    assertion: Option<&'a str>,
    remove: [&'static [&'static str]; 7],
}

impl<'a> HeaderEdits<'a> {
    /// The edits of a pass.
    #[must_use]
    pub fn of(admission: &'a Admission, headers: IdentityHeaders, gateway: Gateway) -> Self {
        let Admission {
            caller,
            authorization,
            cookies,
            renewal: _,
            set_cookie: _,
            assertion,
        } = admission;
        let values = match (caller, gateway) {
            (Caller::Known(principal), _) => Some(principal.header_values()),
            (Caller::Anonymous, Gateway::Replaces) => Some(NOBODY),
            (Caller::Anonymous, Gateway::ShowsAll | Gateway::ShowsSome) => None,
        };
        let shown = match caller {
            Caller::Known(principal) => principal.key_name(),
            Caller::Anonymous => None,
        };
        let key_name = match (shown, gateway) {
            (Some(_), _) => shown,
            (None, Gateway::Replaces) => Some(NO_KEY),
            (None, Gateway::ShowsAll | Gateway::ShowsSome) => None,
        };
        let key = headers.key_name().and(key_name);
        let asserted = match (assertion, gateway) {
            (Some(Assertion(text)), _) => Some(&**text),
            (None, Gateway::Replaces) => Some(NO_ASSERTION),
            (None, Gateway::ShowsAll | Gateway::ShowsSome) => None,
        };
        let assertion = headers.assertion().and(asserted);
        Self {
            headers,
            values,
            key,
            cookie: match cookies {
                CookieEdit::Replace(rest) => Some(rest),
                CookieEdit::Keep | CookieEdit::Remove => None,
            },
            assertion,
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
                match (headers.key_name(), key) {
                    (None, _) | (_, Some(_)) => &[],
                    (Some(_), None) => &[KEY_NAME],
                },
                headers.key_headers_to_remove(),
                match assertion {
                    Some(_) => &[],
                    None => headers.assertion_to_remove(),
                },
                match cookies {
                    CookieEdit::Keep | CookieEdit::Replace(_) => &[],
                    CookieEdit::Remove => &["cookie"],
                },
            ],
        }
    }

    /// Names and values. Each replaces all headers of its name.
    pub fn set(&self) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
        let values = self.values.into_iter().flatten();
        let cookie = self.cookie.map(|rest| ("cookie", rest));
        let key = self.headers.key_name().zip(self.key);
        let assertion = self.headers.assertion().zip(self.assertion);
        (self.headers.names().into_iter().zip(values))
            .chain(key)
            .chain(assertion)
            .chain(cookie)
    }

    /// The names to remove.
    pub fn remove(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.remove.into_iter().flatten().copied()
    }
}

/// The values of the identity headers without an identity: gateways keep a client's own header if Doorward sends none.
const NOBODY: [&str; 3] = ["-", "-", "false"];

/// The value of the header that names the key, for a request without a key.
const NO_KEY: &str = "-";

/// The value of the header of the assertion, for a request of nobody.
const NO_ASSERTION: &str = "-";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        account::{Identity, Roles, Username},
        identity_headers::{AssertionHeader, KeyHeader},
        machine_key::{KeyName, MachineKeyId},
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
                        cookies: CookieEdit::Keep,
                        renewal: None,
                        set_cookie: None,
                        assertion: None,
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

    #[test]
    fn the_name_of_a_key_is_set_and_the_header_with_the_key_is_removed() {
        let identity = || Identity {
            subject: "1".into(),
            username: Username::parse("ada").unwrap(),
            roles: Roles::default(),
        };
        let id = MachineKeyId::parse("0123456789abcdef").unwrap();
        let name = KeyName::parse("deploy").unwrap();
        let by_key = Caller::Known(Arc::new(Principal::of_key(identity(), id, &name)));
        let by_token = Caller::Known(Arc::new(Principal::new(identity())));
        let off = IdentityHeaders::default();
        let on = off.with_keys(Some(KeyHeader::parse("x-api-key").unwrap()));
        for gateway in [Gateway::ShowsAll, Gateway::ShowsSome, Gateway::Replaces] {
            for (caller, said) in [
                (&by_key, Some("deploy")),
                (&by_token, None),
                (&Caller::Anonymous, None),
            ] {
                let admission = Admission {
                    caller: caller.clone(),
                    authorization: Forwarding::Strip,
                    cookies: CookieEdit::Keep,
                    renewal: None,
                    set_cookie: None,
                    assertion: None,
                };
                let edits = HeaderEdits::of(&admission, on, gateway);
                let set = edits.set().find(|(name, _)| *name == KEY_NAME);
                let said = said.or((gateway == Gateway::Replaces).then_some("-"));
                assert_eq!(set.map(|(_, value)| value), said, "{gateway:?} {caller:?}");
                let removed: Vec<_> = edits.remove().collect();
                assert_eq!(removed.contains(&KEY_NAME), said.is_none());
                assert!(removed.contains(&"x-api-key"));
                let edits = HeaderEdits::of(&admission, off, gateway);
                assert!(edits.set().all(|(name, _)| name != KEY_NAME));
                assert!(
                    edits
                        .remove()
                        .all(|name| name != KEY_NAME && name != "x-api-key")
                );
            }
        }
    }

    #[test]
    fn the_assertion_replaces_what_the_client_sent() {
        let name = AssertionHeader::parse("X-Auth-Assertion").unwrap();
        let off = IdentityHeaders::default();
        let on = off.with_assertion(&name);
        for gateway in [Gateway::ShowsAll, Gateway::ShowsSome, Gateway::Replaces] {
            for assertion in [None, Some("a.b.c")] {
                let admission = Admission {
                    caller: Caller::Anonymous,
                    authorization: Forwarding::Keep,
                    cookies: CookieEdit::Keep,
                    renewal: None,
                    set_cookie: None,
                    assertion: assertion.map(|text| Assertion(text.into())),
                };
                let edits = HeaderEdits::of(&admission, on, gateway);
                let own = |(name, _): &(&str, &str)| *name == "x-auth-assertion";
                let set = edits.set().find(own).map(|(_, value)| value);
                let nobody = (gateway == Gateway::Replaces).then_some("-");
                assert_eq!(set, assertion.or(nobody), "{gateway:?}");
                let removed = edits.remove().any(|name| name == "x-auth-assertion");
                assert_ne!(removed, set.is_some(), "{gateway:?}");
                let aliases = edits.remove().any(|name| name == "x_auth_assertion");
                assert_eq!(aliases, gateway != Gateway::ShowsAll, "{gateway:?}");
                let edits = HeaderEdits::of(&admission, off, gateway);
                assert!(!edits.set().any(|pair| own(&pair)));
                assert!(!edits.remove().any(|name| name.contains("assertion")));
            }
        }
    }

    #[test]
    fn a_cookie_is_replaced_or_removed_but_not_both() {
        for (cookies, set, is_removed) in [
            (CookieEdit::Keep, None, false),
            (CookieEdit::Remove, None, true),
            (CookieEdit::Replace("a=1".into()), Some("a=1"), false),
        ] {
            let admission = Admission {
                caller: Caller::Anonymous,
                authorization: Forwarding::Keep,
                cookies,
                renewal: None,
                set_cookie: None,
                assertion: None,
            };
            let edits = HeaderEdits::of(&admission, IdentityHeaders::default(), Gateway::ShowsAll);
            let own = edits.set().find(|(name, _)| *name == "cookie");
            assert_eq!(own.map(|(_, value)| value), set);
            assert_eq!(edits.remove().any(|name| name == "cookie"), is_removed);
        }
    }
}
