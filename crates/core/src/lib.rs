//! The rules: pure, synchronous, answering in data.
//!
//! A [`request::Request`] goes into [`judge::Judge::judge`], and a [`decision::Decision`] comes out. A request for an
//! endpoint, such as the login, comes out as an [`judge::Action`], which the program runs. This crate awaits nothing,
//! knows no wire format, database or password hash, and reads no clock, environment or file.

#![warn(missing_docs)]

pub mod account;
pub mod assertion;
pub mod body;
pub mod browser_session;
pub mod cookie;
pub mod credential;
pub mod decision;
pub mod form_key;
pub mod header_edits;
pub mod headers;
pub mod hex;
pub mod histogram;
pub mod identity_headers;
pub mod issuer;
pub mod judge;
pub mod jws;
pub mod key;
pub mod keyring;
pub mod machine_key;
pub mod machine_keys;
pub mod own_keys;
pub mod password;
pub mod path;
pub mod policy;
pub mod principal;
pub mod probe;
pub mod request;
pub mod return_target;
pub mod revocation;
pub mod secret;
pub mod session;
pub mod shadow;
pub mod sign_in;
pub mod time;
pub mod token;
mod token_cache;
pub mod token_fault;
pub mod trust;
