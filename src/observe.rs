//! What people and machines see of Doorward: the log of requests, the audit trail, metrics and spans. Knows the core
//! and nothing else of the program; doors, actions and tables use it.

pub(crate) mod audit;
mod causes;
pub(crate) mod metrics;
pub(crate) mod request_log;
pub(crate) mod spans;

pub(crate) use self::causes::causes;
