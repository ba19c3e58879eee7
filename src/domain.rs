//! The rules: pure, synchronous, answering in data.
//!
//! A [`request::Request`] goes into [`gate::Gate::judge`], and a [`decision::Decision`] comes out, except for a login,
//! which needs one row of the user table: then [`gate::Step::Login`] comes out, and [`gate::Gate::settle`] takes the
//! row. Nothing in here waits, knows a wire format or a database, reads the clock, the environment or a file.

pub mod account;
pub mod credential;
pub mod decision;
pub(crate) mod der;
pub mod enrolment;
pub mod fields;
pub mod foreign;
pub mod gate;
pub(crate) mod hex;
pub mod histogram;
pub mod jws;
pub mod key;
pub mod keyring;
pub mod password;
pub mod path;
pub mod policy;
pub mod request;
pub mod revocation;
pub mod session;
pub mod throttle;
pub mod token;
pub mod trust;
mod verified;
