//! scrypt, as passlib, Django and Werkzeug write it.

use ::argon2::password_hash::phc;
use ::scrypt::{Params, scrypt};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::{
    Scheme,
    stored::{Memory, Stored},
    text::{bare, decimal, padded},
};
use crate::domain::hex;

const MAX_MEMORY: u128 = 256 * 1024 * 1024;
const MAX_BLOCK: u32 = 64;
const MAX_PARALLEL: u32 = 16;

/// The output of Django and Werkzeug. PHC leaves the length open; the short one is passlib's.
const LONG: usize = 64;
const SHORT: usize = 32;

pub(super) struct Scrypt {
    log_n: u8,
    r: u32,
    p: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Scrypt {
    /// `$scrypt$ln=14,r=8,p=1$salt$hash`.
    pub(super) fn parse_phc(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix("$scrypt$")?.split('$');
        let params: phc::ParamsString = fields.next()?.parse().ok()?;
        let known = params
            .iter()
            .all(|(name, _)| ["ln", "r", "p"].contains(&name.as_str()));
        // Of any length, because passlib can be configured to use short ones.
        let salt = bare(fields.next()?)?;
        let output = bare(fields.next()?)?;
        // The start of an output is also the output of a shorter length, so the length must be known from elsewhere.
        let whole = known && fields.next().is_none() && [SHORT, LONG].contains(&output.len());
        whole.then_some(Self {
            log_n: u8::try_from(params.get_decimal("ln")?).ok()?,
            r: params.get_decimal("r")?,
            p: params.get_decimal("p")?,
            salt,
            output,
        })
    }

    /// What follows Django's `scrypt$`: `N$salt$r$p$hash`.
    pub(super) fn parse_django(text: &str) -> Option<Self> {
        let mut fields = text.split('$');
        let (n, salt) = (fields.next()?, fields.next()?);
        let (r, p, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let output = padded(hash).filter(|_| fields.next().is_none())?;
        Self::new([n, r, p], salt, output)
    }

    /// What follows Werkzeug's `scrypt:`: `N:r:p$salt$hash`.
    pub(super) fn parse_werkzeug(text: &str) -> Option<Self> {
        let mut fields = text.split('$');
        let (params, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let mut params = params.split(':');
        let (n, r, p) = (params.next()?, params.next()?, params.next()?);
        let whole = params.next().is_none() && fields.next().is_none();
        Self::new([n, r, p], salt, hex::decode(hash).filter(|_| whole)?)
    }

    fn new([n, r, p]: [&str; 3], salt: &str, output: Vec<u8>) -> Option<Self> {
        let n = decimal(n).filter(|n| n.is_power_of_two())?;
        (output.len() == LONG).then_some(Self {
            log_n: u8::try_from(n.trailing_zeros()).ok()?,
            r: decimal(r)?,
            p: decimal(p)?,
            salt: salt.as_bytes().to_vec(),
            output,
        })
    }
}

impl Stored for Scrypt {
    fn scheme(&self) -> Scheme {
        Scheme::Scrypt
    }

    fn is_affordable(&self) -> bool {
        let memory = 1_u128
            .checked_shl(self.log_n.into())
            .and_then(|n| n.checked_mul(128 * u128::from(self.r)));
        (1..64).contains(&self.log_n)
            && (1..=MAX_BLOCK).contains(&self.r)
            && (1..=MAX_PARALLEL).contains(&self.p)
            && memory.is_some_and(|memory| memory <= MAX_MEMORY)
    }

    fn cost(&self) -> [u32; 3] {
        [self.log_n.into(), self.r, self.p]
    }

    fn memory(&self) -> u64 {
        let n = 1_u64.checked_shl(self.log_n.into()).unwrap_or(u64::MAX);
        let blocks = n.saturating_add(self.p.into()).saturating_add(1);
        blocks
            .saturating_mul(128 * u64::from(self.r))
            .div_ceil(1024)
    }

    fn matches(&self, password: &[u8], memory: &Memory) -> bool {
        // The crate multiplies `r` by `p` unchecked, so it must never get values above the limits.
        let params = self
            .is_affordable()
            .then(|| Params::new(self.log_n, self.r, self.p));
        let Some(Ok(params)) = params else {
            return false;
        };
        let mut output = Zeroizing::new(vec![0; self.output.len()]);
        let _room = memory.set_aside(self.memory());
        scrypt(password, &self.salt, &params, &mut output)
            .is_ok_and(|()| verify_slices_are_equal(&output, &self.output).is_ok())
    }
}
