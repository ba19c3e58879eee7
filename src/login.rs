//! What logins need: accounts, stored password hashes, rules for new names and passwords, the throttle, and the queue
//! for hashing. Pure and synchronous; must not know tables, gateways or wire formats.

pub(crate) mod account;
pub(crate) mod desk;
pub(crate) mod enrolment;
pub(crate) mod fair_queue;
pub mod password;
pub mod throttle;
