//! Files and the values read from them: read as of one moment, replaced as a whole, read again when they change.
//!
//! Must not know: a runtime, databases, requests.

pub mod cases;
pub mod current;
pub mod feed;
pub mod files;
pub mod keys;
pub mod private;
pub mod routes;
pub mod tables;
