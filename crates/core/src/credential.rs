//! The credential of a client: the `Authorization` header (RFC 9110, 11.6.2) or the header of a machine's key, read once and
//! strictly.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    account::Username,
    body::{Body, BodyFault},
    cookie::{CookieFault, CookieName, Cookies, Transport},
    machine_key,
    password::Password,
};

/// The longest credential that is read, in bytes.
pub const MAX_CREDENTIAL: usize = 8 * 1024;

/// The longest decoded `user-id ":" password`, in bytes.
pub const MAX_BASIC: usize = 1024;

/// The credential of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// No `Authorization` header.
    Absent,
    /// The Basic scheme (RFC 7617), not decoded yet: only a login needs it.
    Basic(Basic<'a>),
    /// The Bearer scheme (RFC 6750).
    Bearer(Compact<'a>),
    /// A key for machines, in the header that `keys.header` names.
    Key(Compact<'a>),
    /// The cookie of a browser that has signed in. The judge reads it, if sign-in is on and there is no other credential.
    Cookie(Compact<'a>),
    /// A scheme that is neither of the two.
    Foreign,
    /// Not one well-formed credential.
    Malformed(CredentialFault),
}

/// Why an `Authorization` header is not one credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFault {
    /// More than one header value, or values that were joined.
    #[error("more than one Authorization value")]
    Several,
    /// Over [`MAX_CREDENTIAL`].
    #[error("the Authorization value is too long")]
    TooLong,
    /// No scheme, or bytes outside visible ASCII.
    #[error("the Authorization value is malformed")]
    Syntax,
    /// The cookie of a browser occurs twice or is malformed.
    #[error(transparent)]
    Cookie(CookieFault),
    /// `Bearer` with something that is not one `b64token` of RFC 6750, 2.1.
    #[error("the Bearer token is malformed")]
    Token,
    /// The header of a key holds something that is not one `b64token`.
    #[error("the key is malformed")]
    Key,
}

impl<'a> Credential<'a> {
    /// Reads every `Authorization` value of a request.
    pub fn parse(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::parse_one(value).unwrap_or_else(Self::Malformed),
            (Some(_), Some(_)) => Self::Malformed(CredentialFault::Several),
        }
    }

    /// Reads every value of the header of a key; there is no `Authorization` beside it.
    pub fn parse_key(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => str::from_utf8(value)
                .ok()
                .and_then(Compact::parse)
                .map_or(Self::Malformed(CredentialFault::Key), Self::Key),
            (Some(_), Some(_)) => Self::Malformed(CredentialFault::Several),
        }
    }

    /// Reads the token in the cookie of a browser.
    #[must_use]
    pub fn of_cookie(cookies: Cookies<'a>, transport: Transport) -> Self {
        let fault = |fault| Self::Malformed(CredentialFault::Cookie(fault));
        match cookies.find(CookieName::Session(transport)) {
            Ok(None) => Self::Absent,
            Ok(Some(value)) => match str::from_utf8(value).ok().and_then(Compact::parse) {
                Some(compact) => Self::Cookie(compact),
                None => fault(CookieFault::Syntax),
            },
            Err(own) => fault(own),
        }
    }

    fn parse_one(value: &'a [u8]) -> Result<Self, CredentialFault> {
        if value.len() > MAX_CREDENTIAL {
            return Err(CredentialFault::TooLong);
        }
        if !every(value, |byte| matches!(byte, b' '..=b'~')) {
            return Err(CredentialFault::Syntax);
        }
        let value = str::from_utf8(value).map_err(|_| CredentialFault::Syntax)?;
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim_start_matches(' ');
        // Gateways join two values with a comma, and no value of these schemes contains one (RFC 9110, 5.3 and 11.4).
        let is_joined = || rest.contains(',');
        if scheme.eq_ignore_ascii_case("bearer") {
            let fault = match is_joined() {
                true => CredentialFault::Several,
                false => CredentialFault::Token,
            };
            return Compact::parse(rest).map(Self::Bearer).ok_or(fault);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return match is_joined() {
                true => Err(CredentialFault::Several),
                false => Ok(Self::Basic(Basic(rest))),
            };
        }
        let is_token = !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.+!#$&^`|~*'%".contains(&b));
        if is_token {
            Ok(Self::Foreign)
        } else {
            Err(CredentialFault::Syntax)
        }
    }
}

/// Whether a test holds for every byte. Unlike `all`, it does not stop early, so that several bytes are tested at once.
fn every(bytes: &[u8], holds: impl Fn(u8) -> bool) -> bool {
    bytes
        .iter()
        .fold(true, |so_far, byte| so_far & holds(*byte))
}

/// A Bearer credential: one `b64token`, not verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Compact<'a>(&'a str);

impl<'a> Compact<'a> {
    /// Takes one `b64token` (RFC 6750, 2.1) of at most [`MAX_CREDENTIAL`] bytes, or nothing.
    #[must_use]
    pub fn parse(token: &'a str) -> Option<Self> {
        let body = token.trim_end_matches('=');
        let well_formed = !body.is_empty()
            && token.len() <= MAX_CREDENTIAL
            && every(body.as_bytes(), |byte| {
                byte.is_ascii_alphanumeric()
                    | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
            });
        well_formed.then_some(Self(token))
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compact(..)")
    }
}

/// What follows `Basic`, not decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Basic<'a>(&'a str);

impl fmt::Debug for Basic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Basic(..)")
    }
}

/// A claimed user name and password.
#[derive(Debug)]
pub struct Login {
    /// The claimed user name.
    pub username: Username,
    /// The claimed password.
    pub password: Password,
}

/// Why Basic credentials are malformed; the client gets the same answer as for a wrong password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFault {
    /// Not the strict base64 of RFC 4648, 4.
    #[error("not base64")]
    Base64,
    /// Over [`MAX_BASIC`].
    #[error("too long")]
    TooLong,
    /// Not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// No colon.
    #[error("no colon")]
    NoColon,
    /// An empty or invalid user name.
    #[error("an invalid user name")]
    Username,
    /// An empty password or one with control characters.
    #[error("an invalid password")]
    Password,
}

impl Login {
    /// Decodes Basic credentials (RFC 7617, 2).
    ///
    /// # Errors
    ///
    /// What is wrong with the credentials.
    pub fn from_basic(basic: Basic<'_>) -> Result<Self, LoginFault> {
        if basic.0.len() > MAX_BASIC.div_ceil(3) * 4 {
            return Err(LoginFault::TooLong);
        }
        let decoded = BASE64_STANDARD.decode(basic.0).map(Zeroizing::new);
        let decoded = decoded.map_err(|_| LoginFault::Base64)?;
        if decoded.len() > MAX_BASIC {
            return Err(LoginFault::TooLong);
        }
        let pair = str::from_utf8(&decoded).map_err(|_| LoginFault::Utf8)?;
        let (username, password) = pair.split_once(':').ok_or(LoginFault::NoColon)?;
        Ok(Self {
            username: Username::parse(username).ok_or(LoginFault::Username)?,
            password: Password::parse(password).ok_or(LoginFault::Password)?,
        })
    }

    /// The password of Basic credentials, without regard to the user name, if it begins like a key for machines.
    #[must_use]
    pub fn key_in(basic: Basic<'_>) -> Option<Zeroizing<String>> {
        if basic.0.len() > MAX_BASIC.div_ceil(3) * 4 {
            return None;
        }
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(basic.0).ok()?);
        let (_, password) = str::from_utf8(&decoded).ok()?.split_once(':')?;
        password
            .starts_with(machine_key::PREFIX)
            .then(|| Zeroizing::new(password.to_owned()))
    }

    /// Reads a body with the members `username` and `password`.
    ///
    /// # Errors
    ///
    /// What is wrong with which member.
    pub fn from_body(body: Body<'_>) -> Result<Self, BodyFault> {
        let [username, password] = body.read(["username", "password"])?;
        Ok(Self {
            username: Username::parse(&username).ok_or(BodyFault::Impossible("username"))?,
            password: Password::parse(&password).ok_or(BodyFault::Impossible("password"))?,
        })
    }
}

#[cfg(test)]
mod tests;
