//! What the client reads, in the terms of HTTP.

use std::borrow::Cow;

/// An answer to the client, in the terms of HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Lower-case names and values; each name once.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Cow<'static, str>,
}

pub(super) const NO_STORE: (&str, Cow<'static, str>) = ("cache-control", Cow::Borrowed("no-store"));
pub(super) const PLAIN: (&str, Cow<'static, str>) =
    ("content-type", Cow::Borrowed("text/plain; charset=utf-8"));
pub(super) const JSON: (&str, Cow<'static, str>) =
    ("content-type", Cow::Borrowed("application/json"));

pub(super) fn refuse<const N: usize>(
    status: u16,
    body: impl Into<Cow<'static, str>>,
    headers: [(&'static str, Cow<'static, str>); N],
) -> Answer {
    let mut all = vec![PLAIN, NO_STORE];
    all.extend(headers);
    Answer {
        status,
        headers: all,
        body: body.into(),
    }
}

/// Omits the values of headers and the body, which may contain a token.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({})", self.status)
    }
}

impl Answer {
    /// A redirect to a page of the same host, which is then fetched with `GET` (RFC 9110, 15.4.4).
    #[must_use]
    pub fn see_other(target: &str) -> Self {
        refuse(303, "See other", [("location", target.to_owned().into())])
    }
}

/// The protection space that challenges name (RFC 9110, 11.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm(String);

impl Default for Realm {
    fn default() -> Self {
        Self("doorward".into())
    }
}

impl Realm {
    /// Accepts visible ASCII and spaces without quotes and backslashes; `None` for other text.
    #[must_use]
    pub fn parse(realm: &str) -> Option<Self> {
        let possible = (1..=64).contains(&realm.len())
            && realm
                .bytes()
                .all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\');
        possible.then(|| Self(realm.into()))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn basic(&self) -> String {
        format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.0)
    }

    pub(super) fn bearer(&self, error: Option<&str>) -> String {
        match error {
            None => format!("Bearer realm=\"{}\"", self.0),
            Some(error) => format!("Bearer realm=\"{}\", error=\"{error}\"", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms_cannot_break_out_of_the_challenge() {
        assert!(Realm::parse("The house").is_some());
        for realm in ["", "a\"b", "a\\b", "a\r\nb", "é"] {
            assert!(Realm::parse(realm).is_none(), "{realm:?}");
        }
    }
}
