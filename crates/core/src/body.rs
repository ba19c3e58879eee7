//! The body of a request, a JSON object or a form, parsed strictly.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use zeroize::Zeroizing;

/// The longest body that is read, in bytes.
pub const MAX_BODY: usize = 4 * 1024;

/// The body of a request, as far as the gateway sent it.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// No body, or one with another content type.
    Absent,
    /// A JSON object.
    Json(&'a [u8]),
    /// A form (`application/x-www-form-urlencoded`).
    Form(&'a [u8]),
    /// The gateway cut the body short.
    Partial,
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Json(_) => "Json(..)",
            Self::Form(_) => "Form(..)",
            Self::Partial => "Partial",
        })
    }
}

/// Why a body is refused; the client reads this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// A body is required and missing.
    #[error("The body must be a JSON object or a form, with its content type")]
    Absent,
    /// Not a JSON object, or a member occurs twice.
    #[error("The body must be a JSON object, each member once")]
    NotAnObject,
    /// Longer than [`MAX_BODY`], or cut short by the gateway.
    #[error("The body is too long")]
    TooLong,
    /// The body did not arrive in time.
    #[error("Too slow")]
    TooSlow,
    /// A member is missing.
    #[error("{0}: missing")]
    Missing(&'static str),
    /// A form field occurs twice.
    #[error("{0}: occurs twice")]
    Doubled(&'static str),
    /// A member is not a string.
    #[error("{0}: must be a string")]
    NotText(&'static str),
    /// A string that no account can have.
    #[error("{0}: empty, too long, or with characters that are not allowed")]
    Impossible(&'static str),
}

impl Body<'_> {
    /// Reads members by name, and ignores others.
    ///
    /// # Errors
    ///
    /// What is wrong with the body or with the first faulty member.
    pub fn read<const N: usize>(
        self,
        names: [&'static str; N],
    ) -> Result<[Zeroizing<String>; N], BodyFault> {
        let found = self.find(names)?;
        for (name, value) in names.into_iter().zip(&found) {
            if value.is_none() {
                return Err(BodyFault::Missing(name));
            }
        }
        Ok(found.map(Option::unwrap_or_default))
    }

    /// Reads members by name that may be missing, and ignores others.
    ///
    /// # Errors
    ///
    /// What is wrong with the body or with the first faulty member.
    pub fn find<const N: usize>(
        self,
        names: [&'static str; N],
    ) -> Result<[Option<Zeroizing<String>>; N], BodyFault> {
        match self {
            Self::Absent => Err(BodyFault::Absent),
            Self::Partial => Err(BodyFault::TooLong),
            Self::Json(body) | Self::Form(body) if body.len() > MAX_BODY => Err(BodyFault::TooLong),
            Self::Json(body) => json(body, names),
            Self::Form(body) => form(body, names),
        }
    }
}

fn form<const N: usize>(
    body: &[u8],
    names: [&'static str; N],
) -> Result<[Option<Zeroizing<String>>; N], BodyFault> {
    let mut found = [const { None }; N];
    for (name, slot) in names.into_iter().zip(&mut found) {
        let mut values = form_urlencoded::parse(body)
            .filter(|(own, _)| own == name)
            .map(|(_, value)| Zeroizing::new(value.into_owned()));
        *slot = match (values.next(), values.next()) {
            (value, None) => value,
            (_, Some(_)) => return Err(BodyFault::Doubled(name)),
        };
    }
    Ok(found)
}

fn json<const N: usize>(
    body: &[u8],
    names: [&'static str; N],
) -> Result<[Option<Zeroizing<String>>; N], BodyFault> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let members = Members(names).deserialize(&mut json);
    let members = members.map_err(|_| BodyFault::NotAnObject)?;
    json.end().map_err(|_| BodyFault::NotAnObject)?;
    let mut found = [const { None }; N];
    for ((name, member), slot) in names.into_iter().zip(members).zip(&mut found) {
        *slot = match member {
            None | Some(Member::Null) => None,
            Some(Member::Other) => return Err(BodyFault::NotText(name)),
            Some(Member::Text(text)) => Some(text),
        };
    }
    Ok(found)
}

enum Member {
    Text(Zeroizing<String>),
    Null,
    Other,
}

/// Deserializes the members with these names, and skips others.
struct Members<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<N> {
    type Value = [Option<Member>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<N> {
    type Value = [Option<Member>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        while let Some(name) = object.next_key::<Zeroizing<String>>()? {
            let slot = self
                .0
                .iter()
                .zip(&mut found)
                .find(|(own, _)| **own == name.as_str());
            match slot {
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
                Some((_, Some(_))) => return Err(serde::de::Error::custom("a member twice")),
                Some((_, slot)) => *slot = Some(object.next_value_seed(OneMember)?),
            }
        }
        Ok(found)
    }
}

struct OneMember;

impl<'de> DeserializeSeed<'de> for OneMember {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneMember {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Null)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Member, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}
