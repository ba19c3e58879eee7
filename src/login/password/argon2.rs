//! Argon2 in PHC form: Doorward's own hashes and those of other software.

use ::argon2::{Algorithm, Argon2, Params, Version, password_hash::phc};
use aws_lc_rs::{constant_time::verify_slices_are_equal, rand};
use zeroize::Zeroizing;

use super::{
    Scheme,
    ours::{LANES, MEMORY_KIB, PASSES},
    stored::{Memory, Stored},
    text::{bare, decimal},
};

const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

/// The shortest salt and the shortest output that libargon2 accepts. It has no upper limits.
const MIN_SALT: usize = 8;
const MIN_OUTPUT: usize = 4;

pub(super) struct Argon2Hash {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: Params,
    pub(super) salt: Vec<u8>,
    pub(super) output: Vec<u8>,
}

impl Argon2Hash {
    /// `$argon2id$v=19$m=65536,t=4,p=1$salt$hash`. The PHC string format bounds lengths that libargon2 does not.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix('$')?.split('$');
        let algorithm = Algorithm::new(fields.next()?).ok()?;
        let next = fields.next()?;
        let (version, params) = match next.strip_prefix("v=") {
            Some(version) => (Version::try_from(decimal(version)?).ok()?, fields.next()?),
            // A hash without a version is older than that field (PHC string format, Argon2).
            None => (Version::V0x10, next),
        };
        let params: phc::ParamsString = params.parse().ok()?;
        let (salt, output) = (bare(fields.next()?)?, bare(fields.next()?)?);
        let whole = fields.next().is_none() && salt.len() >= MIN_SALT && output.len() >= MIN_OUTPUT;
        whole.then_some(Self {
            algorithm,
            version,
            params: Params::try_from(&params).ok()?,
            salt,
            output,
        })
    }
}

impl Stored for Argon2Hash {
    fn scheme(&self) -> Scheme {
        match self.algorithm {
            Algorithm::Argon2id => Scheme::Argon2id,
            Algorithm::Argon2i => Scheme::Argon2i,
            Algorithm::Argon2d => Scheme::Argon2d,
        }
    }

    fn is_affordable(&self) -> bool {
        self.params.m_cost() <= MAX_MEMORY_KIB
            && self.params.t_cost() <= MAX_PASSES
            && self.params.p_cost() <= MAX_LANES
    }

    fn cost(&self) -> [u32; 3] {
        let params = &self.params;
        // The first version of argon2 overwrites its memory, while this one mixes into it.
        let version = u32::from(self.version) << 24;
        [params.m_cost(), params.t_cost(), params.p_cost() | version]
    }

    fn memory(&self) -> u64 {
        self.params.m_cost().max(MEMORY_KIB).into()
    }

    fn costs_as_ours(&self) -> bool {
        (
            self.params.m_cost(),
            self.params.t_cost(),
            self.params.p_cost(),
        ) == (MEMORY_KIB, PASSES, LANES)
    }

    fn is_outdated(&self) -> bool {
        let work = |memory: u32, passes: u32| u64::from(memory) * u64::from(passes);
        let (memory, passes) = (self.params.m_cost(), self.params.t_cost());
        self.algorithm != Algorithm::Argon2id
            || self.version != Version::V0x13
            || memory < MEMORY_KIB
            || work(memory, passes) < work(MEMORY_KIB, PASSES)
    }

    fn matches(&self, password: &[u8], memory: &Memory) -> bool {
        let argon2 = Argon2::new(self.algorithm, self.version, self.params.clone());
        let mut output = Zeroizing::new(vec![0; self.output.len()]);
        compute(&argon2, password, &self.salt, &mut output, memory)
            && verify_slices_are_equal(&output, &self.output).is_ok()
    }
}

/// A new hash of Doorward's own, with a random salt.
pub(super) fn hash(argon2: &Argon2<'_>, password: &[u8], memory: &Memory) -> Option<String> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).ok()?;
    let mut output = Zeroizing::new([0; Params::DEFAULT_OUTPUT_LEN]);
    if !compute(argon2, password, &salt, &mut *output, memory) {
        return None;
    }
    let hash = phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: phc::ParamsString::try_from(argon2.params()).ok()?,
        salt: Some(phc::Salt::new(&salt).ok()?),
        hash: Some(phc::Output::new(&*output).ok()?),
    };
    Some(hash.to_string())
}

fn compute(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    output: &mut [u8],
    memory: &Memory,
) -> bool {
    memory.lend(argon2.params().block_count(), |blocks| {
        argon2
            .hash_password_into_with_memory(password, salt, output, blocks)
            .is_ok()
    })
}
