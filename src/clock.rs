//! The clock of the program; the core gets the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{domain::token::UnixTime, login::throttle::UnixMillis};

/// Unix time. A clock before 1970 refuses every token, as one from the future.
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

/// A random part of a duration: jitter, so that replicas do not synchronise.
pub(crate) fn random_part(of: Duration) -> Duration {
    let [first, second, ..] = *uuid::Uuid::new_v4().as_bytes();
    of * u32::from(u16::from_be_bytes([first, second])) / (1 << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_parts_are_shorter_than_the_whole_and_vary() {
        let whole = Duration::from_secs(300);
        let mut parts: Vec<_> = (0..64).map(|_| random_part(whole)).collect();
        assert!(parts.iter().all(|part| *part < whole), "{parts:?}");
        parts.sort();
        assert!(parts[8] < whole / 2 && parts[56] > whole / 2, "{parts:?}");
    }
}
