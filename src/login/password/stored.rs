//! A parsed stored hash, and the memory for hashing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::argon2::Block;

use super::{Scheme, ours::OURS};

/// A parsed stored hash.
pub(super) trait Stored {
    fn scheme(&self) -> Scheme;

    /// Whether its cost is within the limits: a hostile row must not block the hashing threads.
    fn is_affordable(&self) -> bool {
        true
    }

    /// Whether verifying takes a noticeable time.
    fn is_slow(&self) -> bool {
        true
    }

    /// Whether verifying takes as long as for a hash of Doorward's own.
    fn costs_as_ours(&self) -> bool {
        false
    }

    /// Whether it is weaker than a hash of Doorward's own.
    fn is_outdated(&self) -> bool {
        true
    }

    /// The parameters that cost time.
    fn cost(&self) -> [u32; 3] {
        [0; 3]
    }

    /// How many KiB verifying takes in addition to those of every login.
    fn memory(&self) -> u64 {
        0
    }

    fn matches(&self, password: &[u8], memory: &Memory) -> bool;
}

/// Reuses the memory of finished hashes of Doorward's own until the hashing threads end because they are idle: repeated
/// allocation would make the allocator keep many times as much. Kept memory and memory in use together stay within the
/// limit, as long as memory in use does.
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

/// The smallest number of blocks to reserve: jemalloc puts allocations of 8 MiB and more into a separate arena, and returns
/// their memory to the system as soon as they are freed. Pages that are never written take no memory.
const MAPPED: usize = 8 * 1024;

impl Memory {
    pub(super) fn limited(limit: u64) -> Self {
        Self {
            limit,
            pool: Mutex::default(),
        }
    }

    /// Hashes with at least this many blocks.
    pub(super) fn lend<T>(&self, blocks: usize, hash: impl FnOnce(&mut [Block]) -> T) -> T {
        // All kept memory has one size, so that it fits every hash that needs no more than Doorward's own.
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

    /// Frees kept memory until this many KiB fit the limit, and counts them until the guard is dropped.
    pub(super) fn set_aside(&self, kib: u64) -> SetAside<'_> {
        let mut pool = self.pool();
        pool.in_use += kib;
        while self.limit > 0
            && pool.in_use + pool.kept.len() as u64 * OURS as u64 * BLOCK > self.limit
            && pool.kept.pop().is_some()
        {}
        SetAside { memory: self, kib }
    }

    /// Frees the memory that is kept for one hash.
    pub(super) fn release_one(&self) {
        let released = self.pool().kept.pop();
        drop(released);
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn blocks(&self) -> Vec<usize> {
        self.pool().kept.iter().map(Vec::len).collect()
    }
}

/// KiB in use.
pub(super) struct SetAside<'a> {
    memory: &'a Memory,
    kib: u64,
}

impl Drop for SetAside<'_> {
    fn drop(&mut self) {
        self.memory.pool().in_use -= self.kib;
    }
}
