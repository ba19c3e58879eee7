//! The path a request asks for, in two readings: as it was sent, and as the most generous service could read it.
//!
//! A [`Path`] that exists has one meaning for every service that follows RFC 3986. What services are known to read
//! differently is refused, or, where the operator tolerates it, judged in both readings.

use std::{borrow::Cow, fmt};

use percent_encoding::percent_decode;

/// A path without its query, safe to match rules against.
#[derive(Clone, PartialEq, Eq)]
pub struct Path<'a> {
    raw: &'a str,
    loose: Cow<'a, str>,
}

impl<'a> Path<'a> {
    /// Reads a request target in origin form (RFC 9112, 3.2.1); everything from the first `?` on is cut off.
    ///
    /// # Errors
    ///
    /// The first reason why two services could read this path differently.
    pub fn parse(target: &'a [u8], tolerance: Tolerance) -> Result<Self, PathFault> {
        let raw = target.split(|byte| *byte == b'?').next().unwrap_or(target);
        let plain = scan(raw, tolerance)?;
        let raw = str::from_utf8(raw).map_err(|_| PathFault::Character)?;
        let loose = if plain {
            Cow::Borrowed(raw)
        } else {
            Cow::Owned(loosen(raw, tolerance)?)
        };
        Ok(Self { raw, loose })
    }

    /// The path as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// The path as the most generous service could read it: escapes decoded, parameters and a trailing slash cut,
    /// slashes merged, ASCII letters in lower case.
    #[must_use]
    pub fn loose(&self) -> &str {
        &self.loose
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.raw, f)
    }
}

/// Which ambiguous spellings the operator lets through. Dot segments, backslashes, fragments, control bytes and
/// broken escapes are never tolerated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// `%2F`
    pub encoded_slash: bool,
    /// `%25`
    pub encoded_percent: bool,
    /// `;`
    pub semicolon: bool,
    /// `//`
    pub double_slash: bool,
}

/// Why a path has more than one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Empty, `*`, or an absolute URL.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// Blank, control or non-ASCII.
    #[error("a byte that is not a visible ASCII character")]
    Character,
    /// `%` without two hexadecimal digits, or escapes that do not make UTF-8.
    #[error("a broken percent escape")]
    BrokenEscape,
    /// `%00` to `%1F`, `%7F`.
    #[error("an escaped control character")]
    EncodedControl,
    /// `%2F`.
    #[error("an escaped slash")]
    EncodedSlash,
    /// `%25`.
    #[error("an escaped percent sign")]
    EncodedPercent,
    /// `\` or `%5C`.
    #[error("a backslash")]
    Backslash,
    /// `;` or `%3B`.
    #[error("a semicolon")]
    Semicolon,
    /// `#`.
    #[error("a fragment")]
    Fragment,
    /// `//`.
    #[error("an empty segment")]
    EmptySegment,
    /// `.` or `..`, escaped or not.
    #[error("a dot segment")]
    DotSegment,
}

/// Refuses what no reading can save, and says whether the path reads the same in every reading.
fn scan(raw: &[u8], tolerance: Tolerance) -> Result<bool, PathFault> {
    if raw.first() != Some(&b'/') {
        return Err(PathFault::NotAbsolute);
    }
    let mut plain = raw.len() == 1 || raw.last() != Some(&b'/');
    let mut previous = 0;
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let escaped = bytes.next().and_then(hex).zip(bytes.next().and_then(hex));
                let (high, low) = escaped.ok_or(PathFault::BrokenEscape)?;
                match high << 4 | low {
                    b'/' if !tolerance.encoded_slash => return Err(PathFault::EncodedSlash),
                    b'%' if !tolerance.encoded_percent => return Err(PathFault::EncodedPercent),
                    _ => plain = false,
                }
            }
            b'\\' => return Err(PathFault::Backslash),
            b'#' => return Err(PathFault::Fragment),
            b';' if !tolerance.semicolon => return Err(PathFault::Semicolon),
            b'/' if previous == b'/' && !tolerance.double_slash => {
                return Err(PathFault::EmptySegment);
            }
            b'.' | b'/' if previous == b'/' => plain = false,
            b';' | b'A'..=b'Z' => plain = false,
            0..=b' ' | 0x7f.. => return Err(PathFault::Character),
            _ => {}
        }
        previous = byte;
    }
    Ok(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn loosen(raw: &str, tolerance: Tolerance) -> Result<String, PathFault> {
    let mut text = Cow::Borrowed(raw.as_bytes());
    while text.contains(&b'%') {
        let decoded: Cow<'_, [u8]> = percent_decode(&text).into();
        if decoded == text {
            break;
        }
        text = Cow::Owned(decoded.into_owned());
    }
    let text = str::from_utf8(&text).map_err(|_| PathFault::BrokenEscape)?;
    if text.contains(|c: char| c.is_control()) {
        return Err(PathFault::EncodedControl);
    }
    if text.contains('\\') {
        return Err(PathFault::Backslash);
    }
    if text.contains(';') && !tolerance.semicolon {
        return Err(PathFault::Semicolon);
    }
    if text.contains("//") && !tolerance.double_slash {
        return Err(PathFault::EmptySegment);
    }
    let mut loose = String::with_capacity(text.len());
    // One service stops reading at an escaped `?` or `#`, and another one does not.
    let mut stopped = false;
    for segment in text.split('/') {
        match segment.split([';', '?', '#']).next().unwrap_or(segment) {
            "." | ".." => return Err(PathFault::DotSegment),
            name if name.is_empty() || stopped => {}
            name => {
                loose.push('/');
                loose.push_str(name);
            }
        }
        stopped |= segment.contains(['?', '#']);
    }
    if loose.is_empty() {
        loose.push('/');
    }
    loose.make_ascii_lowercase();
    Ok(loose)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STRICT: Tolerance = Tolerance {
        encoded_slash: false,
        encoded_percent: false,
        semicolon: false,
        double_slash: false,
    };
    const RELAXED: Tolerance = Tolerance {
        encoded_slash: true,
        encoded_percent: true,
        semicolon: true,
        double_slash: true,
    };

    fn fault(target: &str) -> PathFault {
        Path::parse(target.as_bytes(), STRICT).expect_err(target)
    }

    fn loose(target: &str, tolerance: Tolerance) -> String {
        Path::parse(target.as_bytes(), tolerance)
            .unwrap_or_else(|fault| panic!("{target}: {fault}"))
            .loose()
            .to_owned()
    }

    #[test]
    fn ambiguous_paths_are_refused_by_name() {
        for (target, expected) in [
            ("", PathFault::NotAbsolute),
            ("*", PathFault::NotAbsolute),
            ("admin", PathFault::NotAbsolute),
            ("http://a/b", PathFault::NotAbsolute),
            ("?x=/y", PathFault::NotAbsolute),
            ("/a b", PathFault::Character),
            ("/a\tb", PathFault::Character),
            ("/a\u{7f}", PathFault::Character),
            ("/café", PathFault::Character),
            ("/a%", PathFault::BrokenEscape),
            ("/a%4", PathFault::BrokenEscape),
            ("/a%zz", PathFault::BrokenEscape),
            ("/a%+1", PathFault::BrokenEscape),
            ("/a%c0%af", PathFault::BrokenEscape),
            ("/a%00", PathFault::EncodedControl),
            ("/a%0d%0a", PathFault::EncodedControl),
            ("/a%7F", PathFault::EncodedControl),
            ("/admin%2f..", PathFault::EncodedSlash),
            ("/admin%2F", PathFault::EncodedSlash),
            ("/a%252e", PathFault::EncodedPercent),
            ("/a\\b", PathFault::Backslash),
            ("/a%5cb", PathFault::Backslash),
            ("/admin;x", PathFault::Semicolon),
            ("/admin%3bx", PathFault::Semicolon),
            ("/..;/admin", PathFault::Semicolon),
            ("/a#b", PathFault::Fragment),
            ("//admin", PathFault::EmptySegment),
            ("/a//b", PathFault::EmptySegment),
            ("/x/../admin", PathFault::DotSegment),
            ("/x/%2e%2e/admin", PathFault::DotSegment),
            ("/x/.%2E/admin", PathFault::DotSegment),
            ("/./admin", PathFault::DotSegment),
            ("/admin/.", PathFault::DotSegment),
            ("/admin/..", PathFault::DotSegment),
            ("/open%3f/../admin", PathFault::DotSegment),
            ("/open%23x/%2e%2e/admin", PathFault::DotSegment),
            ("/..%3f", PathFault::DotSegment),
        ] {
            assert_eq!(fault(target), expected, "{target}");
        }
    }

    #[test]
    fn what_is_never_tolerated_stays_refused_when_all_else_is() {
        for target in [
            "/x/../y",
            "/x/%2e%2e/y",
            "/x/%252e%252e/y",
            "/x/..;a=b/y",
            "/a;%3fx=.q/..;/b",
            "/x%2f..%2fy",
            "/a\\b",
            "/a%5cb",
            "/a%255cb",
            "/a#b",
            "/a%00",
            "/a%2500",
            "/a%zz",
            "/caf\u{e9}",
        ] {
            assert!(Path::parse(target.as_bytes(), RELAXED).is_err(), "{target}");
        }
    }

    #[test]
    fn the_query_is_not_part_of_the_path() {
        let path = Path::parse(b"/a/b?x=//../%2f;#\xff", STRICT).unwrap();
        assert_eq!(path.as_str(), "/a/b");
        assert_eq!(path.loose(), "/a/b");
    }

    #[test]
    fn the_loose_reading_is_the_most_generous_one() {
        for (target, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a"),
            ("/Admin/Users", "/admin/users"),
            ("/%61dmin", "/admin"),
            ("/a%20b", "/a b"),
            ("/caf%C3%A9", "/café"),
            ("/admin%3fx", "/admin"),
            ("/admin%23x", "/admin"),
            ("/admin/%3fx/y", "/admin"),
            ("/%3f", "/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a.b/...", "/a.b/..."),
        ] {
            assert_eq!(loose(target, STRICT), expected, "{target}");
        }
        for (target, expected) in [
            ("//admin", "/admin"),
            ("/a%2fb", "/a/b"),
            ("/a%252fb", "/a/b"),
            ("/admin;x=1/y;z", "/admin/y"),
            ("//", "/"),
        ] {
            assert_eq!(loose(target, RELAXED), expected, "{target}");
        }
    }

    #[test]
    fn a_plain_path_is_borrowed() {
        for target in ["/", "/profile", "/api/v1/things-and_more/42.json"] {
            let path = Path::parse(target.as_bytes(), STRICT).unwrap();
            assert!(matches!(path.loose, Cow::Borrowed(_)), "{target}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_the_loose_reading_is_stable(target: Vec<u8>, relaxed: bool) {
            let tolerance = if relaxed { RELAXED } else { STRICT };
            if let Ok(path) = Path::parse(&target, tolerance) {
                prop_assert!(path.as_str().starts_with('/'));
                prop_assert!(path.loose().starts_with('/'));
            }
        }

        #[test]
        fn a_path_that_parses_parses_again_to_itself(target in "(/([a-zA-Z0-9%.;_/-]|%3f|%23|%2e){0,6}){1,4}", relaxed: bool) {
            let tolerance = if relaxed { RELAXED } else { STRICT };
            if let Ok(path) = Path::parse(target.as_bytes(), tolerance) {
                let again = Path::parse(path.as_str().as_bytes(), tolerance).unwrap();
                prop_assert_eq!(&again, &path);
                let loose = path.loose().to_owned();
                if loose.is_ascii() && !loose.contains(['%', ' ']) {
                    let again = Path::parse(loose.as_bytes(), tolerance).unwrap();
                    prop_assert_eq!(again.loose(), &*loose);
                }
            }
        }

        #[test]
        fn the_loose_reading_never_holds_what_the_strict_one_refuses(target in "(/([a-z%0-9A-F.;/\\\\]|%3f|%23|\\.\\.|%2e){0,8}){1,4}") {
            if let Ok(path) = Path::parse(target.as_bytes(), STRICT) {
                let decoded = path.as_str().to_lowercase().replace("%2e", ".");
                prop_assert!(!decoded.split('/').any(|part| part == "." || part == ".."));
                for part in path.loose().split('/').skip(1) {
                    prop_assert!(part != "." && part != "..");
                }
                prop_assert!(!path.loose().contains("//"));
                prop_assert!(!path.loose().contains(['\\', ';']));
            }
        }
    }
}
