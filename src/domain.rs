//! The rules: pure, synchronous, answering in data.
//!
//! A [`request::Request`] goes into [`gate::Gate::judge`], and a [`decision::Decision`] comes out, unless the request is for
//! an endpoint such as the login: then [`gate::Step::Errand`] comes out, and the shell fetches what it needs, such as the
//! row that [`gate::Gate::settle`] takes. Nothing in here waits, knows a wire format or a database, reads the clock, the
//! environment or a file.

pub mod account;
pub mod credential;
pub mod decision;
pub(crate) mod der;
pub mod enrolment;
pub mod fair_queue;
pub mod fields;
pub mod foreign;
pub mod gate;
pub(crate) mod hex;
pub mod histogram;
pub mod identity_headers;
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
