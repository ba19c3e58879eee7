//! The `Cookie` header of a browser (RFC 6265, 4.2.1): Doorward's own cookies are read strictly, and taken out before the
//! service gets the request. All others stay.

use std::fmt;

/// The values of `Cookie` in one request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Cookies<'a> {
    /// No such header.
    #[default]
    Absent,
    /// One header.
    One(&'a [u8]),
    /// Several headers, which no gateway makes of an honest browser's request.
    Several {
        /// Whether one of them contains a name of Doorward.
        names_ours: bool,
    },
}

impl fmt::Debug for Cookies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::One(_) => "One(..)",
            Self::Several { .. } => "Several(..)",
        })
    }
}

/// A name of Doorward's cookies contains this.
const MARK: &[u8] = b"doorward";

impl<'a> Cookies<'a> {
    /// Adds the value of one more header.
    #[must_use]
    pub fn and(self, value: &'a [u8]) -> Self {
        match self {
            Self::Absent => Self::One(value),
            Self::One(first) => Self::Several {
                names_ours: is_marked(first) || is_marked(value),
            },
            Self::Several { names_ours } => Self::Several {
                names_ours: names_ours || is_marked(value),
            },
        }
    }

    /// The value of a cookie.
    ///
    /// # Errors
    ///
    /// The cookie occurs twice, or in a value that could be read in two ways.
    pub fn find(self, name: CookieName) -> Result<Option<&'a [u8]>, CookieFault> {
        let value = match self {
            Self::Absent | Self::Several { names_ours: false } => return Ok(None),
            Self::Several { names_ours: true } => return Err(CookieFault::Several),
            Self::One(value) => value,
        };
        let mut found = None;
        for (own, value) in pairs(value) {
            if own == name.as_str().as_bytes() {
                if found.is_some() {
                    return Err(CookieFault::Several);
                }
                found = Some(value);
            } else if is_joined(value, name) || is_joined(own, name) {
                return Err(CookieFault::Several);
            }
        }
        Ok(found)
    }

    /// What the service sees.
    #[must_use]
    pub fn without_ours(self) -> CookieEdit {
        let value = match self {
            Self::Absent | Self::Several { names_ours: false } => return CookieEdit::Keep,
            // Nobody can say what belongs to which.
            Self::Several { names_ours: true } => return CookieEdit::Remove,
            Self::One(value) if !is_marked(value) => return CookieEdit::Keep,
            Self::One(value) => value,
        };
        let is_ours = |(own, value): &(&[u8], &[u8])| {
            CookieName::ALL.into_iter().any(|name| {
                *own == name.as_str().as_bytes() || is_joined(value, name) || is_joined(own, name)
            })
        };
        if !pairs(value).any(|pair| is_ours(&pair)) {
            return CookieEdit::Keep;
        }
        let mut rest = String::with_capacity(value.len());
        for piece in pieces(value) {
            // Gateways refuse other bytes in a header that Doorward sets.
            let text = str::from_utf8(piece).ok();
            let text = text.filter(|text| !text.is_empty() && !text.contains(char::is_control));
            if let Some(text) = text
                && !is_ours(&pair(piece))
            {
                if !rest.is_empty() {
                    rest.push_str("; ");
                }
                rest.push_str(text);
            }
        }
        match rest.is_empty() {
            true => CookieEdit::Remove,
            false => CookieEdit::Replace(rest),
        }
    }
}

/// What happens to `Cookie` before the request reaches the service. `Debug` does not show its value.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum CookieEdit {
    /// It has none of Doorward's cookies.
    #[default]
    Keep,
    /// It has no others.
    Remove,
    /// The others.
    Replace(String),
}

impl fmt::Debug for CookieEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "Keep",
            Self::Remove => "Remove",
            Self::Replace(_) => "Replace(..)",
        })
    }
}

/// Why a cookie cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieFault {
    /// It occurs twice.
    #[error("the cookie occurs twice")]
    Several,
    /// It is no token.
    #[error("the cookie is malformed")]
    Syntax,
}

/// The cookies of Doorward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieName {
    /// The token of a browser.
    Session(Transport),
    /// The value that binds a form to the browser that got its page.
    Form(Transport),
    /// A renewal has failed, and is not tried again for a while.
    Later(Transport),
}

/// How a browser reaches Doorward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS. A name with `__Host-` can only be set there, and only by the host itself, not by another of its domain.
    Https,
    /// `http://localhost`, if a setting allows it.
    Localhost,
}

impl CookieName {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Session(Transport::Https),
        Self::Form(Transport::Https),
        Self::Later(Transport::Https),
        Self::Session(Transport::Localhost),
        Self::Form(Transport::Localhost),
        Self::Later(Transport::Localhost),
    ];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session(Transport::Https) => "__Host-doorward",
            Self::Form(Transport::Https) => "__Host-doorward-form",
            Self::Later(Transport::Https) => "__Host-doorward-later",
            Self::Session(Transport::Localhost) => "doorward-localhost",
            Self::Form(Transport::Localhost) => "doorward-localhost-form",
            Self::Later(Transport::Localhost) => "doorward-localhost-later",
        }
    }

    /// The value of `Set-Cookie`, for `seconds`; with 0, the browser drops the cookie.
    #[must_use]
    pub fn set(self, value: &str, seconds: u64) -> String {
        let (transport, same_site) = match self {
            Self::Session(transport) | Self::Later(transport) => (transport, "Lax"),
            // The form is always posted from its own page.
            Self::Form(transport) => (transport, "Strict"),
        };
        let secure = match transport {
            Transport::Https => " Secure;",
            Transport::Localhost => "",
        };
        format!(
            "{}={value}; Path=/; Max-Age={seconds};{secure} HttpOnly; SameSite={same_site}",
            self.as_str()
        )
    }
}

fn pieces(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn pairs(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    pieces(value).map(pair)
}

fn pair(piece: &[u8]) -> (&[u8], &[u8]) {
    match piece.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = piece.split_at(at);
            (name, value.get(1..).unwrap_or_default())
        }
        None => (piece, b""),
    }
}

/// Whether a gateway joined a second header, which names the cookie, to a value with a comma.
fn is_joined(text: &[u8], name: CookieName) -> bool {
    let mut parts = text.split(|byte| *byte == b',').skip(1);
    parts.any(|part| pair(part.trim_ascii()).0 == name.as_str().as_bytes())
}

fn is_marked(value: &[u8]) -> bool {
    value.windows(MARK.len()).any(|bytes| bytes == MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: CookieName = CookieName::Session(Transport::Https);

    fn read(values: &[&'static str]) -> Result<Option<&'static str>, CookieFault> {
        let all = values
            .iter()
            .fold(Cookies::Absent, |all, value| all.and(value.as_bytes()));
        let found = all.find(SESSION)?;
        Ok(found.map(|value| str::from_utf8(value).unwrap()))
    }

    fn left(values: &[&'static str]) -> Option<String> {
        let all = values
            .iter()
            .fold(Cookies::Absent, |all, value| all.and(value.as_bytes()));
        match all.without_ours() {
            CookieEdit::Keep => Some(values.join(" + ")),
            CookieEdit::Remove => None,
            CookieEdit::Replace(rest) => Some(rest),
        }
    }

    #[test]
    fn one_cookie_is_read_and_two_are_refused() {
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&["a=1"], Ok(None)),
            (&["__Host-doorward=t"], Ok(Some("t"))),
            (&["a=1; __Host-doorward=t; b=2"], Ok(Some("t"))),
            (&["a=1;__Host-doorward=t"], Ok(Some("t"))),
            (&["__Host-doorward=t=="], Ok(Some("t=="))),
            (&["__Host-doorward"], Ok(Some(""))),
            // Another name, or in the value of another cookie.
            (&["__host-doorward=t"], Ok(None)),
            (&["x__Host-doorward=t"], Ok(None)),
            (&["__Host-doorward-form=t"], Ok(None)),
            (&["a=__Host-doorward=t"], Ok(None)),
            (
                &["__Host-doorward=t; __Host-doorward=u"],
                Err(CookieFault::Several),
            ),
            (&["a=1", "__Host-doorward=t"], Err(CookieFault::Several)),
            (&["__Host-doorward=t", "a=1"], Err(CookieFault::Several)),
            (&["a=1", "b=2"], Ok(None)),
            // Joined by a gateway.
            (&["a=1,__Host-doorward=t"], Err(CookieFault::Several)),
            (&["a=1, __Host-doorward=t; b"], Err(CookieFault::Several)),
            (&["a,__Host-doorward=t"], Err(CookieFault::Several)),
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn the_service_sees_every_other_cookie_and_none_of_ours() {
        for (values, expected) in [
            (&["a=1; b=2"][..], Some("a=1; b=2")),
            (&["a=1; about=doorward"], Some("a=1; about=doorward")),
            (&["__Host-doorward=t"], None),
            (&["a=1; __Host-doorward=t; b=2"], Some("a=1; b=2")),
            (&["a=1;__Host-doorward=t;b=2;;"], Some("a=1; b=2")),
            (
                &["a=1; __Host-doorward-form=f; __Host-doorward-later=1"],
                Some("a=1"),
            ),
            (
                &["doorward-localhost=t; a=1; doorward-localhost-form=f"],
                Some("a=1"),
            ),
            (
                &["__Host-doorward=t; __Host-doorward=u; a=\u{e9}"],
                Some("a=\u{e9}"),
            ),
            (&["a=1,__Host-doorward=t; b=2"], Some("b=2")),
            (&["a=1", "__Host-doorward=t"], None),
            (&["a=1", "b=2"], Some("a=1 + b=2")),
        ] {
            assert_eq!(left(values).as_deref(), expected, "{values:?}");
        }
        // Bytes that no header may have, and that Doorward does not send.
        let odd = Cookies::One(b"a=\xff; __Host-doorward=t; b=2");
        assert_eq!(odd.without_ours(), CookieEdit::Replace("b=2".into()));
    }

    #[test]
    fn every_name_is_marked_and_none_is_another_ones() {
        for (at, name) in CookieName::ALL.into_iter().enumerate() {
            assert!(is_marked(name.as_str().as_bytes()));
            let same = CookieName::ALL
                .iter()
                .filter(|own| own.as_str() == name.as_str());
            assert_eq!(same.count(), 1, "{at}");
        }
    }

    #[test]
    fn cookies_are_bound_to_their_host() {
        assert_eq!(
            SESSION.set("t", 60),
            "__Host-doorward=t; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            CookieName::Form(Transport::Localhost).set("t", 60),
            "doorward-localhost-form=t; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"
        );
    }
}
