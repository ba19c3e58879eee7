//! Doorward answers one question for a gateway: *may this request pass, and who is asking?*
//!
//! The way of a request:
//!
//! 1. A door turns a wire message into a [`domain::request::Request`], or into a denial if it cannot be read:
//!    [`doors::grpc::decode`].
//! 2. [`domain::judge::Judge::judge`] decides it from the rules and the keys in memory. Public and Bearer requests end
//!    here; nothing was awaited.
//! 3. A login needs one row ([`tables::users::Users::find`]) and one slow hash (`Desk::settle`, on a bounded
//!    pool); `Authorizer` waits for both.
//! 4. The [`domain::decision::Decision`] is logged once, and the door turns it into a wire message:
//!    [`doors::grpc::encode`].
//!
//! ARCHITECTURE.md says which room a line belongs to.

pub use doorward_core as domain;
pub use doorward_rules::files;

pub use self::run::main;

mod actions;
mod admin;
mod cli;
mod clock;
pub mod config;
pub mod doors;
mod feed;
mod issuers;
mod live;
pub mod login;
mod observe;
mod pages;
mod reload;
mod run;
mod serve;
mod shadow;
pub mod tables;
mod telemetry;
