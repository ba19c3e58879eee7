//! The names of the headers that identify the user to a service, and the names that a service could read as one of
//! them. Contains no values and no doors.
//!
//! CGI (RFC 3875, 4.1.18) turns `x-auth-user` into `HTTP_X_AUTH_USER`. Servers differ in which other bytes become `_`;
//! for lighttpd it is every byte that is neither a letter nor a digit. So all of these bytes count as the same
//! separator here.

mod names;

use std::{fmt, sync::LazyLock};

pub use self::names::{AssertionHeader, IdentityNames, KeyHeader, NamesFault};

/// The longest header name that Doorward looks for, in bytes.
pub const LONGEST_NAME: usize = 32;

/// The names of the identity headers: user, roles and administrator flag, in this order. A request of a known user has
/// all of them, any other request has none. If keys for machines are on, one more header has the name of the key.
#[derive(Clone, Copy)]
pub struct IdentityHeaders(&'static Kept);

#[derive(Debug)]
struct Kept {
    names: [&'static str; 3],
    key: Option<KeyHeaders>,
    assertion: Option<&'static str>,
    common_aliases: Vec<&'static str>,
}

/// The headers of keys for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyHeaders {
    /// The header in which clients show keys, besides `Authorization`.
    shown: Option<&'static str>,
}

/// The header that tells a service the name of the key.
pub const KEY_NAME: &str = "x-auth-key";

/// How a header name relates to the names of the identity headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// No service reads it as an identity header.
    Different,
    /// An identity header.
    Same,
    /// Another name that a service can read as an identity header.
    Alias,
}

impl IdentityHeaders {
    /// Keeps the names until the process ends, so that answers refer to them without copying.
    #[must_use]
    pub fn keep(names: IdentityNames) -> Self {
        if names == IdentityNames::default() {
            return Self::default();
        }
        let names = names.0.map(|name| &*name.leak());
        Self(Box::leak(Box::new(Kept::of(names, None, None))))
    }

    /// The same names while keys for machines are on. `shown` is the header in which clients show them, if there is one.
    #[must_use]
    pub fn with_keys(self, shown: Option<KeyHeader>) -> Self {
        let shown = shown.map(|KeyHeader(name)| &*name.leak());
        let key = Some(KeyHeaders { shown });
        Self(Box::leak(Box::new(Kept::of(
            self.0.names,
            key,
            self.0.assertion,
        ))))
    }

    /// The same names, with a signed assertion in a header of this name.
    #[must_use]
    pub fn with_assertion(self, name: &AssertionHeader) -> Self {
        let name = &*name.as_str().to_owned().leak();
        Self(Box::leak(Box::new(Kept::of(
            self.0.names,
            self.0.key,
            Some(name),
        ))))
    }

    /// The header of the signed assertion, if services get one.
    #[must_use]
    pub fn assertion(self) -> Option<&'static str> {
        self.0.assertion
    }

    /// The header of the signed assertion, as a list to remove.
    #[must_use]
    pub fn assertion_to_remove(self) -> &'static [&'static str] {
        self.0.assertion.as_slice()
    }

    /// The header that tells a service the name of the key, if keys are on.
    #[must_use]
    pub fn key_name(self) -> Option<&'static str> {
        self.0.key.map(|_| KEY_NAME)
    }

    /// The header in which clients show keys, in lower case.
    #[must_use]
    pub fn key_header(self) -> Option<&'static str> {
        self.0.key?.shown
    }

    /// The header in which clients show keys, as a list: no service gets it.
    #[must_use]
    pub fn key_headers_to_remove(self) -> &'static [&'static str] {
        let key = self.0.key.as_ref();
        key.map_or(&[], |key| key.shown.as_slice())
    }

    /// The names, in lower case.
    #[must_use]
    pub fn names(self) -> [&'static str; 3] {
        self.0.names
    }

    /// The names to remove, for a request without an identity.
    #[must_use]
    pub fn names_to_remove(self) -> &'static [&'static str] {
        &self.0.names
    }

    /// The spellings of the names with `-`, `_` and `.`, which are the most common aliases. There are many more, so a
    /// gateway must show or refuse all of them; removing these is a second line of defence if it does not.
    #[must_use]
    pub fn common_aliases(self) -> &'static [&'static str] {
        &self.0.common_aliases
    }

    /// Compares a lower-case name with the names of the identity headers.
    #[must_use]
    pub fn likeness(self, lower: &[u8]) -> Likeness {
        let others = self.key_name().into_iter().chain(self.0.assertion);
        for own in self.0.names.into_iter().chain(others) {
            if fold_the_same(own.as_bytes(), lower) {
                return match own.as_bytes() == lower {
                    true => Likeness::Same,
                    false => Likeness::Alias,
                };
            }
        }
        Likeness::Different
    }
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        static USUAL: LazyLock<Kept> = LazyLock::new(|| Kept::of(USUAL_NAMES, None, None));
        Self(&USUAL)
    }
}

impl fmt::Debug for IdentityHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.names.fmt(f)
    }
}

impl Kept {
    fn of(
        names: [&'static str; 3],
        key: Option<KeyHeaders>,
        assertion: Option<&'static str>,
    ) -> Self {
        let others = key.map(|_| KEY_NAME).into_iter().chain(assertion);
        let aliases = names.into_iter().chain(others).flat_map(common_aliases);
        Self {
            names,
            key,
            assertion,
            common_aliases: aliases.map(|alias| &*alias.leak()).collect(),
        }
    }
}

/// Whether a service could read two lower-case names as one: they are equal if all separators are equal.
fn fold_the_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| {
            one == other || !(one.is_ascii_alphanumeric() || other.is_ascii_alphanumeric())
        })
}

fn common_aliases(name: &str) -> Vec<String> {
    const SEPARATORS: [char; 3] = ['-', '_', '.'];
    let is_separator = |c: &char| !c.is_ascii_alphanumeric();
    // With few separators all combinations; with many, which would be hundreds, only uniform ones.
    let mut spellings = match name.chars().filter(is_separator).count() {
        0..=3 => name.chars().fold(vec![String::new()], |so_far, next| {
            let ends = match is_separator(&next) {
                true => SEPARATORS.to_vec(),
                false => vec![next],
            };
            let extend = |start: &String| -> Vec<_> {
                ends.iter().map(|end| format!("{start}{end}")).collect()
            };
            so_far.iter().flat_map(extend).collect()
        }),
        _ => {
            let uniform = |by: char| name.replace(|c: char| is_separator(&c), &by.to_string());
            SEPARATORS.map(uniform).into()
        }
    };
    spellings.retain(|spelling| spelling != name);
    spellings
}

const USUAL_NAMES: [&str; 3] = ["x-auth-user", "x-auth-roles", "x-auth-admin"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All bytes that HTTP allows in a name besides letters and digits.
    const SEPARATORS: &str = "!#$%&'*+-.^_`|~";

    fn names(names: [&str; 3]) -> Result<IdentityNames, NamesFault> {
        IdentityNames::parse(&names.map(str::to_owned))
    }

    fn chosen(chosen: [&str; 3]) -> IdentityHeaders {
        IdentityHeaders::keep(names(chosen).unwrap())
    }

    /// The variable that lighttpd makes of a name; lighttpd folds the most bytes.
    fn of_cgi(name: &[u8]) -> Vec<u8> {
        name.iter()
            .map(|byte| match byte.is_ascii_alphanumeric() {
                true => byte.to_ascii_uppercase(),
                false => b'_',
            })
            .collect()
    }

    #[test]
    fn every_separator_makes_an_alias() {
        let usual = IdentityHeaders::default();
        for own in usual.names() {
            assert_eq!(usual.likeness(own.as_bytes()), Likeness::Same, "{own}");
            let (first, rest) = own.split_once('-').unwrap();
            let (second, third) = rest.split_once('-').unwrap();
            for left in SEPARATORS.chars() {
                for right in SEPARATORS.chars() {
                    let name = format!("{first}{left}{second}{right}{third}");
                    let expected = match name == own {
                        true => Likeness::Same,
                        false => Likeness::Alias,
                    };
                    assert_eq!(usual.likeness(name.as_bytes()), expected, "{name}");
                }
            }
        }
        for name in [
            "x-auth-use",
            "x-auth-users",
            "x--auth-user",
            "xxauthxuser",
            "xauthuser",
            "x-auth-token",
            "authorization",
            "",
        ] {
            assert_eq!(
                usual.likeness(name.as_bytes()),
                Likeness::Different,
                "{name}"
            );
        }
    }

    #[test]
    fn a_name_without_separators_has_no_alias() {
        let plain = chosen(["xauthuser", "XAuthRoles", "xauthadmin"]);
        assert_eq!(plain.names(), ["xauthuser", "xauthroles", "xauthadmin"]);
        assert!(plain.common_aliases().is_empty());
        assert_eq!(plain.likeness(b"xauthuser"), Likeness::Same);
        assert_eq!(plain.likeness(b"x-auth-user"), Likeness::Different);
    }

    #[test]
    fn the_common_aliases_are_aliases() {
        let usual = IdentityHeaders::default();
        assert_eq!(usual.common_aliases().len(), 24);
        let many = chosen(["a-b-c-d-e", "remote_user", "x"]);
        assert_eq!(
            many.common_aliases(),
            ["a_b_c_d_e", "a.b.c.d.e", "remote-user", "remote.user"]
        );
        for names in [usual, many] {
            for alias in names.common_aliases() {
                assert_eq!(names.likeness(alias.as_bytes()), Likeness::Alias, "{alias}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_name_that_cgi_reads_as_an_identity_header_is_an_alias(
            own in "[a-z][a-z0-9!#$%&'*+.^_`|~-]{0,20}",
            bytes in prop::collection::vec(any::<u8>(), 1..32),
            spelling in prop::collection::vec(any::<u8>(), 32),
        ) {
            let Ok(parsed) = names([&own, "x-other-roles", "x-other-admin"]) else {
                return Ok(());
            };
            let headers = IdentityHeaders::keep(parsed);
            // Arbitrary bytes, and another spelling of the name itself.
            let respelled: Vec<u8> = own.bytes().zip(&spelling).map(|(byte, other)| {
                match byte.is_ascii_alphanumeric() || other.is_ascii_alphanumeric() {
                    true => byte,
                    false => *other,
                }
            }).collect();
            for name in [bytes.to_ascii_lowercase(), respelled] {
                let reads_as_own = headers.names().iter().any(|own| of_cgi(own.as_bytes()) == of_cgi(&name));
                let is_own = headers.names().iter().any(|own| own.as_bytes() == name);
                let expected = match (reads_as_own, is_own) {
                    (_, true) => Likeness::Same,
                    (true, false) => Likeness::Alias,
                    (false, false) => Likeness::Different,
                };
                prop_assert_eq!(headers.likeness(&name), expected);
            }
        }
    }
}
