//! `$y$`, the default of `crypt(3)` in Debian, Ubuntu, Fedora and Arch.

use ::yescrypt::{Mode, Params, yescrypt};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::{
    Scheme,
    stored::{Memory, Stored},
    text::{from_crypt64, is_crypt64, to_crypt64},
};

const MAX_KIB: u128 = 256 * 1024;
const MAX_BLOCK: u32 = 64;
const MAX_PARALLEL: u32 = 16;

/// 32 bytes in the digits of `crypt(3)`.
const DIGITS: usize = 43;

/// libxcrypt accepts salts of up to 64 bytes.
const MAX_SALT: usize = 64;

pub(super) struct Yescrypt<'a> {
    params: Params,
    salt: Vec<u8>,
    hash: &'a str,
}

impl<'a> Yescrypt<'a> {
    /// `$y$j9T$salt$hash`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.strip_prefix("$y$")?.split('$');
        let (written, salt, hash) = (fields.next()?, fields.next()?, fields.next()?);
        let params: Params = written.parse().ok()?;
        let salt = from_crypt64(salt).filter(|salt| salt.len() <= MAX_SALT)?;
        let whole = fields.next().is_none() && hash.len() == DIGITS && is_crypt64(hash);
        let parsed = Self { params, salt, hash };
        // The crate reads no further than it needs, so only the text that it writes itself counts.
        let canonical = !parsed.is_affordable() || params.to_string() == written;
        // The crate hides the parameter t, which multiplies the time. `crypt` never sets it.
        let plain = Params::new(Mode::Rw, params.n(), params.r(), params.p()).ok()?;
        (whole && canonical && params == plain).then_some(parsed)
    }

    /// KiB.
    fn room(&self) -> u128 {
        let blocks = u128::from(self.params.n()) + u128::from(self.params.p()) + 2;
        (blocks * 128 * u128::from(self.params.r())).div_ceil(1024)
    }
}

impl Stored for Yescrypt<'_> {
    fn scheme(&self) -> Scheme {
        Scheme::Yescrypt
    }

    fn is_affordable(&self) -> bool {
        // Memory limits the time too: the algorithm writes and reads all of it a fixed number of times.
        self.room() <= MAX_KIB
            && self.params.r() <= MAX_BLOCK
            && self.params.p() <= MAX_PARALLEL
            && self.params.n() > 1
    }

    fn cost(&self) -> [u32; 3] {
        [
            self.params.n().trailing_zeros(),
            self.params.r(),
            self.params.p(),
        ]
    }

    fn memory(&self) -> u64 {
        u64::try_from(self.room()).unwrap_or(u64::MAX)
    }

    fn matches(&self, password: &[u8], memory: &Memory) -> bool {
        if !self.is_affordable() {
            return false;
        }
        let mut output = Zeroizing::new([0; 32]);
        let _room = memory.set_aside(self.memory());
        yescrypt(password, &self.salt, &self.params, output.as_mut_slice()).is_ok_and(|()| {
            let digits = Zeroizing::new(to_crypt64(output.as_slice()));
            verify_slices_are_equal(&digits, self.hash.as_bytes()).is_ok()
        })
    }
}
