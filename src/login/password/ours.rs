//! What a new hash costs.

/// The parameters of Doorward's own hashes, from the OWASP cheat sheet.
pub(super) const MEMORY_KIB: u32 = 19_456;
pub(super) const PASSES: u32 = 2;
pub(super) const LANES: u32 = 1;

/// Blocks of Doorward's own hashes.
pub(super) const OURS: usize = MEMORY_KIB as usize;
