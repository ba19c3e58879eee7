//! `[http]`: what Doorward sends to other gateways.

use hyper::header::HeaderValue;
use url::Url;

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    reader::Reader,
};

/// Settings of the HTTP door.
#[derive(Debug)]
pub(crate) struct HttpSettings {
    /// The URL where people sign in.
    pub(crate) sign_in: Option<HeaderValue>,
}

pub(super) static KEYS: Section = &[&SIGN_IN];

static SIGN_IN: Optional<HeaderValue> = Key::new(
    "http.sign_in",
    "none",
    sign_in,
    "URL that Doorward sends to nginx in `x-auth-sign-in` with a 401.",
)
.optional();

impl HttpSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            sign_in: reader.find(&SIGN_IN),
        }
    }
}

fn sign_in(text: &str) -> Result<HeaderValue, ValueFault> {
    let is_visible = text.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    let is_url = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| is_visible && is_url)
        .ok_or_else(|| ValueFault::SignIn(text.to_owned()))
}
