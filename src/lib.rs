//! Doorward answers one question for a gateway: *may this request pass, and who is asking?*
//!
//! The way of a request:
//!
//! 1. A door turns a wire message into a [`domain::request::Request`], or into a denial if it cannot be read:
//!    [`doors::grpc::decode`].
//! 2. [`domain::judge::Judge::judge`] decides it from the rules and the keys in memory. Public and Bearer requests end
//!    here; nothing was awaited.
//! 3. A login needs one row ([`tables::users::Users::find`]) and one slow hash ([`login::desk::Desk::settle`], on a bounded
//!    pool); [`actions::authorizer::Authorizer`] waits for both.
//! 4. The [`domain::decision::Decision`] is logged once, and the door turns it into a wire message:
//!    [`doors::grpc::encode`].
//!
//! ARCHITECTURE.md says which room a line belongs to.

pub use doorward_core as domain;
pub use doorward_rules::files;

pub mod actions;
pub mod admin;
pub mod cli;
mod clock;
pub mod config;
pub mod doors;
mod feed;
pub mod issuers;
pub mod live;
pub mod login;
pub mod observe;
pub mod reload;
pub mod serve;
pub mod tables;
pub mod telemetry;
