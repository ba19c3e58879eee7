//! The house as a whole: Doorward with real gateways and real databases around it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test that meets something unexpected ends there"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod front;

mod borders;
mod commands;
mod contract;
mod core_table;
mod database;
mod docs;
mod golden;
mod grpc_client;
mod http_port;
mod login;
mod paths;
mod proxies;
mod smoke;
mod spoofing;
mod streaming;
