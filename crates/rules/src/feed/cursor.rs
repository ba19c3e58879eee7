//! How far a follower has read, for each replica that has answered it. Only Doorward makes and reads cursors.

use std::fmt;

use super::MOST_REPLICAS;

/// Positions in the journals of replicas; the replica that answered last is the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor(Vec<Position>);

/// A position in the journal of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) replica: String,
    pub(super) at: u64,
    /// Where the list of everything ends; `None` if the follower has read it completely.
    pub(super) until: Option<u64>,
}

/// The longest cursor, in bytes.
const LONGEST: usize = 1024;

impl Cursor {
    /// Reads a cursor; `None` if it has characters that no cursor has, or is too long. A cursor of another form has no
    /// positions.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let possible = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if text.len() > LONGEST || !text.bytes().all(possible) {
            return None;
        }
        let positions: Option<Vec<_>> = text.split('~').map(Position::parse).collect();
        Some(Self(positions.unwrap_or_default()))
    }

    /// The position at a replica.
    pub(super) fn at(&self, replica: &str) -> Option<&Position> {
        self.0.iter().find(|own| own.replica == replica)
    }

    /// The same with another position at a replica. Drops the replica that has not answered for the longest time.
    pub(super) fn with(mut self, position: Position) -> Self {
        self.0.retain(|own| own.replica != position.replica);
        self.0.insert(0, position);
        self.0.truncate(MOST_REPLICAS);
        self
    }
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let replica = parts.next().filter(|name| !name.is_empty())?.to_owned();
        let at = number(parts.next()?)?;
        let until = match parts.next() {
            None => None,
            Some(until) => Some(number(until)?),
        };
        parts
            .next()
            .is_none()
            .then_some(Self { replica, at, until })
    }
}

/// A number in the only form in which it is written here.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Position { replica, at, until }) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "~" };
            write!(f, "{between}{replica}.{at}")?;
            if let Some(until) = until {
                write!(f, ".{until}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_parses_back_to_its_text() {
        for text in ["a.0", "a.7.9~b.18446744073709551615", "0f.1~1e.2~2d.3"] {
            let cursor = Cursor::parse(text).unwrap();
            assert_eq!(cursor.to_string(), text);
        }
        for unknown in [
            "",
            "a",
            "a.",
            ".1",
            "a.01",
            "a.1.2.3",
            "a.1~",
            "a.-1",
            "2~new-format_1",
        ] {
            assert_eq!(Cursor::parse(unknown), Some(Cursor::default()), "{unknown}");
        }
        for malformed in ["a b", "a.1\n", "\u{e9}", "a.1&x", &"a".repeat(1025)] {
            assert_eq!(Cursor::parse(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn the_length_of_a_cursor_is_bounded() {
        let mut cursor = Cursor::default();
        for number in 0..100 {
            cursor = cursor.with(Position {
                replica: format!("{number:012x}"),
                at: u64::MAX,
                until: Some(u64::MAX),
            });
        }
        let text = cursor.to_string();
        assert!(text.len() <= LONGEST, "{}", text.len());
        assert_eq!(Cursor::parse(&text), Some(cursor.clone()));
        assert!(cursor.at("000000000063").is_some());
        assert!(cursor.at("000000000000").is_none());
    }
}
