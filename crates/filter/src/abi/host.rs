//! An Envoy for tests and for the fuzz target: it calls the hooks, and gives the module its own functions. Memory that the
//! module may read only for a while is freed as soon as that while is over, so that AddressSanitizer sees every later use.
//! What no Envoy may meet is kept as a fault.

#![cfg_attr(
    not(test),
    allow(
        dead_code,
        unused_imports,
        reason = "the fuzz target does not need all of it"
    )
)]

mod callbacks;
mod config;
mod config_callbacks;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    callbacks::{lines, validate},
    config::FakeConfig,
    request::{Answered, FakeRequest},
};

use self::callbacks::install;
use super::raw::{Buffer, Pair};

/// The result of a callout or a metric that is not [`super::raw::SUCCESS`].
const FAILURE: u32 = 1;

/// A header, owned.
pub(crate) type Owned = (Vec<u8>, Vec<u8>);

/// A request that the module sent to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) cluster: Vec<u8>,
    pub(crate) headers: Vec<Owned>,
    pub(crate) body: Vec<u8>,
}

impl Sent {
    /// # Safety
    ///
    /// The module must have given these to the function that runs.
    unsafe fn new(cluster: Buffer, headers: *const Pair, count: usize, body: Buffer) -> Self {
        Self {
            // SAFETY: by the contract.
            cluster: unsafe { cluster.bytes() }.into(),
            // SAFETY: by the contract.
            headers: unsafe { owned(headers, count) },
            // SAFETY: by the contract.
            body: unsafe { body.bytes() }.into(),
        }
    }
}

/// Copies headers of the module.
///
/// # Safety
///
/// The module must have given these to the function that runs.
unsafe fn owned(headers: *const Pair, count: usize) -> Vec<Owned> {
    if count == 0 {
        return Vec::new();
    }
    // SAFETY: by the contract, these are as many headers.
    let pairs = unsafe { std::slice::from_raw_parts(headers, count) };
    let pairs = pairs.iter().map(|pair| {
        // SAFETY: by the contract, the module filled the pair.
        let (name, value) = unsafe { pair.bytes() };
        (name.into(), value.into())
    });
    pairs.collect()
}

/// Reads labels.
///
/// # Safety
///
/// The module must have given these to the function that runs.
unsafe fn read_labels(labels: *const Buffer, count: usize) {
    for at in 0..count {
        // SAFETY: by the contract, these are as many labels.
        let label = unsafe { labels.add(at) };
        // SAFETY: by the contract.
        let label = unsafe { label.read() };
        // SAFETY: by the contract.
        assert!(unsafe { label.bytes() }.iter().all(|byte| *byte != 0));
    }
}

/// The answer to a callout in memory that ends with this value.
struct Reply {
    pairs: Box<[Pair]>,
    chunks: Box<[Buffer]>,
    _texts: Vec<Box<[u8]>>,
}

impl Reply {
    /// An answer with a status, and a body in chunks of this length.
    fn new(status: &[u8], body: &[u8], length: usize) -> Self {
        let head = [&b":status"[..], status, b"content-type", b""].map(Box::<[u8]>::from);
        let [name, value, other, nothing] = &head;
        let pairs = [Pair::of((name, value)), Pair::of((other, nothing))];
        let chunks: Vec<_> = body.chunks(length.max(1)).map(Box::<[u8]>::from).collect();
        Self {
            pairs: pairs.into(),
            chunks: chunks.iter().map(|chunk| Buffer::of(chunk)).collect(),
            _texts: head.into_iter().chain(chunks).collect(),
        }
    }
}
