//! What a browser says about a request besides its credential: cookies, and the metadata by which a foreign site's request
//! can be told from the user's own (Fetch Metadata, RFC 6454).

use super::{Method, accepts_html};
use crate::cookie::Cookies;

/// The parts of a browser's request that count with a cookie.
#[derive(Clone, Copy, Default)]
pub struct Browser<'a> {
    /// The cookies.
    pub cookies: Cookies<'a>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Once<'a>,
    /// `Sec-Fetch-Mode`.
    pub fetch_mode: Once<'a>,
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// `Accept`.
    pub accept: Option<&'a [u8]>,
    /// `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Whether the connection is to be upgraded, as for a WebSocket.
    pub upgrades: bool,
    /// The authority, with its port.
    pub authority: &'a [u8],
    /// The path with its query.
    pub target: &'a [u8],
}

/// Omits what may be secret.
impl std::fmt::Debug for Browser<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser")
            .field("cookies", &self.cookies)
            .finish_non_exhaustive()
    }
}

/// A header that a browser sends at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Once<'a> {
    /// No such header.
    #[default]
    Absent,
    /// One.
    One(&'a [u8]),
    /// Two: no browser sent this.
    Several,
}

impl<'a> Once<'a> {
    /// Adds the value of one more header.
    #[must_use]
    pub fn and(self, value: &'a [u8]) -> Self {
        match self {
            Self::Absent => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

impl Browser<'_> {
    /// Whether the user goes to another page, so that a redirect reaches the user. Without Fetch Metadata, `Accept`
    /// decides.
    #[must_use]
    pub fn navigates(&self, method: Method<'_>) -> bool {
        let by_header = match self.fetch_mode {
            Once::One(mode) => mode == b"navigate",
            Once::Absent => self.accept.is_some_and(accepts_html),
            Once::Several => false,
        };
        method.as_str() == "GET" && by_header && !self.upgrades
    }

    /// Whether a cookie may count for this request: a foreign site can make a browser send one with any request, but can
    /// neither read the answer of a safe method nor choose these headers.
    #[must_use]
    pub fn may_use_cookie(&self, method: Method<'_>, scheme: &str) -> bool {
        let is_safe = matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS");
        (is_safe && !self.upgrades) || self.is_same_origin(scheme)
    }

    /// Whether the request comes from a page of the same origin, or from the user.
    #[must_use]
    pub fn is_same_origin(&self, scheme: &str) -> bool {
        match self.fetch_site {
            Once::One(site) => site == b"same-origin" || site == b"none",
            Once::Several => false,
            // Only old browsers, and WebSockets of some, send no metadata.
            Once::Absent => self
                .origin
                .is_some_and(|origin| is_origin(origin, scheme, self.authority)),
        }
    }
}

/// Whether an `Origin` is exactly this host. A missing port is the scheme's own.
fn is_origin(origin: &[u8], scheme: &str, authority: &[u8]) -> bool {
    let port: &[u8] = match scheme {
        "https" => b":443",
        _ => b":80",
    };
    let of_origin = origin
        .strip_prefix(scheme.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"://"));
    let plain = |text: &[u8]| {
        let text = text.strip_suffix(port).unwrap_or(text);
        text.to_ascii_lowercase()
    };
    of_origin.is_some_and(|own| !authority.is_empty() && plain(own) == plain(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(text: &str) -> Method<'_> {
        Method::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_navigation_is_what_the_browser_calls_one() {
        for (name, mode, accept, expected) in [
            ("GET", Once::One(b"navigate"), None, true),
            ("GET", Once::One(b"cors"), Some("text/html"), false),
            ("GET", Once::One(b"websocket"), Some("text/html"), false),
            ("GET", Once::Several, Some("text/html"), false),
            (
                "GET",
                Once::Absent,
                Some("text/html,application/xml;q=0.9"),
                true,
            ),
            ("GET", Once::Absent, Some("text/html;q=0"), false),
            ("GET", Once::Absent, Some("*/*"), false),
            ("GET", Once::Absent, Some("application/json"), false),
            ("GET", Once::Absent, None, false),
            ("POST", Once::One(b"navigate"), Some("text/html"), false),
            ("HEAD", Once::One(b"navigate"), None, false),
        ] {
            let browser = Browser {
                fetch_mode: mode,
                accept: accept.map(str::as_bytes),
                ..Browser::default()
            };
            assert_eq!(
                browser.navigates(method(name)),
                expected,
                "{name} {mode:?} {accept:?}"
            );
        }
    }

    #[test]
    fn only_the_own_origin_may_change_anything() {
        let own = "https://app.example";
        for (name, site, origin, upgrades, expected) in [
            ("GET", Once::Absent, None, false, true),
            ("GET", Once::One(&b"cross-site"[..]), None, false, true),
            ("HEAD", Once::Absent, None, false, true),
            ("OPTIONS", Once::Absent, None, false, true),
            ("POST", Once::Absent, None, false, false),
            ("PATCH", Once::Absent, None, false, false),
            ("CONNECT", Once::Absent, None, false, false),
            ("PROPFIND", Once::Absent, None, false, false),
            ("POST", Once::One(b"same-origin"), None, false, true),
            ("POST", Once::One(b"none"), None, false, true),
            ("POST", Once::One(b"same-site"), Some(own), false, false),
            ("POST", Once::One(b"cross-site"), Some(own), false, false),
            ("POST", Once::One(b"Same-Origin"), None, false, false),
            ("POST", Once::One(b""), Some(own), false, false),
            ("POST", Once::Several, Some(own), false, false),
            ("POST", Once::Absent, Some(own), false, true),
            (
                "POST",
                Once::Absent,
                Some("https://app.example:443"),
                false,
                true,
            ),
            (
                "POST",
                Once::Absent,
                Some("https://APP.example"),
                false,
                true,
            ),
            (
                "POST",
                Once::Absent,
                Some("http://app.example"),
                false,
                false,
            ),
            (
                "POST",
                Once::Absent,
                Some("https://app.example:8443"),
                false,
                false,
            ),
            (
                "POST",
                Once::Absent,
                Some("https://app.example.evil"),
                false,
                false,
            ),
            (
                "POST",
                Once::Absent,
                Some("https://evil.app.example"),
                false,
                false,
            ),
            (
                "POST",
                Once::Absent,
                Some("https://app.example/"),
                false,
                false,
            ),
            ("POST", Once::Absent, Some("null"), false, false),
            ("POST", Once::Absent, Some(""), false, false),
            ("GET", Once::Absent, None, true, false),
            ("GET", Once::Absent, Some(own), true, true),
            (
                "GET",
                Once::Absent,
                Some("https://evil.example"),
                true,
                false,
            ),
            ("GET", Once::One(b"cross-site"), Some(own), true, false),
        ] {
            let browser = Browser {
                fetch_site: site,
                origin: origin.map(str::as_bytes),
                upgrades,
                authority: b"app.example",
                ..Browser::default()
            };
            let may = browser.may_use_cookie(method(name), "https");
            assert_eq!(may, expected, "{name} {site:?} {origin:?} {upgrades}");
        }
        // Without a host that can be trusted, an origin is equal to nothing.
        let browser = Browser {
            origin: Some(b"https://"),
            ..Browser::default()
        };
        assert!(!browser.is_same_origin("https"));
    }
}
