//! What a stored text is, told from the text alone.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::argon2::Block;

use super::{
    Scheme,
    argon2::{Argon2Hash, OURS},
    bcrypt::Bcrypt,
    crypt::{Md5Crypt, Phpass, ShaCrypt},
    ldap::LdapSha,
    pbkdf2::Pbkdf2,
    plaintext::Plaintext,
    scrypt::Scrypt,
};

/// A stored text that was understood.
pub(super) trait Stored {
    fn scheme(&self) -> Scheme;

    /// Whether its cost is below the cap: a hostile row must not be able to stop a login pool.
    fn is_affordable(&self) -> bool {
        true
    }

    /// Whether verifying takes a time that can be felt at all.
    fn is_slow(&self) -> bool {
        true
    }

    /// Whether verifying takes as long as for what is written here.
    fn costs_as_ours(&self) -> bool {
        false
    }

    /// Whether it is weaker than what is written here.
    fn is_outdated(&self) -> bool {
        true
    }

    /// The parameters that cost time.
    fn cost(&self) -> [u32; 3] {
        [0; 3]
    }

    /// How many KiB verifying takes beyond what every login takes.
    fn memory(&self) -> u64 {
        0
    }

    fn matches(&self, password: &[u8], memory: &Memory) -> bool;
}

/// Memory of hashes of ours that are done, for those to come: an allocator that is asked for it time and again keeps many
/// times as much. What is kept and what is in use stay within the limit together, as long as what is in use does.
#[derive(Default)]
pub(super) struct Memory {
    /// KiB; 0 for no limit.
    limit: u64,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    kept: Vec<Vec<Block>>,
    /// KiB.
    in_use: u64,
}

/// KiB of a block of argon2.
const BLOCK: u64 = 1;

/// Blocks that are reserved at least: glibc's allocator maps what is larger than 32 MiB by itself, and so gives it back at
/// once when it is freed. Pages that are never written take no memory.
const MAPPED: usize = 33 * 1024;

impl Memory {
    pub(super) fn limited(limit: u64) -> Self {
        Self {
            limit,
            pool: Mutex::default(),
        }
    }

    /// Hashes with at least so many blocks.
    pub(super) fn lend<T>(&self, blocks: usize, hash: impl FnOnce(&mut [Block]) -> T) -> T {
        // Kept ones are all of one size, so that each fits every hash that is not dearer than ours.
        let wanted = blocks.max(OURS);
        let kept = match wanted > OURS {
            true => None,
            false => self.pool().kept.pop(),
        };
        let room = self.set_aside(wanted as u64 * BLOCK);
        let mut memory = kept.unwrap_or_else(|| Vec::with_capacity(wanted.max(MAPPED)));
        memory.resize(wanted, Block::new());
        let hashed = hash(memory.as_mut_slice());
        drop(room);
        if wanted == OURS {
            self.pool().kept.push(memory);
        }
        hashed
    }

    /// Frees kept memory until so many KiB fit the limit, and counts them until the guard is dropped.
    pub(super) fn set_aside(&self, kib: u64) -> SetAside<'_> {
        let mut pool = self.pool();
        pool.in_use += kib;
        while self.limit > 0
            && pool.in_use + pool.kept.len() as u64 * OURS as u64 * BLOCK > self.limit
            && pool.kept.pop().is_some()
        {}
        SetAside { memory: self, kib }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn blocks(&self) -> Vec<usize> {
        self.pool().kept.iter().map(Vec::len).collect()
    }
}

/// KiB that are in use.
pub(super) struct SetAside<'a> {
    memory: &'a Memory,
    kib: u64,
}

impl Drop for SetAside<'_> {
    fn drop(&mut self) {
        self.memory.pool().in_use -= self.kib;
    }
}

/// No text of a known format is longer, and no password is.
const MAX_TEXT: usize = 1024;

pub(super) fn parse(text: &str, plaintext_allowed: bool) -> Option<Box<dyn Stored + '_>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let tagged = text.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    match tagged {
        Some((tag, rest)) if rest.starts_with('$') => {
            let known = TAGS.iter().any(|known| tag.eq_ignore_ascii_case(known));
            known.then(|| modular(rest)).flatten()
        }
        Some((tag, rest)) => boxed(LdapSha::parse(tag, rest)),
        None if text.starts_with('$') => modular(text),
        None => named(text).or_else(|| {
            let plaintext = plaintext_allowed.then(|| Plaintext::parse(text));
            boxed(plaintext.flatten())
        }),
    }
}

/// The tags of OpenLDAP and Dovecot before a hash that tells its scheme itself.
const TAGS: &[&str] = &[
    "CRYPT",
    "ARGON2",
    "ARGON2I",
    "ARGON2ID",
    "BLF-CRYPT",
    "MD5-CRYPT",
    "SHA256-CRYPT",
    "SHA512-CRYPT",
];

/// `$id$..`: PHC and the modular crypt format.
fn modular(text: &str) -> Option<Box<dyn Stored + '_>> {
    let (id, _) = text.strip_prefix('$')?.split_once('$')?;
    match id {
        "argon2id" | "argon2i" | "argon2d" => boxed(Argon2Hash::parse(text)),
        "2a" | "2b" | "2y" => boxed(Bcrypt::parse(text)),
        "bcrypt-sha256" => boxed(Bcrypt::parse_passlib_sha256(text)),
        "scrypt" => boxed(Scrypt::parse_phc(text)),
        "pbkdf2" | "pbkdf2-sha1" | "pbkdf2-sha256" | "pbkdf2-sha512" => {
            boxed(Pbkdf2::parse_modular(text))
        }
        "5" | "6" => boxed(ShaCrypt::parse(text)),
        "1" | "apr1" => boxed(Md5Crypt::parse(text)),
        "P" | "H" => boxed(Phpass::parse(text)),
        _ => None,
    }
}

/// `name$..` of Django and `name:..` of Werkzeug.
fn named(text: &str) -> Option<Box<dyn Stored + '_>> {
    let end = text.find(['$', ':', '_'])?;
    let (name, rest) = (text.get(..end)?, text.get(end + 1..)?);
    match (name, text.as_bytes().get(end)?) {
        ("argon2", b'$') => boxed(Argon2Hash::parse(text.get(end..)?)),
        ("bcrypt", b'$') => boxed(Bcrypt::parse(rest)),
        ("bcrypt", b'_') => boxed(Bcrypt::parse_django_sha256(rest.strip_prefix("sha256$")?)),
        ("pbkdf2", b'_') => boxed(Pbkdf2::parse_django(rest)),
        ("pbkdf2", b':') => boxed(Pbkdf2::parse_werkzeug(rest)),
        ("scrypt", b'$') => boxed(Scrypt::parse_django(rest)),
        ("scrypt", b':') => boxed(Scrypt::parse_werkzeug(rest)),
        _ => None,
    }
}

fn boxed<'a>(stored: Option<impl Stored + 'a>) -> Option<Box<dyn Stored + 'a>> {
    stored.map(|stored| Box::new(stored) as Box<dyn Stored>)
}
