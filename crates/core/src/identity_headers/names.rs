//! Which names identity headers can have.

use super::{KEY_NAME, LONGEST_NAME, USUAL_NAMES, fold_the_same};

/// Names that identity headers can have, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityNames(pub(super) [String; 3]);

/// Why identity headers cannot have these names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamesFault {
    /// Not three names.
    #[error(
        "must be three names: the headers of the user, of the roles and of the flag of administrators"
    )]
    Count,
    /// Not a token of RFC 9110, 5.6.2, or too long.
    #[error(
        "{0:?} is not the name of a header; write 1 to {LONGEST_NAME} letters, digits and \"-\", with a letter among them"
    )]
    Name(String),
    /// HTTP, a gateway or Doorward uses the name.
    #[error("{0:?} is, or can be read as, a header with a meaning of its own; choose another name")]
    Reserved(String),
    /// A service could read both names as one.
    #[error("{0:?} and {1:?} are the same name to a service behind CGI; choose another one")]
    Same(String, String),
}

impl Default for IdentityNames {
    fn default() -> Self {
        Self(USUAL_NAMES.map(str::to_owned))
    }
}

impl IdentityNames {
    /// Parses the names of user, roles and admin, in any case.
    ///
    /// # Errors
    ///
    /// The first name that is not possible, or the first two that are equal.
    pub fn parse(names: &[String]) -> Result<Self, NamesFault> {
        let names = names.iter().map(|name| header_name(name));
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let names: [String; 3] = names.try_into().map_err(|_| NamesFault::Count)?;
        let [user, roles, admin] = &names;
        for (one, other) in [(user, roles), (user, admin), (roles, admin)] {
            if fold_the_same(one.as_bytes(), other.as_bytes()) {
                return Err(NamesFault::Same(one.clone(), other.clone()));
            }
        }
        Ok(Self(names))
    }

    /// One of these names that a service could read as `other`.
    #[must_use]
    pub fn like(&self, other: &str) -> Option<&str> {
        let mut names = self.0.iter().map(String::as_str);
        names.find(|own| fold_the_same(own.as_bytes(), other.as_bytes()))
    }
}

/// The name of the header in which clients show keys for machines, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHeader(pub(super) String);

impl KeyHeader {
    /// Parses a name, in any case.
    ///
    /// # Errors
    ///
    /// The name is not possible, or has another meaning.
    pub fn parse(name: &str) -> Result<Self, NamesFault> {
        let name = header_name(name)?;
        match fold_the_same(name.as_bytes(), KEY_NAME.as_bytes()) {
            true => Err(NamesFault::Reserved(name)),
            false => Ok(Self(name)),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of the header with the signed assertion, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionHeader(String);

impl AssertionHeader {
    /// Parses a name, in any case.
    ///
    /// # Errors
    ///
    /// The name is not possible, or has another meaning.
    pub fn parse(name: &str) -> Result<Self, NamesFault> {
        // With the same exception: services read the name of a key there.
        KeyHeader::parse(name).map(|KeyHeader(name)| Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a service could read it as `other`.
    #[must_use]
    pub fn is_like(&self, other: &str) -> bool {
        fold_the_same(self.0.as_bytes(), other.as_bytes())
    }
}

/// A name in lower case, if a header of Doorward can have it.
fn header_name(name: &str) -> Result<String, NamesFault> {
    let name = name.to_ascii_lowercase();
    let well_formed = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(is_token)
        && name.bytes().any(|byte| byte.is_ascii_alphabetic());
    match well_formed {
        false => Err(NamesFault::Name(name)),
        true if is_reserved(&name) => Err(NamesFault::Reserved(name)),
        true => Ok(name),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a lower-case name has another meaning in any spelling.
fn is_reserved(name: &str) -> bool {
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    RESERVED.contains(&&*name) || RESERVED_STARTS.iter().any(|start| name.starts_with(start))
}

/// Hop-by-hop headers (RFC 9110, 7.6.1), those that frame or route a message, and those that Doorward, gateways and
/// services read or write themselves.
const RESERVED: [&str; 39] = [
    "accept",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "from",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-auth-reason",
    "x-auth-sign-in",
    "x-auth-status",
    "x-real-ip",
    "x-request-id",
];

const RESERVED_STARTS: [&str; 11] = [
    "accept-",
    "access-control-",
    "content-",
    "grpc-",
    "if-",
    "proxy-",
    "sec-",
    "x-envoy-",
    "x-forwarded-",
    "x-original-",
    "x-refresh-token",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: [&str; 3]) -> Result<IdentityNames, NamesFault> {
        IdentityNames::parse(&names.map(str::to_owned))
    }

    #[test]
    fn reserved_and_invalid_header_names_are_refused() {
        for (name, reserved) in [
            ("Connection", true),
            ("host", true),
            ("authorization", true),
            ("content-type", true),
            ("Content_Length", true),
            ("x_forwarded_for", true),
            ("x-envoy-peer", true),
            ("x-auth-status", true),
            ("proxy-user", true),
            (":path", false),
            ("", false),
            ("-", false),
            ("a b", false),
            ("\u{fc}ser", false),
            ("a\r\nb", false),
            ("x-a-name-that-is-longer-than-32-by", false),
        ] {
            let lower = name.to_ascii_lowercase();
            let fault = match reserved {
                true => NamesFault::Reserved(lower),
                false => NamesFault::Name(lower),
            };
            assert_eq!(names(["x-user", "x-roles", name]), Err(fault), "{name:?}");
        }
        assert_eq!(
            IdentityNames::parse(&["x-user".into(), "x-roles".into()]),
            Err(NamesFault::Count)
        );
        assert_eq!(
            names(["x-user", "x-roles", "X_User"]),
            Err(NamesFault::Same("x-user".into(), "x_user".into()))
        );
    }
}
