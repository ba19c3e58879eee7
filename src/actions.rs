//! Decides requests: takes what the judge says at once, and runs the actions that need a row or a hash.
//!
//! Must not know: wire formats, SQL, settings.

pub mod authorizer;
pub mod equal_time;
pub mod hashing;
pub mod run;
