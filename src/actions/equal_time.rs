//! Delays answers to logins, so that their time does not reveal the cost of a hash.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::login::password::{Kind, LengthClass, Scheme};

/// The times of each kind of hash. If a table contains hashes that cost more or less than Doorward's own, their times
/// would reveal who is in it. So every answer takes as long as the slowest kind does for a password of the same length.
#[derive(Debug, Default)]
pub(crate) struct EqualTime {
    /// By kind; no kind for hashes that cost as much as Doorward's own, and for the decoy.
    kinds: Mutex<HashMap<Option<Kind>, Times>>,
}

/// Microseconds by class of length, with a margin for variation; 0 if unknown.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    now: [u64; LengthClass::BYTES.len()],
    /// The longest time measured outside of logins.
    measured: u64,
    /// Whether a caller measures it or has done so.
    is_claimed: bool,
}

/// The longest delay that results from times of logins: after a pause of the whole machine, logins must not stay slow
/// all day. A measured time may be longer.
const LONGEST_PACE: Duration = Duration::from_secs(2);

/// The most kinds with times of their own; later ones share one.
const MOST_KINDS: usize = 64;

const OTHERS: Kind = Kind {
    scheme: Scheme::Unknown,
    cost: [0; 3],
};

impl EqualTime {
    /// The time until which an answer is held back after hashing.
    pub(super) fn until(
        &self,
        started: Instant,
        kind: Option<Kind>,
        class: LengthClass,
    ) -> Option<Instant> {
        let took = micros(started.elapsed());
        let mut kinds = self.kinds();
        let kind = match kinds.contains_key(&kind) || kinds.len() < MOST_KINDS {
            true => kind,
            false => Some(OTHERS),
        };
        kinds.entry(kind).or_default().see(took, at(kind, class));
        let is_paced = kinds.keys().any(Option::is_some);
        let slowest = kinds.iter().map(|(kind, times)| times.of(at(*kind, class)));
        let until = slowest.max().filter(|_| is_paced)?;
        started.checked_add(Duration::from_micros(until))
    }

    /// Whether the caller should measure this kind, because no other caller does or has done so.
    pub(super) fn claim(&self, kind: Option<Kind>) -> bool {
        let mut kinds = self.kinds();
        let room = kinds.len() < MOST_KINDS;
        match kinds.entry(kind) {
            Entry::Occupied(mut known) => !mem::replace(&mut known.get_mut().is_claimed, true),
            Entry::Vacant(_) if !room => false,
            Entry::Vacant(new) => {
                new.insert(Times::default()).is_claimed = true;
                true
            }
        }
    }

    /// Records the measured times of a kind for a short password and for the longest one; times between are
    /// interpolated.
    pub(super) fn learn(&self, kind: Option<Kind>, short: Duration, longest: Duration) {
        let (short, longest) = (micros(short), micros(longest.max(short)));
        let mut kinds = self.kinds();
        if kinds.len() >= MOST_KINDS && !kinds.contains_key(&kind) {
            return;
        }
        let times = kinds.entry(kind).or_default();
        let bytes = |class: LengthClass| class.bytes() as u64;
        let (first, last) = (bytes(LengthClass::SHORT), bytes(LengthClass::LONGEST));
        for (class, time) in LengthClass::all().zip(&mut times.now) {
            let between = (longest - short) * (bytes(class) - first) / (last - first);
            let took = short + between;
            *time = (*time).max(took + took / 8);
        }
        times.measured = times.measured.max(longest + longest / 8);
    }

    /// The longest delay of an answer.
    pub(super) fn longest(&self) -> Duration {
        let kinds = self.kinds();
        let all = kinds.values().flat_map(|times| times.now);
        Duration::from_micros(all.max().unwrap_or_default())
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Option<Kind>, Times>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    fn see(&mut self, took: u64, class: LengthClass) {
        let took = took.min(micros(LONGEST_PACE).max(self.measured));
        let Some(time) = self.now.get_mut(class.index()) else {
            return;
        };
        // Each kind decays separately; otherwise a flood of one would reveal the other.
        *time = match *time {
            0 => took + took / 8,
            // The machine may cause a single slow run; the hash causes repeated ones.
            before if took > before => (took + took / 8).min(before * 2),
            before => before - before / 64,
        };
    }

    /// The longest known time of this length or a shorter one.
    fn of(&self, class: LengthClass) -> u64 {
        let known = self.now.get(..=class.index()).unwrap_or_default();
        known.iter().copied().max().unwrap_or_default()
    }
}

/// The class that a time is recorded for: for most kinds, the length does not matter.
fn at(kind: Option<Kind>, class: LengthClass) -> LengthClass {
    match kind.is_some_and(Kind::grows) {
        true => class,
        false => LengthClass::SHORT,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: LengthClass = LengthClass::SHORT;
    const LONGEST: LengthClass = LengthClass::LONGEST;

    const BCRYPT: Option<Kind> = Some(Kind {
        scheme: Scheme::Bcrypt,
        cost: [10, 0, 0],
    });
    const PHPASS: Option<Kind> = Some(Kind {
        scheme: Scheme::Phpass,
        cost: [13, 0, 0],
    });

    fn ago(millis: u64) -> Instant {
        Instant::now()
            .checked_sub(Duration::from_millis(millis))
            .unwrap()
    }

    /// How long the answer for an unknown user takes.
    fn paced(equal_time: &EqualTime, class: LengthClass) -> Option<u128> {
        let started = ago(30);
        let until = equal_time.until(started, None, class)?;
        Some(until.duration_since(started).as_millis())
    }

    #[test]
    fn answers_are_not_delayed_if_all_hashes_cost_the_same() {
        let equal_time = EqualTime::default();
        assert!((0..100).all(|_| paced(&equal_time, SHORT).is_none()));
        equal_time.learn(None, Duration::from_millis(30), Duration::ZERO);
        assert_eq!(paced(&equal_time, SHORT), None);
    }

    #[test]
    fn an_answer_takes_as_long_as_the_slowest_kind_and_our_own() {
        let equal_time = EqualTime::default();
        equal_time.until(ago(250), BCRYPT, SHORT);
        assert!(paced(&equal_time, SHORT) > Some(250));
        // Many attempts with unknown users and cheaper kinds do not shorten it.
        for _ in 0..1000 {
            paced(&equal_time, SHORT);
            equal_time.until(ago(1), PHPASS, SHORT);
        }
        assert!(paced(&equal_time, SHORT) > Some(250));

        let cheap = EqualTime::default();
        paced(&cheap, SHORT);
        let started = ago(1);
        let until = cheap.until(started, PHPASS, SHORT).unwrap();
        assert!(until.duration_since(started) > Duration::from_millis(30));
    }

    #[test]
    fn measured_times_apply_to_the_first_login_and_every_length() {
        let equal_time = EqualTime::default();
        let millis = Duration::from_millis;
        equal_time.learn(BCRYPT, millis(100), Duration::ZERO);
        equal_time.learn(PHPASS, millis(40), millis(1000));
        assert!(paced(&equal_time, SHORT) > Some(100));
        let mut before = 100;
        for class in LengthClass::all().skip(2) {
            let paced = paced(&equal_time, class).unwrap();
            assert!(paced > before, "{class:?}: {paced}");
            before = paced;
        }
        assert!(before > 1000);
        // Many short guesses at one kind shorten neither its time for long passwords nor that of another kind.
        for _ in 0..1000 {
            equal_time.until(ago(1), PHPASS, SHORT);
        }
        assert!(paced(&equal_time, LONGEST) > Some(1000));
        assert!(paced(&equal_time, SHORT) > Some(100));
        // A measured time may exceed the limit for observed times.
        equal_time.learn(BCRYPT, millis(4000), Duration::ZERO);
        assert!(paced(&equal_time, SHORT) > Some(4000));
        equal_time.until(ago(4100), BCRYPT, SHORT);
        assert!(paced(&equal_time, SHORT) > Some(4000));
    }

    #[test]
    fn kinds_beyond_the_limit_share_one_entry() {
        let equal_time = EqualTime::default();
        for cost in 0..1000 {
            let kind = Kind {
                scheme: Scheme::Pbkdf2,
                cost: [cost, 0, 0],
            };
            equal_time.until(ago(50), Some(kind), SHORT);
        }
        assert!(equal_time.kinds().len() <= MOST_KINDS + 1);
        assert!(paced(&equal_time, SHORT) > Some(50));
    }

    #[test]
    fn a_very_long_observed_time_is_capped_and_decays() {
        let equal_time = EqualTime::default();
        equal_time.until(ago(600_000), BCRYPT, SHORT);
        assert!(paced(&equal_time, SHORT) <= Some(2_250));
        for _ in 0..300 {
            equal_time.until(ago(50), BCRYPT, SHORT);
        }
        assert!(paced(&equal_time, SHORT) < Some(100));
        equal_time.until(ago(600_000), BCRYPT, SHORT);
        assert!(paced(&equal_time, SHORT) < Some(200));
    }
}
