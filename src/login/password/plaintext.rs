//! Plaintext passwords, for a migration.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};

use super::{
    Scheme,
    stored::{Memory, Stored},
};

pub(super) struct Plaintext<'a>(&'a str);

impl<'a> Plaintext<'a> {
    /// Accepts only texts that cannot be a hash: a stolen hash must not work as a password.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        (!text.is_empty() && !looks_hashed(text)).then_some(Self(text))
    }
}

/// The prefixes of hashes, in lower case, including schemes that Doorward does not verify.
const PREFIXES: &[&str] = &[
    "$",
    "{",
    "pbkdf2_",
    "pbkdf2:",
    "pbkdf2$",
    "pbkdf2-",
    "scrypt:",
    "scrypt$",
    "argon2$",
    "argon2i",
    "argon2d",
    "bcrypt$",
    "bcrypt_",
    "crypt$",
    "plain$",
    "unsalted_",
    "md5$",
    "md5:",
    "sha1$",
    "sha1:",
    "sha224$",
    "sha256$",
    "sha256:",
    "sha384$",
    "sha512$",
    "sha512:",
    // Drupal, of what had been a hash of MD5.
    "u$s$",
    "u$p$",
    "u$h$",
    // ASP.NET Identity.
    "aqaaaa",
];

fn looks_hashed(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A digest in hexadecimal digits; MySQL puts an asterisk before it.
    let digest = [32, 40, 56, 64, 96, 128].contains(&text.len()) && is_hex(text);
    let starred = text
        .strip_prefix('*')
        .is_some_and(|rest| rest.is_empty() || rest.len() == 40 && is_hex(rest));
    // A locked account, or in Django one without a password; nothing, 40 random characters or the old hash follows.
    let locked = text.strip_prefix('!').is_some_and(|rest| {
        let random = rest.len() == 40 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        rest.is_empty() || rest == "!" || random || rest.starts_with(['$', '{'])
    });
    digest || starred || locked || PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
}

impl Stored for Plaintext<'_> {
    fn scheme(&self) -> Scheme {
        Scheme::Plaintext
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        // Comparing digests does not even reveal the length.
        let [given, stored] = [password, self.0.as_bytes()].map(|text| digest(&SHA256, text));
        verify_slices_are_equal(given.as_ref(), stored.as_ref()).is_ok()
    }
}
