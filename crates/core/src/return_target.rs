//! Where a browser goes after it has signed in: a path on the same host, and never anything that some browser could read
//! as another one.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::path::{Path, Tolerance};

/// A path with its query, in origin form. It begins with one slash and has only visible ASCII characters without
/// backslashes and fragments.
#[derive(Clone, PartialEq, Eq)]
pub struct ReturnTarget(String);

/// The longest target, in bytes. A longer one is cut before its query, or is the root.
pub const MAX_TARGET: usize = 2048;

/// The spellings that a service may tolerate. They are judged again when the browser asks for them.
const ANY_SERVICE: Tolerance = Tolerance {
    encoded_slash: true,
    encoded_percent: true,
    semicolon: true,
    double_slash: true,
    also: super::path::Also {
        extension: false,
        trailing_dot: false,
    },
};

impl ReturnTarget {
    /// The root of the host.
    #[must_use]
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Reads a target; `None` if it is not certainly one on the same host. [`Path`] refuses, as written and as decoded,
    /// two slashes at the beginning, backslashes, control characters and dot segments.
    #[must_use]
    pub fn parse(target: &[u8]) -> Option<Self> {
        let is_plain =
            (target.iter()).all(|byte| matches!(byte, b'!'..=b'~') && !b"\\#".contains(byte));
        if target.len() > MAX_TARGET || !is_plain {
            return None;
        }
        Path::parse(target, ANY_SERVICE).ok()?;
        let target = str::from_utf8(target).ok()?;
        Some(Self(target.into()))
    }

    /// The target of a request that was judged, without its query if that is too long or has characters that are not
    /// allowed.
    #[must_use]
    pub fn of_request(target: &[u8]) -> Self {
        let path = target
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default();
        let whole = Self::parse(target).or_else(|| Self::parse(path));
        whole.unwrap_or_else(Self::root)
    }

    /// The member `return` of the query of a page's target. Anything that is no target is the root.
    #[must_use]
    pub fn in_query(target: &[u8]) -> Self {
        let query = target.splitn(2, |byte| *byte == b'?').nth(1);
        let mut members = form_urlencoded::parse(query.unwrap_or_default())
            .filter(|(name, _)| name == MEMBER)
            .map(|(_, value)| value);
        match (members.next(), members.next()) {
            (Some(value), None) => Self::parse(value.as_bytes()).unwrap_or_else(Self::root),
            (_, _) => Self::root(),
        }
    }

    /// The path with its query.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.split('?').next().unwrap_or_default()
    }

    /// The same path without a query.
    #[must_use]
    pub fn without_query(&self) -> Self {
        Self(self.path().to_owned())
    }

    /// The target of a page that returns here.
    #[must_use]
    pub fn behind(&self, page: &str) -> String {
        format!("{page}?{MEMBER}={}", utf8_percent_encode(&self.0, ESCAPED))
    }
}

/// Omits the query, which may contain secrets.
impl fmt::Debug for ReturnTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.path(), f)
    }
}

/// The member of the query with the target.
const MEMBER: &str = "return";

/// What a form or a gateway could read as the end of the value.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'+')
    .add(b',')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'`');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Known ways to make a browser, a library or a gateway leave the host.
    const ATTEMPTS: &[&str] = &[
        "",
        "evil",
        "evil.example",
        "//evil.example",
        "///evil.example",
        "////evil.example/",
        "/\\evil.example",
        "\\/evil.example",
        "\\\\evil.example",
        "/\\/evil.example",
        "//\\evil.example",
        "\\evil.example",
        "http://evil.example",
        "https://evil.example/",
        "https:evil.example",
        "http:/evil.example",
        "HTTPS://evil.example",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "mailto:a@evil.example",
        "blob:https://evil.example/1",
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r/evil.example",
        "/\r\nLocation: https://evil.example",
        "\t//evil.example",
        " //evil.example",
        "\u{0}//evil.example",
        "/\u{0}/evil.example",
        "/\u{b}/evil.example",
        "/\u{c}/evil.example",
        "/ /evil.example",
        "/%09/evil.example",
        "/%0a/evil.example",
        "/%0d/evil.example",
        "/%00/evil.example",
        "/%2f/evil.example",
        "/%2fevil.example",
        "/%2F%2Fevil.example",
        "/%5cevil.example",
        "/%5C/evil.example",
        "/%252f/evil.example",
        "/%255cevil.example",
        "/%2509/evil.example",
        "/.//evil.example",
        "/..//evil.example",
        "/./evil",
        "/a/../..//evil.example",
        "/%2e%2e//evil.example",
        "/;//evil.example",
        "/;/evil.example",
        "/%3b//evil.example",
        "/\u{ff0f}evil.example",
        "/%ef%bc%8fevil.example",
        "/%ef%bc%bcevil.example",
        "/\u{2215}evil.example",
        "\u{3000}//evil.example",
        "/\u{85}/evil.example",
        "//evil.example@gateway.example",
        "//gateway.example@evil.example",
        "@evil.example",
        "?next=//evil.example",
        "#//evil.example",
        "/#//evil.example",
        "/a#b",
        "/a\\b",
        "/a?b=\\",
        "/a?b=\r\nSet-Cookie:%20x",
        "/a?b=\u{e9}",
        "/%",
        "/%zz",
        "*",
    ];

    #[test]
    fn nothing_leaves_the_host() {
        assert!(ATTEMPTS.len() >= 40);
        for attempt in ATTEMPTS {
            assert!(
                ReturnTarget::parse(attempt.as_bytes()).is_none(),
                "{attempt:?}"
            );
            let page = format!(
                "/sign-in?return={}",
                form_urlencoded::byte_serialize(attempt.as_bytes()).collect::<String>()
            );
            assert_eq!(
                ReturnTarget::in_query(page.as_bytes()).as_str(),
                "/",
                "{attempt:?}"
            );
        }
    }

    #[test]
    fn paths_of_this_host_are_kept_with_their_query() {
        for target in [
            "/",
            "/a",
            "/a/b?c=d&e=%20f",
            "/a?next=//other.example/&u=https://other.example/",
            "/a;b=c",
            "/a//b",
            "/a%2Fb",
            "/%C3%A9",
            "/@user",
            "/a:b",
        ] {
            let parsed = ReturnTarget::parse(target.as_bytes()).unwrap();
            assert_eq!(parsed.as_str(), target);
            let page = parsed.behind("/sign-in");
            assert_eq!(ReturnTarget::in_query(page.as_bytes()), parsed, "{page}");
        }
        let long = format!("/a?{}", "b".repeat(MAX_TARGET));
        assert_eq!(ReturnTarget::of_request(long.as_bytes()).as_str(), "/a");
        assert_eq!(ReturnTarget::of_request(b"/a?\\").as_str(), "/a");
        assert_eq!(ReturnTarget::of_request(b"").as_str(), "/");
        for twice in ["/s?return=/a&return=/b", "/s", "/s?", "/s?x=/a"] {
            assert_eq!(
                ReturnTarget::in_query(twice.as_bytes()).as_str(),
                "/",
                "{twice}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_target_is_always_read_as_a_path_of_the_same_host(
            text in "(/|\\\\|%2f|%5c|%09|//|[ -~]){0,12}",
        ) {
            if let Some(target) = ReturnTarget::parse(text.as_bytes()) {
                let target = target.as_str();
                prop_assert!(target.starts_with('/') && !target.starts_with("//"));
                prop_assert!(target.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'\\'));
                let page = ReturnTarget(target.into()).behind("/sign-in");
                prop_assert!(!page.contains(' ') && page.matches('=').count() == 1);
            }
        }
    }
}
