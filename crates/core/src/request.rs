//! The request that a gateway asks about.

pub mod browser;
mod method;

use std::fmt;

use self::browser::Browser;
pub use self::method::Method;

use super::{
    body::Body,
    credential::Credential,
    path::{Path, PathFault, Tolerance},
};

/// The parts of a client's request that a decision needs.
#[derive(Debug)]
pub struct Request<'a> {
    /// The request method.
    pub method: Method<'a>,
    /// The authority the client asked for.
    pub host: Host<'a>,
    /// The path, in both readings.
    pub path: Path<'a>,
    /// The credential of the client.
    pub credential: Credential<'a>,
    /// The method that a CORS preflight announces (Fetch, 4.8).
    pub preflight: Option<Method<'a>>,
    /// The body, if the gateway sent one with a supported content type.
    pub body: Body<'a>,
    /// Whether the query has the member `all`.
    pub all: bool,
    /// The form in which the client wants a token.
    pub form: TokenForm,
    /// What the door can answer.
    pub answerable: Answerable,
    /// What a browser says besides.
    pub browser: Browser<'a>,
}

/// What a door can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerable {
    /// Any answer, including a token for the client.
    Anything,
    /// Only whether the request may pass; the rest of the answer to a sub-request does not reach the client.
    Verdict,
}

/// The parts of a request that are read the same way at every door.
#[derive(Clone, Copy, Default)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The authority; empty if there is none.
    pub host: &'a [u8],
    /// The path with its query.
    pub target: &'a [u8],
}

/// Omits the target, because its query may contain secrets.
impl fmt::Debug for RequestLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestLine(..)")
    }
}

impl<'a> RequestLine<'a> {
    /// Reads method, host and path.
    ///
    /// # Errors
    ///
    /// The first part that is malformed or ambiguous.
    pub fn parse(
        self,
        tolerance: Tolerance,
    ) -> Result<(Method<'a>, Host<'a>, Path<'a>), RequestFault> {
        Ok((
            Method::parse(self.method)?,
            Host::parse(self.host).ok_or(RequestFault::Host)?,
            Path::parse(self.target, tolerance).map_err(RequestFault::Path)?,
        ))
    }
}

/// Why a request cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// The check contains no HTTP request.
    #[error("no HTTP request")]
    NotHttp,
    /// Not a token of RFC 9110, 5.6.2.
    #[error("the method is missing or malformed")]
    Method,
    /// A registered method, or one that rules name, in another case.
    #[error("the method differs from a known one only by case")]
    MethodCase,
    /// Not a host with an optional port.
    #[error("the host is malformed")]
    Host,
    /// A path that two services could read differently.
    #[error(transparent)]
    Path(PathFault),
    /// A header that may occur once occurs twice.
    #[error("a header that may occur once occurs twice")]
    DoubledHeader,
    /// A header that a service could read as an identity header, under another name.
    #[error("a header's name is an alias of an identity header")]
    AliasedHeader,
    /// A header that the gateway must send is missing or duplicated.
    #[error("the gateway must send {0} exactly once")]
    Dialect(&'static str),
    /// The request is described twice, and one description may be the client's.
    #[error(
        "the request is described twice: x-original-url and x-original-uri differ, or x-forwarded-method arrives"
    )]
    TwoOriginals,
}

/// The host of an authority, without port and trailing dot; compared case-insensitively.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host<'a>(Option<&'a str>);

impl<'a> Host<'a> {
    /// Reads `name`, `name:port`, `[v6]` or `[v6]:port`. An empty text is no host, which matches only rules without
    /// hosts.
    #[must_use]
    pub fn parse(authority: &'a [u8]) -> Option<Self> {
        if authority.is_empty() {
            return Some(Self(None));
        }
        let authority = str::from_utf8(authority).ok()?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                let port = match rest {
                    "" => None,
                    _ => Some(rest.strip_prefix(':')?),
                };
                (address, port)
            }
            None => match authority.split_once(':') {
                Some((name, port)) => (reg_name(name)?, Some(port)),
                None => (reg_name(authority)?, None),
            },
        };
        if let Some(port) = port
            && (port.is_empty() || port.len() > 5 || !port.bytes().all(|b| b.is_ascii_digit()))
        {
            return None;
        }
        Some(Self(Some(host)))
    }

    /// The host, if the request has one.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        self.0
    }
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.unwrap_or("-"))
    }
}

fn reg_name(name: &str) -> Option<&str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    // Of `example.com..`, some gateways cut one dot and others both.
    let well_formed = name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
    well_formed.then_some(name)
}

/// Whether a `Content-Type` names JSON (RFC 9110, 8.3.1).
#[must_use]
pub fn is_json(content_type: &[u8]) -> bool {
    media_type(content_type).eq_ignore_ascii_case(b"application/json")
}

/// Whether a `Content-Type` names a form.
#[must_use]
pub fn is_form(content_type: &[u8]) -> bool {
    media_type(content_type).eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

fn media_type(value: &[u8]) -> &[u8] {
    value
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}

/// The form of a token in the body of the answer to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenForm {
    /// The bare token.
    Plain,
    /// The object of RFC 6750, 4.
    Json,
    /// A cookie, with a redirect.
    Cookie,
}

impl TokenForm {
    /// The form that an `Accept` header asks for (RFC 9110, 12.5.1): JSON if it is named without `q=0`.
    #[must_use]
    pub fn accepted(accept: &[u8]) -> Self {
        match accepts(accept, is_json) {
            true => Self::Json,
            false => Self::Plain,
        }
    }
}

/// Whether an `Accept` header names HTML without `q=0`.
#[must_use]
pub fn accepts_html(accept: &[u8]) -> bool {
    accepts(accept, |range| {
        media_type(range).eq_ignore_ascii_case(b"text/html")
    })
}

fn accepts(accept: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> bool {
    accept.split(|byte| *byte == b',').any(|range| {
        let refused = range.split(|byte| *byte == b';').skip(1).any(|parameter| {
            let parameter = parameter.trim_ascii();
            let weight = parameter
                .strip_prefix(b"q=")
                .or(parameter.strip_prefix(b"Q="));
            weight.is_some_and(|q| q.iter().all(|b| matches!(b, b'0' | b'.')))
        });
        is_wanted(range.trim_ascii()) && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_parsed_without_its_port_or_refused() {
        for (authority, host) in [
            ("example.com", "example.com"),
            ("Example.com:8080", "Example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("my_service:80", "my_service"),
            ("127.0.0.1:9", "127.0.0.1"),
            ("[::1]", "::1"),
            ("[::1]:8080", "::1"),
        ] {
            assert_eq!(
                Host::parse(authority.as_bytes()).unwrap().name(),
                Some(host),
                "{authority}"
            );
        }
        assert_eq!(Host::parse(b"").unwrap().name(), None);
        for bad in [
            "a?b=",
            "a#",
            "a/b",
            "a@b",
            "a b",
            ":80",
            "a:",
            "a:b",
            "a:123456",
            "a:1:2",
            ".",
            "[::1",
            "[x]",
            "[::1]x",
            "[::1]:",
            "é",
            "a,b",
            "..",
            "a..",
            "a..:80",
            ".a",
            "a..b",
            "user@a",
            "user:pass@a",
            "a@b:80",
            "a%2eb",
            "a\tb",
            " a",
            "a ",
        ] {
            assert!(Host::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn json_is_returned_only_if_accept_names_it() {
        for (accept, form) in [
            ("", TokenForm::Plain),
            ("*/*", TokenForm::Plain),
            ("text/plain", TokenForm::Plain),
            ("application/json", TokenForm::Json),
            ("text/html, Application/JSON;q=0.5", TokenForm::Json),
            ("application/json;q=0", TokenForm::Plain),
            ("application/json; q=0.000", TokenForm::Plain),
            ("application/jsonp", TokenForm::Plain),
        ] {
            assert_eq!(TokenForm::accepted(accept.as_bytes()), form, "{accept}");
        }
    }

    #[test]
    fn content_type_parameters_do_not_matter() {
        assert!(is_json(b"application/json"));
        assert!(is_json(b"Application/Json; charset=utf-8"));
        assert!(!is_json(b"text/plain"));
        assert!(!is_json(b"application/json-patch+json"));
    }
}
