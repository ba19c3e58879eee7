//! Decides requests: takes what the judge says at once, and runs the actions that need a row or a hash.
//!
//! Must not know: wire formats, SQL, settings.

pub(crate) mod authorizer;
pub(crate) mod equal_time;
pub(crate) mod hashing;
pub(crate) mod run;
