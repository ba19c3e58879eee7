//! How long answers to logins are held back, so that what a hash costs tells nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Where the table holds hashes of several costs, these would tell who is in it: then all answers take as long as the
/// slowest of late. In microseconds, with some more for what varies; nothing where none was seen.
#[derive(Debug, Default)]
pub struct Pace {
    /// Of hashes that cost what ours do, and of the decoy.
    ours: AtomicU64,
    /// Of all others.
    others: AtomicU64,
}

/// The longest that an answer is held back: a machine that stood still must not make every login of the day wait.
const LONGEST_PACE: Duration = Duration::from_secs(2);

impl Pace {
    /// Until when an answer is held back whose hashing has just ended.
    pub(super) fn until(&self, started: Instant, is_ours: bool) -> Option<Instant> {
        let took = started.elapsed().min(LONGEST_PACE);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let of_its_kind = match is_ours {
            true => &self.ours,
            false => &self.others,
        };
        // What one kind takes is forgotten by that kind alone, or many attempts of the one would bare the other.
        let slowest = match of_its_kind.load(Ordering::Relaxed) {
            0 => took + took / 8,
            // What stands out once is of the machine, what does again is of the hash.
            before if took > before => (took + took / 8).min(before * 2),
            before => before - before / 64,
        };
        of_its_kind.store(slowest, Ordering::Relaxed);
        let (ours, others) = (
            self.ours.load(Ordering::Relaxed),
            self.others.load(Ordering::Relaxed),
        );
        let until = (others > 0).then_some(Duration::from_micros(ours.max(others)));
        until.and_then(|until| started.checked_add(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(millis: u64) -> Instant {
        Instant::now()
            .checked_sub(Duration::from_millis(millis))
            .unwrap()
    }

    /// How long the answer to somebody unknown takes.
    fn paced(pace: &Pace) -> Option<u128> {
        let started = ago(30);
        let until = pace.until(started, true)?;
        Some(until.duration_since(started).as_millis())
    }

    #[test]
    fn nothing_is_held_back_where_all_hashes_cost_the_same() {
        let pace = Pace::default();
        assert!((0..100).all(|_| paced(&pace).is_none()));
    }

    #[test]
    fn an_answer_takes_as_long_as_the_slowest_and_as_ours() {
        let pace = Pace::default();
        pace.until(ago(250), false);
        assert!(paced(&pace) > Some(250));
        // However many attempts there are meanwhile that nothing is known of.
        for _ in 0..1000 {
            paced(&pace);
        }
        assert!(paced(&pace) > Some(250));

        let cheap = Pace::default();
        paced(&cheap);
        let started = ago(1);
        let until = cheap.until(started, false).unwrap();
        assert!(until.duration_since(started) > Duration::from_millis(30));
    }

    #[test]
    fn a_machine_that_stood_still_is_forgotten() {
        let pace = Pace::default();
        pace.until(ago(600_000), false);
        assert!(paced(&pace) <= Some(2_250));
        for _ in 0..300 {
            pace.until(ago(50), false);
        }
        assert!(paced(&pace) < Some(100));
        pace.until(ago(600_000), false);
        assert!(paced(&pace) < Some(200));
    }
}
