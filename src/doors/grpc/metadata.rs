//! Dynamic metadata of a decision, for Envoy's access log and later filters: a `google.protobuf.Struct`, written directly in
//! its wire form. A tree of maps and values would cost many times as much on every request.

use super::protobuf::{field_length, open};
use crate::{
    actions::authorizer::Decided,
    domain::{account::Identity, policy::Rule},
};

/// The caller, the decision, its rule and its reason, and what the next rules would do instead: ids, roles and stable
/// codes, never a name or a token.
pub(super) fn of(decided: &Decided<'_>) -> Vec<u8> {
    let Decided {
        decision,
        rule,
        otherwise,
    } = decided;
    let mut fields = Vec::with_capacity(USUAL);
    text_field(&mut fields, "decision", decision.verdict().name());
    text_field(&mut fields, "reason", decision.reason().name());
    if let Some(rule) = rule.map(Rule::name) {
        text_field(&mut fields, "rule", rule);
    }
    if let Some(otherwise) = otherwise {
        text_field(&mut fields, "next", otherwise.direction.name());
        if let Some(rule) = &otherwise.rule {
            text_field(&mut fields, "next_rule", rule);
        }
        if let Some(reason) = otherwise.reason {
            text_field(&mut fields, "next_reason", reason.name());
        }
    }
    match decision.principal() {
        Some(principal) => fields.extend_from_slice(principal.encoded(caller)),
        None => match decision.identity() {
            Some(identity) => fields.append(&mut caller(identity)),
            None => {
                if let Some(subject) = decision.subject() {
                    text_field(&mut fields, "sub", subject);
                }
            }
        },
    }
    fields
}

/// The fields that follow from an identity.
fn caller(identity: &Identity) -> Vec<u8> {
    let mut fields = Vec::new();
    text_field(&mut fields, "sub", &identity.subject);
    let names = || identity.roles.iter().map(|role| role.as_str());
    let list = names()
        .map(|name| field_length(field_length(name.len())))
        .sum();
    field(&mut fields, "roles", field_length(list));
    open(&mut fields, VALUE_LIST, list);
    for name in names() {
        open(&mut fields, FIRST, field_length(name.len()));
        text(&mut fields, VALUE_TEXT, name);
    }
    fields
}

/// The size of most decisions, in bytes.
const USUAL: usize = 192;

/// The first field of a message: the fields of a `Struct`, the key of an entry, the values of a `ListValue`.
const FIRST: u8 = 1;
/// The value of an entry.
const ENTRY_VALUE: u8 = 2;
/// A `Value` that is a string.
const VALUE_TEXT: u8 = 3;
/// A `Value` that is a list.
const VALUE_LIST: u8 = 6;

/// Writes a field of text, even if it is empty: an empty value differs from a missing one.
fn text(out: &mut Vec<u8>, number: u8, text: &str) {
    open(out, number, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Writes the start of an entry whose `Value` has this length.
fn field(out: &mut Vec<u8>, key: &str, length: usize) {
    open(out, FIRST, field_length(key.len()) + field_length(length));
    text(out, FIRST, key);
    open(out, ENTRY_VALUE, length);
}

fn text_field(out: &mut Vec<u8>, key: &str, value: &str) {
    field(out, key, field_length(value.len()));
    text(out, VALUE_TEXT, value);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use prost::Message as _;
    use prost_types::{ListValue, Struct, Value, value::Kind};

    use super::*;
    use crate::domain::{
        account::{Roles, Username},
        decision::{Admission, Caller, Decision, Denial, Forwarding, Refusal, Unavailable},
        principal::Principal,
    };

    fn text_value(text: &str) -> Value {
        Value {
            kind: Some(Kind::StringValue(text.into())),
        }
    }

    fn read(decision: Decision) -> Struct {
        let decided = Decided {
            decision,
            rule: None,
            otherwise: None,
        };
        Struct::decode(&*of(&decided)).unwrap()
    }

    proptest! {
        /// prost-types decodes the metadata, and would encode it to the same length.
        #[test]
        fn prost_types_reads_the_metadata(subject in ".{0,300}", roles in prop::collection::vec("[a-z]{1,64}", 0..32)) {
            let identity = Identity {
                subject: subject.clone(),
                username: Username::parse("typed-name").unwrap(),
                roles: Roles::parse(roles.iter().map(String::as_str)).unwrap(),
            };
            let names: Vec<_> = identity.roles.iter().map(|role| text_value(role.as_str())).collect();
            let decided = Decided {
                decision: Decision::Allow(Admission {
                    caller: Caller::Known(Arc::new(Principal::new(identity))),
                    authorization: Forwarding::Keep,
                    cookies: crate::domain::cookie::CookieEdit::Keep,
                    renewal: None,
                    set_cookie: None,
                    assertion: None,
                }),
                rule: None,
                otherwise: None,
            };
            let bytes = of(&decided);
            let read = Struct::decode(&*bytes).unwrap();
            prop_assert_eq!(read.encoded_len(), bytes.len());
            let expected = Struct {
                fields: [
                    ("decision", text_value("allow")),
                    ("reason", text_value("token")),
                    ("roles", Value { kind: Some(Kind::ListValue(ListValue { values: names })) }),
                    ("sub", text_value(&subject)),
                ]
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
            };
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn unknown_values_are_omitted() {
        let keys = |decision| read(decision).fields.into_keys().collect::<Vec<_>>();
        let nobody = Denial::InvalidCredentials(Refusal::UnknownUser);
        assert_eq!(keys(Decision::Deny(nobody)), ["decision", "reason"]);
        let somebody = Denial::InvalidCredentials(Refusal::WrongPassword("7".into()));
        assert_eq!(
            keys(Decision::Deny(somebody)),
            ["decision", "reason", "sub"]
        );
        let unavailable = Denial::Unavailable(Unavailable::Busy);
        let read = read(Decision::Deny(unavailable));
        assert_eq!(read.fields["reason"], text_value("hashing-busy"));
    }
}
