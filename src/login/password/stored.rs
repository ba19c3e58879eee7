//! A stored hash that was understood, and the memory for hashing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::argon2::Block;

use super::{Scheme, ours::OURS};

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
