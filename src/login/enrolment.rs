//! Rules for new names and passwords.

mod names;

use std::collections::HashSet;

pub(crate) use self::names::NameRules;
use crate::domain::{account::Username, decision::WeakPassword, password::Password};

/// Rules for new passwords.
#[derive(Clone, Debug)]
pub(crate) struct PasswordRules {
    /// The length that is enough for any password, unless it is easy to guess.
    pub(crate) min_length: usize,
    /// The zxcvbn score, 0 to 4, that is enough for a shorter password.
    pub(crate) min_score: u8,
    /// Passwords that are refused, in lower case.
    pub(crate) blocklist: HashSet<String>,
}

impl Default for PasswordRules {
    fn default() -> Self {
        Self {
            min_length: 12,
            min_score: 3,
            blocklist: HashSet::new(),
        }
    }
}

/// The most characters that zxcvbn checks: its time grows with the square of the length.
const LOOKED_AT: usize = 64;

/// Up to this zxcvbn score, a password is too easy to guess at any length.
const COMMON: u8 = 1;

impl PasswordRules {
    /// Checks a new password (NIST SP 800-63B, 3.1.1.2: length and a blocklist, no rules of composition).
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub(crate) fn check(
        &self,
        password: &Password,
        username: &Username,
    ) -> Result<(), WeakPassword> {
        let text = password.expose();
        let lower = text.to_lowercase();
        let name = username.as_str().to_lowercase();
        let local = name.split('@').next().unwrap_or_default();
        if lower == name || (local.len() > 3 && lower.replace(local, "").chars().count() < 4) {
            return Err(WeakPassword::LikeName);
        }
        if self.blocklist.contains(&lower) {
            return Err(WeakPassword::Common);
        }
        let end = text
            .char_indices()
            .nth(LOOKED_AT)
            .map_or(text.len(), |(at, _)| at);
        let head = text.get(..end).unwrap_or(text);
        let score: u8 = zxcvbn::zxcvbn(head, &[&name, local]).score().into();
        if score <= COMMON {
            return Err(match text.chars().count() < self.min_length {
                true => WeakPassword::Short(self.min_length),
                false => WeakPassword::Common,
            });
        }
        if text.chars().count() < self.min_length && score < self.min_score {
            return Err(WeakPassword::Short(self.min_length));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<(), WeakPassword> {
        let rules = PasswordRules {
            blocklist: ["correct horse battery staple".into()].into(),
            ..PasswordRules::default()
        };
        rules.check(
            &Password::parse(password).unwrap(),
            &Username::parse("ada.lovelace@example.com").unwrap(),
        )
    }

    #[test]
    fn short_common_or_name_like_passwords_are_refused() {
        for good in [
            "analytical-engine",
            "builder-of-things",
            "xK9#vQ2!pL",
            &"a b c d e f g h ".repeat(20),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("short", WeakPassword::Short(12)),
            ("password", WeakPassword::Short(12)),
            ("password1234", WeakPassword::Common),
            ("123456789012", WeakPassword::Common),
            ("aaaaaaaaaaaaaaaa", WeakPassword::Common),
            ("Correct Horse Battery Staple", WeakPassword::Common),
            ("ada.lovelace@example.com", WeakPassword::LikeName),
            ("Ada.Lovelace1", WeakPassword::LikeName),
        ] {
            assert_eq!(check(bad), Err(why), "{bad}");
        }
    }
}
