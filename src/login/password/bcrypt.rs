//! bcrypt, of the password itself or of a digest of it.

use std::borrow::Cow;

use ::bcrypt::HashParts;
use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    Scheme,
    stored::{Memory, Stored},
    text::decimal,
};
use crate::domain::hex;

const MAX_COST: u32 = 15;

/// bcrypt ignores further bytes.
const MAX_PASSWORD: usize = 72;

/// The key of WordPress, the same for every password.
const WORDPRESS: &[u8] = b"wp-sha384";

pub(super) struct Bcrypt<'a> {
    text: Cow<'a, str>,
    cost: u32,
    of: Of<'a>,
}

/// The input of bcrypt.
enum Of<'a> {
    Password,
    /// WordPress.
    Base64HmacSha384,
    /// Django.
    HexSha256,
    /// passlib before its version 1.7.3.
    Base64Sha256,
    /// passlib; the key is the text of the salt.
    Base64Hmac(&'a str),
}

impl<'a> Bcrypt<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        Self::new(Cow::Borrowed(text), Of::Password)
    }

    /// What follows Django's `bcrypt_sha256$`.
    pub(super) fn parse_django_sha256(text: &'a str) -> Option<Self> {
        Self::new(Cow::Borrowed(text), Of::HexSha256)
    }

    /// passlib's `$bcrypt-sha256$v=2,t=2b,r=12$salt$digest`, and `$bcrypt-sha256$2b,12$salt$digest` before it.
    pub(super) fn parse_passlib_sha256(text: &'a str) -> Option<Self> {
        let mut fields = text.strip_prefix("$bcrypt-sha256$")?.split('$');
        let (params, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let (variant, cost, of) = match params.strip_prefix("v=2,t=") {
            Some(params) => {
                let (variant, cost) = params.split_once(",r=")?;
                (variant, cost, Of::Base64Hmac(salt))
            }
            None => {
                let (variant, cost) = params.split_once(',')?;
                (variant, cost, Of::Base64Sha256)
            }
        };
        let whole = fields.next().is_none() && salt.len() == 22;
        let cost = decimal(cost).filter(|_| whole)?;
        let text = format!("${variant}${cost:02}${salt}{hash}");
        Self::new(Cow::Owned(text), of)
    }

    /// `$wp$2y$10$…` of WordPress since 6.8.
    pub(super) fn parse_wordpress(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("$wp")?;
        let bcrypt = rest.starts_with("$2y$").then_some(rest)?;
        Self::new(Cow::Borrowed(bcrypt), Of::Base64HmacSha384)
    }

    fn new(text: Cow<'a, str>, of: Of<'a>) -> Option<Self> {
        // The crate would accept a sign as a digit, and `$2x$`, which marks hashes of a defective implementation.
        let rest = ["$2a$", "$2b$", "$2y$"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))?;
        rest.split_once('$')
            .filter(|(cost, _)| cost.bytes().all(|byte| byte.is_ascii_digit()))?;
        let cost = text.parse::<HashParts>().ok()?.get_cost();
        (4..=31).contains(&cost).then_some(Self { text, cost, of })
    }
}

impl Stored for Bcrypt<'_> {
    fn scheme(&self) -> Scheme {
        match self.of {
            Of::Password => Scheme::Bcrypt,
            Of::Base64HmacSha384 => Scheme::BcryptSha384,
            Of::HexSha256 | Of::Base64Sha256 | Of::Base64Hmac(_) => Scheme::BcryptSha256,
        }
    }

    fn is_affordable(&self) -> bool {
        self.cost <= MAX_COST
    }

    fn cost(&self) -> [u32; 3] {
        [self.cost, 0, 0]
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        let sha256 = || digest::digest(&digest::SHA256, password);
        let digested = Zeroizing::new(match self.of {
            Of::Password => String::new(),
            Of::Base64HmacSha384 => {
                let key = hmac::Key::new(hmac::HMAC_SHA384, WORDPRESS);
                BASE64_STANDARD.encode(hmac::sign(&key, password))
            }
            Of::HexSha256 => hex::encode(sha256().as_ref()),
            Of::Base64Sha256 => BASE64_STANDARD.encode(sha256()),
            Of::Base64Hmac(salt) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
                BASE64_STANDARD.encode(hmac::sign(&key, password))
            }
        });
        let input = match self.of {
            Of::Password => password,
            Of::Base64HmacSha384 | Of::HexSha256 | Of::Base64Sha256 | Of::Base64Hmac(_) => {
                digested.as_bytes()
            }
        };
        // The crate truncates: a password that is too long is hashed like any other, and refused afterwards.
        let verified = ::bcrypt::verify(input, &self.text).is_ok_and(|matches| matches);
        verified & (input.len() <= MAX_PASSWORD)
    }
}
