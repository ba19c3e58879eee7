//! How failures make the next attempt wait, and how they decay. Knows one count at a time.

use std::time::Duration;

use super::{
    UnixMillis,
    origin::{is_address, is_site},
};

/// The number of failures without a wait, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Curve {
    /// Failures without a wait.
    pub(crate) free: u32,
    /// What follows them.
    pub(crate) then: Then,
}

/// How waits grow and failures decay after the failures without a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// One second, doubling with each failure. All failures expire at once.
    Doubling {
        /// The longest wait.
        most: Duration,
        /// The longest wait after a hundred failures (NIST SP 800-63B, 3.2.2, allows no more in a row).
        most_after_hundred: Duration,
        /// The time without a failure after which all of them expire.
        forget: Duration,
    },
    /// One failure expires in each period, which allows one more attempt. For a count that many users share, because
    /// some of them mistype at any time.
    OneEach(Duration),
}

impl Curve {
    /// For one account.
    #[must_use]
    pub(crate) fn account(free: u32) -> Self {
        Self {
            free,
            then: Then::Doubling {
                most: Duration::from_secs(300),
                most_after_hundred: Duration::from_secs(3600),
                forget: Duration::from_secs(24 * 3600),
            },
        }
    }

    /// For one client address, which many users may share.
    #[must_use]
    pub(crate) fn address(free: u32) -> Self {
        Self {
            free,
            then: Then::Doubling {
                most: Duration::from_secs(60),
                most_after_hundred: Duration::from_secs(60),
                forget: Duration::from_secs(3600),
            },
        }
    }

    /// For a /48: as many failures as ten of its addresses may have, whichever of them fails.
    #[must_use]
    pub(crate) fn network(address: u32) -> Self {
        Self {
            free: address.saturating_mul(10),
            then: Then::OneEach(Duration::from_secs(6)),
        }
    }

    /// For all clients together whose address is not known.
    #[must_use]
    pub(crate) fn unknown(free: u32) -> Self {
        Self {
            free,
            then: Then::OneEach(Duration::from_secs(1)),
        }
    }

    /// For keys that share a count because there is no room for another one.
    #[must_use]
    pub(crate) fn overflow(address: u32) -> Self {
        Self {
            free: address,
            then: Then::OneEach(Duration::from_secs(60)),
        }
    }

    /// The number of failures that still count.
    #[must_use]
    pub(crate) fn left(&self, tally: FailureCount, now: UnixMillis) -> u32 {
        match self.then {
            Then::Doubling { forget, .. } if now.since(tally.last) > forget => 0,
            Then::Doubling { .. } => tally.failures,
            Then::OneEach(each) => tally.failures.saturating_sub(times(now, tally.last, each)),
        }
    }

    /// The wait of the next attempt after this many counting failures, the last of them at this time.
    #[must_use]
    pub(crate) fn wait(&self, failures: u32, last: UnixMillis, now: UnixMillis) -> Duration {
        let Some(beyond) = failures.checked_sub(self.free) else {
            return Duration::ZERO;
        };
        let since = now.since(last);
        match self.then {
            Then::Doubling {
                most,
                most_after_hundred,
                ..
            } => {
                let most = match failures {
                    0..100 => most,
                    _ => most_after_hundred,
                };
                let seconds = 1_u64.checked_shl(beyond).filter(|_| beyond < 32);
                let delay = seconds.map_or(most, |seconds| most.min(Duration::from_secs(seconds)));
                delay.saturating_sub(since)
            }
            Then::OneEach(each) => {
                let part = since.as_millis() % each.as_millis().max(1);
                let part = Duration::from_millis(u64::try_from(part).unwrap_or(0));
                each.saturating_mul(beyond.saturating_add(1))
                    .saturating_sub(part)
            }
        }
    }

    /// One more failure.
    pub(crate) fn fail(&self, tally: &mut FailureCount, now: UnixMillis) {
        let left = self.left(*tally, now);
        tally.last = match self.then {
            // Part of the period until the next one expires has passed.
            Then::OneEach(each) if left > 0 => {
                let passed = each.saturating_mul(times(now, tally.last, each));
                UnixMillis(tally.last.0.saturating_add(millis(passed)))
            }
            Then::OneEach(_) => now,
            Then::Doubling { .. } => tally.last.max(now),
        };
        tally.failures = left.saturating_add(1);
    }
}

/// The failures of one account or address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailureCount {
    /// How often the failures were cleared; the latest epoch wins. Not zero for a familiar address.
    pub(crate) epoch: u64,
    /// Failures since the last clearing.
    pub(crate) failures: u32,
    /// The time of the last failure.
    pub(crate) last: UnixMillis,
}

/// The count of one account or address at one replica.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) tally: FailureCount,
    /// Admitted attempts without a result; until they have one, each counts as failed.
    pub(super) under_way: u32,
    begun: UnixMillis,
}

impl Count {
    pub(super) fn wait(self, curve: Curve, now: UnixMillis) -> Duration {
        let left = curve.left(self.tally, now);
        match self.under_way {
            0 => curve.wait(left, self.tally.last, now),
            more => curve.wait(
                left.saturating_add(more),
                self.tally.last.max(self.begun),
                now,
            ),
        }
    }

    /// The wait that follows from failures alone, without attempts in progress.
    pub(super) fn wait_for_failures(self, curve: Curve, now: UnixMillis) -> Duration {
        Self::settled(self.tally).wait(curve, now)
    }

    pub(super) fn settled(tally: FailureCount) -> Self {
        Self {
            tally,
            ..Self::default()
        }
    }

    pub(super) fn begin(&mut self, now: UnixMillis) {
        self.under_way = self.under_way.saturating_add(1);
        self.begun = self.begun.max(now);
    }

    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}

/// The number of failures without a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// For one account.
    pub account: u32,
    /// For one client address.
    pub address: u32,
    /// For all clients together whose address is not known.
    pub unknown: u32,
}

/// The curve of each kind of count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curves {
    pub(super) account: Curve,
    address: Curve,
    network: Curve,
    pub(super) unknown: Curve,
    pub(super) overflow: Curve,
}

impl Curves {
    pub(super) fn new(free: Free) -> Self {
        Self {
            account: Curve::account(free.account),
            address: Curve::address(free.address),
            network: Curve::network(free.address),
            unknown: Curve::unknown(free.unknown),
            overflow: Curve::overflow(free.address),
        }
    }

    pub(super) fn of(&self, key: &str) -> Curve {
        match is_address(key) {
            true if is_site(key) => self.network,
            true => self.address,
            false => self.account,
        }
    }
}

/// How many whole periods have passed since a time.
fn times(now: UnixMillis, since: UnixMillis, each: Duration) -> u32 {
    let times = millis(now.since(since)) / millis(each).max(1);
    u32::try_from(times).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
