//! One round of SHA with a salt, as Werkzeug wrote before 2.3, and as Django's `sha1$` has it.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA1_FOR_LEGACY_USE_ONLY},
    hmac,
};

use super::{
    Scheme,
    stored::{Memory, Stored},
};
use crate::domain::hex;

pub(super) struct SaltedSha<'a> {
    algorithm: hmac::Algorithm,
    /// Werkzeug and Django have the same text for different computations of SHA-1.
    perhaps_django: bool,
    salt: &'a str,
    output: Vec<u8>,
}

impl<'a> SaltedSha<'a> {
    /// `salt$digest`, after the name of the function and a `$`. Without a salt, equal passwords would have equal texts.
    pub(super) fn parse(function: &str, text: &'a str) -> Option<Self> {
        let algorithm = match function {
            "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            "sha224" => hmac::HMAC_SHA224,
            "sha256" => hmac::HMAC_SHA256,
            "sha384" => hmac::HMAC_SHA384,
            "sha512" => hmac::HMAC_SHA512,
            _ => return None,
        };
        let (salt, digest) = text.split_once('$')?;
        let output = hex::decode(digest)?;
        let whole = !salt.is_empty() && output.len() == algorithm.digest_algorithm().output_len();
        whole.then_some(Self {
            algorithm,
            perhaps_django: function == "sha1",
            salt,
            output,
        })
    }
}

impl Stored for SaltedSha<'_> {
    fn scheme(&self) -> Scheme {
        Scheme::SaltedSha
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        // Werkzeug: an HMAC whose key is the salt. Django: a digest of the salt and the password.
        let key = hmac::Key::new(self.algorithm, self.salt.as_bytes());
        let werkzeug = hmac::sign(&key, password);
        let mut django = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        django.update(self.salt.as_bytes());
        django.update(password);
        let werkzeug = verify_slices_are_equal(werkzeug.as_ref(), &self.output).is_ok();
        let django = verify_slices_are_equal(django.finish().as_ref(), &self.output).is_ok();
        werkzeug | (django & self.perhaps_django)
    }
}
