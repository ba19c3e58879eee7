//! The request of a follower.

use super::{FORMAT, MOST_CONTENTS, cursor::Cursor, fault::QueryFault};

/// A request of a follower, from the query of a URL.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    pub(super) since: Option<Cursor>,
    /// The digests of the contents that the follower has.
    pub(super) have: Vec<&'a str>,
    pub(super) ask: &'a str,
}

impl<'a> Query<'a> {
    /// Reads the query of a URL, without the `?`.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub fn parse(query: &'a str) -> Result<Self, QueryFault> {
        let mut own = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(QueryFault::Twice);
            }
            seen.push(name);
            match name {
                "format" if value == FORMAT.to_string() => {}
                "format" => return Err(QueryFault::Format),
                "since" => own.since = Some(Cursor::parse(value).ok_or(QueryFault::Cursor)?),
                "have" => own.have = digests(value)?,
                "ask" if is_nonce(value) => own.ask = value,
                "ask" => return Err(QueryFault::Ask),
                _ => return Err(QueryFault::Unknown),
            }
        }
        Ok(own)
    }
}

fn digests(value: &str) -> Result<Vec<&str>, QueryFault> {
    let digests: Vec<_> = value.split(',').collect();
    let possible = |digest: &&str| is_nonce(digest);
    match digests.len() <= MOST_CONTENTS && digests.iter().all(possible) {
        true => Ok(digests),
        false => Err(QueryFault::Have),
    }
}

fn is_nonce(text: &str) -> bool {
    let possible = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_read_strictly() {
        let asked = Query::parse("format=1&since=a.1&have=aa,bb&ask=x-1").unwrap();
        assert_eq!((&*asked.have, asked.ask), (&["aa", "bb"][..], "x-1"));
        assert!(asked.since.unwrap().at("a").is_some());
        assert!(Query::parse("").unwrap().since.is_none());
        for (query, fault) in [
            ("format=2", QueryFault::Format),
            ("format=", QueryFault::Format),
            ("since=a%20b", QueryFault::Cursor),
            ("since=a.1&since=a.2", QueryFault::Twice),
            ("have=", QueryFault::Have),
            ("have=a,b,c,d,e", QueryFault::Have),
            ("ask=", QueryFault::Ask),
            ("ask=\"", QueryFault::Ask),
            ("Since=a.1", QueryFault::Unknown),
            ("x", QueryFault::Unknown),
        ] {
            assert_eq!(Query::parse(query).unwrap_err(), fault, "{query}");
        }
    }
}
