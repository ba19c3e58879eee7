//! The clock of the module; the core gets the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use doorward_core::time::UnixTime;

/// Unix time. A clock before 1970 refuses every token, as one from the future.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}
