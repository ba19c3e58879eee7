//! `$S$` of Drupal 7 to 9: phpass with SHA-512.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Context, Digest, SHA512},
};

use super::{
    Scheme,
    stored::{Memory, Stored},
    text::{crypt64_digit, is_crypt64, to_crypt64},
};

/// The most rounds: each round hashes the password, which may be long.
const MAX_LOG2: u8 = 20;

/// Drupal cuts its texts to 55 characters, so only these digits of the digest are stored.
const DIGITS: usize = 43;

pub(super) struct Drupal<'a> {
    log2: u8,
    salt: &'a str,
    hash: &'a str,
}

impl<'a> Drupal<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("$S$")?;
        let log2 = crypt64_digit(*rest.as_bytes().first()?)?;
        let (salt, hash) = rest.get(1..)?.split_at_checked(8)?;
        let whole = hash.len() == DIGITS && is_crypt64(salt) && is_crypt64(hash);
        (whole && (7..=30).contains(&log2)).then_some(Self { log2, salt, hash })
    }
}

impl Stored for Drupal<'_> {
    fn scheme(&self) -> Scheme {
        Scheme::Drupal
    }

    fn is_affordable(&self) -> bool {
        self.log2 <= MAX_LOG2
    }

    fn cost(&self) -> [u32; 3] {
        [self.log2.into(), 0, 0]
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        let mut digest = sha512(self.salt.as_bytes(), password);
        for _ in 0..1_u32 << self.log2 {
            digest = sha512(digest.as_ref(), password);
        }
        let digits = to_crypt64(digest.as_ref());
        let stored = digits.get(..DIGITS).unwrap_or_default();
        verify_slices_are_equal(stored, self.hash.as_bytes()).is_ok()
    }
}

fn sha512(first: &[u8], second: &[u8]) -> Digest {
    let mut context = Context::new(&SHA512);
    context.update(first);
    context.update(second);
    context.finish()
}
