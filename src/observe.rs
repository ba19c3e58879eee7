//! What people and machines see of Doorward: the log of requests, the audit trail, metrics and spans. Knows the core
//! and nothing else of the program; doors, actions and tables use it.

pub mod audit;
mod causes;
pub mod metrics;
pub mod request_log;
pub mod spans;

pub use self::causes::causes;
