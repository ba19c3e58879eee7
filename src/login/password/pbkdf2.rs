//! PBKDF2, as passlib, Django, Werkzeug, ASP.NET Core Identity and PHC write it.

use std::{num::NonZeroU32, ops::RangeInclusive};

use ::argon2::password_hash::phc;
use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA512};

use super::{
    Scheme,
    stored::{Memory, Stored},
    text::{adapted, decimal, padded},
};
use crate::domain::hex;

const MAX_ITERATIONS: u64 = 10_000_000;

/// The shortest and the longest output that PHC may ask for.
const MIN_OUTPUT: usize = 16;
const MAX_OUTPUT: usize = 64;

const ASPNET_OUTPUT: usize = 32;
const ASPNET_SALTS: RangeInclusive<usize> = 16..=64;

#[derive(Clone, Copy)]
enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => PBKDF2_HMAC_SHA1,
            Self::Sha256 => PBKDF2_HMAC_SHA256,
            Self::Sha512 => PBKDF2_HMAC_SHA512,
        }
    }
}

pub(super) struct Pbkdf2 {
    digest: Digest,
    iterations: NonZeroU32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Pbkdf2 {
    /// `$pbkdf2-sha256$i=600000,l=32$salt$hash` of PHC, or `$pbkdf2-sha256$29000$salt$hash` of passlib, whose
    /// `$pbkdf2$` is SHA-1.
    pub(super) fn parse_modular(text: &str) -> Option<Self> {
        let (id, rest) = text.strip_prefix('$')?.split_once('$')?;
        let digest = match id.strip_prefix("pbkdf2")? {
            "" => Digest::Sha1,
            suffix => Digest::parse(suffix.strip_prefix('-')?)?,
        };
        if rest.starts_with("i=") || rest.starts_with("l=") {
            return Self::parse_phc(digest, text);
        }
        let mut fields = rest.split('$');
        let (iterations, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let output = adapted(hash).filter(|_| fields.next().is_none())?;
        Self::new(digest, decimal(iterations)?, adapted(salt)?, output)
    }

    fn parse_phc(digest: Digest, text: &str) -> Option<Self> {
        let hash = phc::PasswordHash::new(text).ok()?;
        let known = hash.version.is_none()
            && hash
                .params
                .iter()
                .all(|(name, _)| ["i", "l"].contains(&name.as_str()));
        // The start of an output is also the output of a shorter length, so the length must be known from elsewhere.
        let len = match hash.params.get("l") {
            Some(len) => usize::try_from(len.decimal().ok()?).ok()?,
            None => digest.len(),
        };
        let output = hash.hash.filter(|_| known)?.as_bytes().to_vec();
        let sized = output.len() == len && (MIN_OUTPUT..=MAX_OUTPUT).contains(&len);
        sized.then_some(Self {
            digest,
            iterations: NonZeroU32::new(hash.params.get_decimal("i")?)?,
            salt: hash.salt?.to_vec(),
            output,
        })
    }

    /// What follows Django's `pbkdf2_`: `sha256$iterations$salt$hash`.
    pub(super) fn parse_django(text: &str) -> Option<Self> {
        let mut fields = text.split('$');
        let (digest, iterations) = (fields.next()?, fields.next()?);
        let (salt, hash) = (fields.next()?, fields.next()?);
        let output = padded(hash).filter(|_| fields.next().is_none())?;
        let salt = salt.as_bytes().to_vec();
        Self::new(Digest::parse(digest)?, decimal(iterations)?, salt, output)
    }

    /// What follows Werkzeug's `pbkdf2:`: `sha256:iterations$salt$hash`.
    pub(super) fn parse_werkzeug(text: &str) -> Option<Self> {
        let mut fields = text.split('$');
        let (params, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let (digest, iterations) = params.split_once(':')?;
        let output = hex::decode(hash).filter(|_| fields.next().is_none())?;
        let salt = salt.as_bytes().to_vec();
        Self::new(Digest::parse(digest)?, decimal(iterations)?, salt, output)
    }

    /// Version 3 of ASP.NET Core Identity, in Base64: a one, then the function, the iterations and the length of the salt
    /// (four bytes each, the highest first), the salt and the output.
    pub(super) fn parse_aspnet(text: &str) -> Option<Self> {
        let bytes = padded(text)?;
        let fields = bytes.strip_prefix(&[1])?;
        let (function, fields) = fields.split_first_chunk()?;
        let (iterations, fields) = fields.split_first_chunk()?;
        let (salt_len, fields) = fields.split_first_chunk()?;
        let digest = match u32::from_be_bytes(*function) {
            0 => Digest::Sha1,
            1 => Digest::Sha256,
            2 => Digest::Sha512,
            _ => return None,
        };
        let salt_len = usize::try_from(u32::from_be_bytes(*salt_len)).ok()?;
        let (salt, output) = fields.split_at_checked(salt_len)?;
        // Identity writes outputs of 32 bytes whatever the function, and salts of 16 or more.
        let whole = output.len() == ASPNET_OUTPUT && ASPNET_SALTS.contains(&salt_len);
        whole.then_some(Self {
            digest,
            iterations: NonZeroU32::new(u32::from_be_bytes(*iterations))?,
            salt: salt.to_vec(),
            output: output.to_vec(),
        })
    }

    /// An output longer than the digest is computed in as many runs as it has digests.
    fn rounds(&self) -> u64 {
        let runs = self.output.len().div_ceil(self.digest.len()) as u64;
        runs * u64::from(self.iterations.get())
    }

    fn new(digest: Digest, iterations: u32, salt: Vec<u8>, output: Vec<u8>) -> Option<Self> {
        let iterations = NonZeroU32::new(iterations)?;
        (output.len() == digest.len()).then_some(Self {
            digest,
            iterations,
            salt,
            output,
        })
    }
}

impl Stored for Pbkdf2 {
    fn scheme(&self) -> Scheme {
        Scheme::Pbkdf2
    }

    fn is_affordable(&self) -> bool {
        self.rounds() <= MAX_ITERATIONS
    }

    fn cost(&self) -> [u32; 3] {
        let rounds = u32::try_from(self.rounds()).unwrap_or(u32::MAX);
        [
            rounds,
            u32::try_from(self.digest.len()).unwrap_or(u32::MAX),
            0,
        ]
    }

    fn matches(&self, password: &[u8], _: &Memory) -> bool {
        let algorithm = self.digest.algorithm();
        pbkdf2::verify(
            algorithm,
            self.iterations,
            &self.salt,
            password,
            &self.output,
        )
        .is_ok()
    }
}
