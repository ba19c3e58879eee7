//! The path of a request, in two readings: as it was sent, and as the most generous service could read it.
//!
//! A [`Path`] has one meaning for every service that follows RFC 3986. A spelling that services are known to read
//! differently is refused, or judged in both readings if the operator tolerates it.

mod fold;

use std::{borrow::Cow, fmt};

use percent_encoding::percent_decode;

use self::fold::fold;

/// A path without its query, safe to match rules against.
#[derive(Clone, PartialEq, Eq)]
pub struct Path<'a> {
    raw: &'a str,
    loose: Cow<'a, str>,
    has_extension: bool,
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
        let has_extension = tolerance.also.extension
            && (loose.rsplit('/').next()).is_some_and(|segment| segment.contains('.'));
        Ok(Self {
            raw,
            loose,
            has_extension,
        })
    }

    /// The path as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// The path as the most generous service could read it: escapes decoded, parameters and a trailing slash cut,
    /// slashes merged, case and compatibility characters folded as Unicode does; what [`Tolerance::also`] names is cut,
    /// except an extension.
    #[must_use]
    pub fn loose(&self) -> &str {
        &self.loose
    }

    /// Whether some service ignores the extension of the last segment ([`Also::extension`]).
    #[must_use]
    pub fn has_extension(&self) -> bool {
        self.has_extension
    }
}

impl fmt::Debug for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.raw, f)
    }
}

/// Which ambiguous spellings the operator tolerates, and what else the service reads differently. Dot segments,
/// backslashes, fragments, control bytes, broken escapes and two slashes at the beginning are never tolerated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// `%2F`
    pub encoded_slash: bool,
    /// `%25`
    pub encoded_percent: bool,
    /// `;`
    pub semicolon: bool,
    /// `//`, but not at the beginning, where Node's `new URL` and Python's `urlsplit` read a host.
    pub double_slash: bool,
    /// Additional readings of the service.
    pub also: Also,
}

/// What only some services cut off. Each gives one more reading in which a path is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Also {
    /// An extension of the last segment: Rails reads `/admin.json` as `/admin`.
    pub extension: bool,
    /// Dots and blanks at the end of segments: Windows reads `admin.` and `admin ` as `admin`.
    pub trailing_dot: bool,
}

impl Tolerance {
    /// Tolerates the spelling with this name in `paths.tolerate`; returns whether there is one.
    #[must_use]
    pub fn tolerate(&mut self, name: &str) -> bool {
        switch_on(self.spellings(), name)
    }

    /// The names of the tolerated spellings, as in `paths.tolerate`.
    #[must_use]
    pub fn tolerated(mut self) -> Vec<&'static str> {
        switched_on(self.spellings())
    }

    fn spellings(&mut self) -> [(&'static str, &mut bool); 4] {
        let Self {
            encoded_slash,
            encoded_percent,
            semicolon,
            double_slash,
            also: _,
        } = self;
        [
            ("encoded-slash", encoded_slash),
            ("encoded-percent", encoded_percent),
            ("semicolon", semicolon),
            ("double-slash", double_slash),
        ]
    }
}

impl Also {
    /// Adds the reading with this name in `paths.also`; returns whether there is one.
    #[must_use]
    pub fn cut(&mut self, name: &str) -> bool {
        switch_on(self.readings(), name)
    }

    /// The names of the readings, as in `paths.also`.
    #[must_use]
    pub fn names(mut self) -> Vec<&'static str> {
        switched_on(self.readings())
    }

    fn readings(&mut self) -> [(&'static str, &mut bool); 2] {
        let Self {
            extension,
            trailing_dot,
        } = self;
        [("extension", extension), ("trailing-dot", trailing_dot)]
    }
}

fn switch_on<const N: usize>(flags: [(&'static str, &mut bool); N], name: &str) -> bool {
    let flag = flags.into_iter().find(|(own, _)| *own == name);
    match flag {
        Some((_, flag)) => {
            *flag = true;
            true
        }
        None => false,
    }
}

fn switched_on<const N: usize>(flags: [(&'static str, &mut bool); N]) -> Vec<&'static str> {
    let on = flags.into_iter().filter(|(_, flag)| **flag);
    on.map(|(name, _)| name).collect()
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

/// Refuses spellings that are never tolerated, and says whether the path is the same in every reading.
fn scan(raw: &[u8], tolerance: Tolerance) -> Result<bool, PathFault> {
    if raw.first() != Some(&b'/') {
        return Err(PathFault::NotAbsolute);
    }
    if raw.starts_with(b"//") {
        return Err(PathFault::EmptySegment);
    }
    let mut plain = match raw.last() {
        Some(b'/') => raw.len() == 1,
        Some(b'.') => !tolerance.also.trailing_dot,
        Some(_) | None => true,
    };
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
            b'/' if previous == b'.' && tolerance.also.trailing_dot => plain = false,
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

/// Decodes escapes and folds non-ASCII characters until nothing changes: a full-width `%` can begin an escape, too.
fn decode(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    let mut text = Cow::Borrowed(raw.as_bytes());
    loop {
        while text.contains(&b'%') {
            let decoded: Cow<'_, [u8]> = percent_decode(&text).into();
            if decoded == text {
                break;
            }
            text = Cow::Owned(decoded.into_owned());
        }
        if text.is_ascii() {
            break;
        }
        let read = str::from_utf8(&text).map_err(|_| PathFault::BrokenEscape)?;
        let folded = fold(read).ok_or(PathFault::Character)?;
        if folded == read {
            break;
        }
        text = Cow::Owned(folded.into_bytes());
    }
    match text {
        Cow::Borrowed(_) => Ok(Cow::Borrowed(raw)),
        Cow::Owned(text) => {
            let text = String::from_utf8(text).map_err(|_| PathFault::BrokenEscape)?;
            Ok(Cow::Owned(text))
        }
    }
}

fn loosen(raw: &str, tolerance: Tolerance) -> Result<String, PathFault> {
    let text = decode(raw)?;
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
    // Some read a host after two slashes; a first segment that has only parameters may be cut to an empty one.
    if text.starts_with("//")
        || (text.starts_with("/;") && text.trim_start_matches('/').contains('/'))
    {
        return Err(PathFault::EmptySegment);
    }
    let mut loose = String::with_capacity(text.len());
    // Some services stop reading at an escaped `?` or `#`, others do not.
    let mut stopped = false;
    for segment in text.split('/') {
        let name = segment.split([';', '?', '#']).next().unwrap_or(segment);
        // Windows reads `.. ` as `..`.
        if matches!(name.trim_end_matches(' '), "." | "..") {
            return Err(PathFault::DotSegment);
        }
        let name = match tolerance.also.trailing_dot {
            true => name.trim_end_matches(['.', ' ']),
            false => name,
        };
        if !name.is_empty() && !stopped {
            loose.push('/');
            loose.push_str(name);
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
mod tests;
