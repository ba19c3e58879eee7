//! A password as a person typed it.

use std::fmt;

use zeroize::Zeroizing;

/// A password as it was typed; never shown.
pub struct Password(Zeroizing<String>);

impl Password {
    /// The most bytes of a password.
    pub const MOST_BYTES: usize = 1024;

    /// Takes 1 to 1024 bytes without control characters, or nothing.
    #[must_use]
    pub fn parse(password: &str) -> Option<Self> {
        let possible = (1..=Self::MOST_BYTES).contains(&password.len())
            && !password.contains(char::is_control);
        possible.then(|| Self(Zeroizing::new(password.to_owned())))
    }

    /// The password itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
