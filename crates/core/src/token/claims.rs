//! The claims of Doorward's tokens, as they are written and read (RFC 7519, 4.1).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};

use crate::jws;

#[derive(Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    pub(super) sub: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) username: Cow<'a, str>,
    pub(super) admin: bool,
    #[serde(borrow)]
    pub(super) roles: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) aud: Audience<'a>,
    pub(super) iat: u64,
    #[serde(
        default,
        deserialize_with = "jws::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) nbf: Option<u64>,
    pub(super) exp: u64,
    #[serde(borrow)]
    pub(super) jti: Cow<'a, str>,
    #[serde(rename = "gen", default, skip_serializing_if = "is_first")]
    pub(super) generation: u64,
    #[serde(
        default,
        deserialize_with = "jws::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) sid: Option<Cow<'a, str>>,
    /// When the user showed a password (OpenID Connect Core, 2); only in the token of a cookie, which is renewed.
    #[serde(
        default,
        deserialize_with = "jws::given",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) auth_time: Option<u64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
pub(super) fn is_first(generation: &u64) -> bool {
    *generation == 0
}

/// One name, or a list of them (RFC 7519, 4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Audience<'a> {
    One(Cow<'a, str>),
    Several(Vec<Cow<'a, str>>),
}

// An untagged enum would keep a copy of the value for every form it could have.
impl<'de: 'a, 'a> Deserialize<'de> for Audience<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Audience<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_borrowed_str<E>(self, one: &'de str) -> Result<Self::Value, E> {
                Ok(Audience::One(one.into()))
            }

            fn visit_str<E>(self, one: &str) -> Result<Self::Value, E> {
                Ok(Audience::One(one.to_owned().into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut several = Vec::new();
                while let Some(one) = list.next_element()? {
                    several.push(one);
                }
                Ok(Audience::Several(several))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Audience<'_> {
    pub(super) fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}
