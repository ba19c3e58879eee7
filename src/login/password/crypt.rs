//! The older schemes of `crypt(3)`, and phpass, which has a similar format.

use ::sha_crypt::{PasswordHashRef, PasswordVerifier as _, ShaCrypt as Algorithm};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use md5::{Digest as _, Md5};

use super::{
    Scheme,
    stored::{Memory, Stored},
    text::{crypt64_digit, decimal, is_crypt64, to_crypt64},
};

/// The most rounds: each round hashes the password, which may be long.
const MAX_SHA_ROUNDS: u32 = 1_000_000;
const MAX_PHPASS_LOG2: u8 = 20;

/// `$5$` and `$6$`.
pub(super) struct ShaCrypt<'a> {
    scheme: Scheme,
    rounds: u32,
    hash: &'a PasswordHashRef,
}

impl<'a> ShaCrypt<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, digits, rest) = match text.strip_prefix("$5$") {
            Some(rest) => (Scheme::Sha256Crypt, 43, rest),
            None => (Scheme::Sha512Crypt, 86, text.strip_prefix("$6$")?),
        };
        let (rounds, rest) = match rest.strip_prefix("rounds=") {
            Some(rest) => {
                let (rounds, rest) = rest.split_once('$')?;
                (decimal(rounds).filter(|rounds| *rounds >= 1000)?, rest)
            }
            None => (5000, rest),
        };
        let (salt, hash) = rest.split_once('$')?;
        // `crypt` reads 16 bytes of a salt and drops the others when it writes.
        let whole = salt.len() <= 16 && hash.len() == digits && is_crypt64(hash);
        let hash = PasswordHashRef::new(text).ok().filter(|_| whole)?;
        Some(Self {
            scheme,
            rounds,
            hash,
        })
    }
}

impl Stored for ShaCrypt<'_> {
    fn scheme(&self) -> Scheme {
        self.scheme
    }

    fn is_affordable(&self) -> bool {
        self.rounds <= MAX_SHA_ROUNDS
    }

    fn cost(&self) -> [u32; 3] {
        [self.rounds, 0, 0]
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        Algorithm::default()
            .verify_password(password, self.hash)
            .is_ok()
    }
}

/// `$1$`, and `$apr1$` of Apache.
pub(super) struct Md5Crypt<'a> {
    magic: &'static str,
    salt: &'a str,
    hash: &'a str,
}

impl<'a> Md5Crypt<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (magic, rest) = ["$1$", "$apr1$"]
            .into_iter()
            .find_map(|magic| Some((magic, text.strip_prefix(magic)?)))?;
        let (salt, hash) = rest.split_once('$')?;
        let whole = salt.len() <= 8 && hash.len() == 22 && is_crypt64(hash);
        whole.then_some(Self { magic, salt, hash })
    }

    fn digest(&self, password: &[u8]) -> [u8; 16] {
        let salt = self.salt.as_bytes();
        let inner = Md5::new()
            .chain_update(password)
            .chain_update(salt)
            .chain_update(password)
            .finalize();
        let mut outer = Md5::new()
            .chain_update(password)
            .chain_update(self.magic)
            .chain_update(salt);
        for piece in password.chunks(16) {
            outer.update(inner.get(..piece.len()).unwrap_or_default());
        }
        let mut bits = password.len();
        while bits > 0 {
            let first = password.get(..1).unwrap_or_default();
            outer.update(if bits & 1 == 1 { b"\0" } else { first });
            bits >>= 1;
        }
        let mut digest: [u8; 16] = outer.finalize().into();
        for round in 0..1000 {
            let (before, after) = if round & 1 == 1 {
                (password, digest.as_slice())
            } else {
                (digest.as_slice(), password)
            };
            let mut next = Md5::new().chain_update(before);
            if round % 3 != 0 {
                next.update(salt);
            }
            if round % 7 != 0 {
                next.update(password);
            }
            digest = next.chain_update(after).finalize().into();
        }
        digest
    }
}

impl Stored for Md5Crypt<'_> {
    fn scheme(&self) -> Scheme {
        Scheme::Md5Crypt
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.digest(password);
        let written = [m, g, a, n, h, b, o, i, c, p, j, d, f, k, e, l];
        verify_slices_are_equal(&to_crypt64(&written), self.hash.as_bytes()).is_ok()
    }
}

/// `$P$` of phpass, as WordPress has it, and `$H$` of phpBB.
pub(super) struct Phpass<'a> {
    log2: u8,
    salt: &'a str,
    hash: &'a str,
}

impl<'a> Phpass<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let rest = text
            .strip_prefix("$P$")
            .or_else(|| text.strip_prefix("$H$"))?;
        let log2 = crypt64_digit(*rest.as_bytes().first()?)?;
        let (salt, hash) = rest.get(1..)?.split_at_checked(8)?;
        let whole = hash.len() == 22 && is_crypt64(salt) && is_crypt64(hash);
        (whole && (7..=30).contains(&log2)).then_some(Self { log2, salt, hash })
    }
}

impl Stored for Phpass<'_> {
    fn scheme(&self) -> Scheme {
        Scheme::Phpass
    }

    fn is_affordable(&self) -> bool {
        self.log2 <= MAX_PHPASS_LOG2
    }

    fn cost(&self) -> [u32; 3] {
        [self.log2.into(), 0, 0]
    }

    fn is_slow(&self) -> bool {
        false
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        let mut digest = Md5::new()
            .chain_update(self.salt)
            .chain_update(password)
            .finalize();
        for _ in 0..1_u32 << self.log2 {
            digest = Md5::new()
                .chain_update(digest)
                .chain_update(password)
                .finalize();
        }
        verify_slices_are_equal(&to_crypt64(&digest), self.hash.as_bytes()).is_ok()
    }
}
