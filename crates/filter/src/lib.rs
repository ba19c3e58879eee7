//! The judge inside Envoy: a dynamic module that decides, in Envoy's own worker, every request that needs no waiting, and
//! lets Doorward answer the rest.
//!
//! Must not know: a runtime, databases, password hashes, private keys. The module `abi` alone holds unsafe code.

#[expect(
    unsafe_code,
    reason = "Envoy's interface is one of C; every block says why it is sound"
)]
mod abi;

mod action;
mod bootstrap;
mod check;
mod filter;
mod follower;
mod log;
mod reading;
mod settings;
mod state;
mod stats;
