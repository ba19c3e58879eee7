//! Names, roles and identities.

use std::{borrow::Cow, fmt};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The role of administrators.
pub const ADMIN: &str = "admin";

/// A user name: 1 to 255 bytes without colon (RFC 7617, 2) and control characters. Names are compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(Box<str>);

impl Username {
    /// Parses a user name; `None` if it is invalid.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let possible =
            (1..=255).contains(&name.len()) && !name.contains(|c: char| c == ':' || c.is_control());
        possible.then(|| Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a header value. Percent-encodes everything except visible ASCII, and also commas and percent
    /// signs, so that one name cannot look like two values.
    #[must_use]
    pub fn header_value(&self) -> Cow<'_, str> {
        match &*self.0 {
            // A lone "-" means that there is no user.
            "-" => "%2D".into(),
            name => utf8_percent_encode(name, NOT_IN_HEADER).into(),
        }
    }
}

const NOT_IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');

/// A role: 1 to 64 bytes of letters, digits, `.`, `_`, `:` and `-`, starting with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(Box<str>);

impl Role {
    /// Parses a role; `None` if it is invalid.
    #[must_use]
    pub fn parse(role: &str) -> Option<Self> {
        let possible = role.len() <= 64
            && role.starts_with(|c: char| c.is_ascii_alphanumeric())
            && role
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
        possible.then(|| Self(role.into()))
    }

    /// The role of administrators.
    #[must_use]
    pub fn admin() -> Self {
        Self(ADMIN.into())
    }

    /// The role as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A sorted set of at most 32 roles.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Roles(Vec<Role>);

/// Why roles are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RolesFault {
    /// Not a valid [`Role`].
    #[error(
        "{0:?} is not a role; write letters, digits, \".\", \"_\", \":\" and \"-\", at most 64, beginning with a letter or digit"
    )]
    Impossible(String),
    /// More than [`Roles::MAX`] roles.
    #[error("more than {} roles", Roles::MAX)]
    TooMany,
}

impl Roles {
    /// The most roles of one account, so that they fit into a header.
    pub const MAX: usize = 32;

    /// Collects roles into a sorted set.
    ///
    /// # Errors
    ///
    /// More than [`Roles::MAX`] roles.
    pub fn collect(roles: impl IntoIterator<Item = Role>) -> Result<Self, RolesFault> {
        let mut roles: Vec<_> = roles.into_iter().collect();
        roles.sort();
        roles.dedup();
        if roles.len() > Self::MAX {
            return Err(RolesFault::TooMany);
        }
        Ok(Self(roles))
    }

    /// Parses role names.
    ///
    /// # Errors
    ///
    /// The first invalid name, or too many roles.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, RolesFault> {
        let roles: Result<Vec<_>, _> = names
            .into_iter()
            .map(|name| Role::parse(name).ok_or_else(|| RolesFault::Impossible(name.into())))
            .collect();
        Self::collect(roles?)
    }

    /// Parses a comma-separated list, the form of the user table.
    ///
    /// # Errors
    ///
    /// As for [`Roles::parse`].
    pub fn parse_list(list: &str) -> Result<Self, RolesFault> {
        Self::parse(
            list.split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty()),
        )
    }

    /// Whether the set contains a role.
    #[must_use]
    pub fn contains(&self, role: &Role) -> bool {
        self.0.binary_search(role).is_ok()
    }

    /// Whether the set contains the role of administrators.
    #[must_use]
    pub fn admin(&self) -> bool {
        self.0.iter().any(|role| role.as_str() == ADMIN)
    }

    /// The roles, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.0.iter()
    }
}

/// Comma-separated, as in the user table and the header; empty without roles.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(role.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// The user that a token identifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id, which never changes.
    pub subject: String,
    /// The user name.
    pub username: Username,
    /// The roles at the time of the login.
    pub roles: Roles,
}

/// The canonical form of a new name: 3 to 64 lower-case ASCII letters, digits, `.`, `_`, `+`, `@` and `-`, beginning
/// with a letter or digit. No two such names look alike to a person or compare equal in a collation.
#[must_use]
pub fn canonical_name(name: &str) -> Option<Username> {
    let canonical = (3..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._+@-".contains(&b));
    canonical.then(|| Username::parse(name)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_headers_are_one_visible_ascii_value() {
        for (name, value) in [
            ("ada", "ada"),
            ("ada.l+x@example.com", "ada.l+x@example.com"),
            ("José Ö", "Jos%C3%A9%20%C3%96"),
            ("a,b", "a%2Cb"),
            ("100%", "100%25"),
            ("-", "%2D"),
            ("a-b", "a-b"),
        ] {
            assert_eq!(Username::parse(name).unwrap().header_value(), value);
        }
    }

    #[test]
    fn invalid_names_do_not_parse() {
        for name in ["", "a:b", "a\nb", "a\u{0}", "a\u{85}", &"a".repeat(256)] {
            assert_eq!(Username::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn names_are_compared_byte_for_byte() {
        let name = |name| Username::parse(name).unwrap();
        for other in ["Ada", "ada ", "\u{e1}da", "ada\u{200b}"] {
            assert_ne!(name("ada"), name(other));
        }
    }

    #[test]
    fn roles_are_a_sorted_set() {
        let roles = Roles::parse_list(" editor, admin ,editor,").unwrap();
        assert_eq!(roles.to_string(), "admin,editor");
        assert!(roles.admin() && roles.contains(&Role::parse("editor").unwrap()));
        assert!(!Roles::default().admin());
        assert_eq!(Roles::default().to_string(), "");
    }

    #[test]
    fn roles_that_could_break_a_header_are_refused() {
        for role in ["-", "a b", "a\r\nx: y", "é", "a,b", &"a".repeat(65)] {
            assert_eq!(Role::parse(role), None, "{role:?}");
        }
        let many: Vec<_> = (0..33).map(|n| format!("r{n}")).collect();
        assert_eq!(
            Roles::parse(many.iter().map(String::as_str)),
            Err(RolesFault::TooMany)
        );
    }

    #[test]
    fn new_names_must_be_canonical() {
        for good in ["ada", "ada.lovelace@example.com", "7of9", "a-b_c+d"] {
            assert!(canonical_name(good).is_some(), "{good}");
        }
        for bad in [
            "ad",
            "Ada",
            " ada",
            "ada ",
            "\u{e0}da",
            "a\u{200b}da",
            "-ada",
            "a da",
            "a:b",
            &"a".repeat(65),
        ] {
            assert!(canonical_name(bad).is_none(), "{bad}");
        }
    }
}
