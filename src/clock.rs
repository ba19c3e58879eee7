//! The clock of the shell; the domain is told what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::{throttle::UnixMillis, token::UnixTime};

/// Seconds since 1970. A clock before 1970 makes every token one from the future, and so refuses it.
pub(crate) fn unix_time() -> UnixTime {
    UnixTime(since().as_secs())
}

/// Milliseconds since 1970.
pub(crate) fn unix_millis() -> UnixMillis {
    UnixMillis(u64::try_from(since().as_millis()).unwrap_or(u64::MAX))
}

fn since() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}
