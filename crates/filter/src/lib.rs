//! The judge inside Envoy: a dynamic module that decides, in Envoy's worker threads, every request that needs no waiting. It
//! lets Doorward answer the rest.
//!
//! Must not know: a runtime, databases, password hashes, private keys. The module `abi` alone holds unsafe code.

#[expect(
    unsafe_code,
    reason = "Envoy's interface is in C; every block says why it is sound"
)]
mod abi;

mod action;
mod bootstrap;
mod check;
mod clock;
mod filter;
mod follower;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod log;
mod reading;
mod rule_counts;
mod settings;
mod state;
mod stats;
