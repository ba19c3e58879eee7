//! The answer to a callout.

use super::raw::{self, Buffer, Pair};

/// The answer to a callout. No `Debug`: it may contain tokens.
pub(crate) struct Reply {
    /// The status; 0 where there is none.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Copies an answer; `None` if the callout failed.
    ///
    /// # Safety
    ///
    /// Envoy must have given these to the hook that runs.
    pub(super) unsafe fn new(
        result: u32,
        headers: *const Pair,
        count: usize,
        chunks: *const Buffer,
        chunk_count: usize,
    ) -> Option<Self> {
        if result != raw::SUCCESS || headers.is_null() {
            return None;
        }
        let (mut status, mut body) = (0, Vec::new());
        // SAFETY: by the contract, these are as many headers.
        for header in unsafe { std::slice::from_raw_parts(headers, count) } {
            // SAFETY: Envoy filled the pair, which lives as long as the hook.
            let (name, value) = unsafe { header.bytes() };
            if name == b":status" {
                status = str::from_utf8(value)
                    .ok()
                    .and_then(|value| value.parse().ok())
                    .unwrap_or(0);
            }
        }
        if !chunks.is_null() {
            // SAFETY: by the contract, these are as many chunks.
            for chunk in unsafe { std::slice::from_raw_parts(chunks, chunk_count) } {
                // SAFETY: Envoy filled the chunk, which lives as long as the hook.
                body.extend_from_slice(unsafe { chunk.bytes() });
            }
        }
        Some(Self { status, body })
    }
}
