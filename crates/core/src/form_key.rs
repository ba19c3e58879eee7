//! The value that binds a form to the browser that got its page.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    browser_session::{RANDOM, random},
    cookie::{CookieName, Transport},
    request::browser::Browser,
    session::NoRandomness,
};

/// A random value that a form and a cookie have in common. A foreign site can neither read nor set the cookie.
#[derive(Clone)]
pub struct FormKey(String);

impl FormKey {
    /// Draws one.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`].
    pub fn draw() -> Result<Self, NoRandomness> {
        random().map(Self)
    }

    /// Reads the value of a cookie.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == RANDOM).then(|| Self(text.to_owned()))
    }

    /// The key in the cookies of a browser.
    #[must_use]
    pub(crate) fn of(browser: &Browser<'_>, transport: Transport) -> Option<Self> {
        let value = browser.cookies.find(CookieName::Form(transport)).ok()??;
        Self::parse(value)
    }

    /// Whether a form has this key.
    #[must_use]
    pub fn is(&self, field: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), field.as_bytes()).is_ok()
    }

    /// The value.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FormKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_the_key_of_its_cookie() {
        let key = FormKey::draw().unwrap();
        assert!(key.is(key.expose()));
        assert!(!key.is(FormKey::draw().unwrap().expose()));
        assert!(!key.is(""));
        assert!(FormKey::parse(key.expose().as_bytes()).is_some());
        for bad in [
            "",
            "a",
            "AAAA",
            "<script>",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(FormKey::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
