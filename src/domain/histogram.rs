//! How many times fell into which range: counted without a lock, so that what happens on every request can be measured.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Where ranges end, and how exactly times are summed.
#[derive(Debug)]
pub struct Scale {
    /// The longest time of each range, in ascending order; what is longer falls into a last one.
    pub bounds: &'static [Duration],
    /// How exact the sum is.
    pub resolution: Resolution,
}

/// For what a login may take.
pub static TO_TEN_SECONDS: Scale = Scale {
    bounds: &[
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2500),
        Duration::from_secs(5),
        Duration::from_secs(10),
    ],
    resolution: Resolution::Nanoseconds,
};

/// What a sum is counted in: 64 bits hold 584 years of nanoseconds, which ages of tokens could exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// For what takes fractions of seconds.
    Nanoseconds,
    /// For what takes hours.
    Seconds,
}

/// Counts of times by range, and their sum.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One a bound, and one for what is longer than all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram as it was at one moment, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The upper bound of each range, and how many times fell into it and into no lower one; the last is without end.
    pub ranges: Vec<(f64, u64)>,
    /// Of all times.
    pub sum: f64,
    /// How many times.
    pub count: u64,
}

impl Histogram {
    /// Has seen nothing yet.
    #[must_use]
    pub fn new(scale: &'static Scale) -> Self {
        let ranges = 0..=scale.bounds.len();
        Self {
            scale,
            counts: ranges.map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a time.
    pub fn observe(&self, time: Duration) {
        // Short times are the most, and there are few bounds.
        let bounds = self.scale.bounds;
        let range = bounds.iter().position(|bound| time <= *bound);
        let sum = match self.scale.resolution {
            Resolution::Nanoseconds => u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            Resolution::Seconds => time.as_secs(),
        };
        if let Some(count) = self.counts.get(range.unwrap_or(bounds.len())) {
            count.fetch_add(1, Ordering::Relaxed);
            self.sum.fetch_add(sum, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let bounds = self.scale.bounds.iter().map(Duration::as_secs_f64);
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let ranges: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        let sum = self.sum.load(Ordering::Relaxed) as f64;
        Seen {
            count: ranges.iter().map(|(_, count)| count).sum(),
            sum: match self.scale.resolution {
                Resolution::Nanoseconds => sum / 1e9,
                Resolution::Seconds => sum,
            },
            ranges,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SHORT: Scale = Scale {
        bounds: &[Duration::from_millis(10), Duration::from_millis(500)],
        resolution: Resolution::Nanoseconds,
    };

    #[test]
    fn times_fall_into_the_first_range_that_holds_them() {
        let histogram = Histogram::new(&SHORT);
        for millis in [0, 10, 11, 500, 501, 4_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let seen = histogram.seen();
        let ranges = [(0.01, 2), (0.5, 2), (f64::INFINITY, 2)];
        assert_eq!(seen.ranges, ranges);
        assert_eq!((seen.count, seen.sum), (6, 5.022));
    }

    #[test]
    fn what_is_long_is_summed_in_seconds() {
        static LONG: Scale = Scale {
            bounds: &[Duration::from_secs(60)],
            resolution: Resolution::Seconds,
        };
        let histogram = Histogram::new(&LONG);
        for _ in 0..3 {
            // A hundred years; of these, nanoseconds would hold five.
            histogram.observe(Duration::from_secs(3_155_760_000));
            histogram.observe(Duration::from_secs(3_155_760_000));
        }
        assert_eq!(histogram.seen().sum, 6.0 * 3_155_760_000.0);
    }
}
