//! Histograms of durations. Counting takes no lock, so that every request can be measured.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The ranges of a histogram, and the resolution of its sum.
#[derive(Debug)]
pub struct Scale {
    /// The upper bound of each range, in ascending order; longer durations are counted in a last range.
    pub bounds: &'static [Duration],
    /// The unit of the sum.
    pub resolution: Resolution,
}

/// Ranges for the duration of a login.
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

/// The unit of a sum. 64 bits hold 584 years in nanoseconds, which the ages of tokens could exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// For durations of fractions of a second.
    Nanoseconds,
    /// For durations of hours.
    Seconds,
}

/// Counts per range, and the sum.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One count per bound, and one for everything longer.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// The values of a histogram at one moment, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The upper bound of each range and the number of durations in that range only; the last bound is infinite.
    pub ranges: Vec<(f64, u64)>,
    /// The sum of all durations.
    pub sum: f64,
    /// The number of all durations.
    pub count: u64,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new(scale: &'static Scale) -> Self {
        let ranges = 0..=scale.bounds.len();
        Self {
            scale,
            counts: ranges.map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a duration.
    pub fn observe(&self, time: Duration) {
        // A linear search: most durations are short, and there are few bounds.
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

    /// The current values.
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
    fn a_duration_counts_in_the_first_range_that_fits() {
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
    fn long_durations_are_summed_in_seconds() {
        static LONG: Scale = Scale {
            bounds: &[Duration::from_secs(60)],
            resolution: Resolution::Seconds,
        };
        let histogram = Histogram::new(&LONG);
        for _ in 0..3 {
            // A hundred years. A sum in nanoseconds would overflow at the sixth duration.
            histogram.observe(Duration::from_secs(3_155_760_000));
            histogram.observe(Duration::from_secs(3_155_760_000));
        }
        assert_eq!(histogram.seen().sum, 6.0 * 3_155_760_000.0);
    }
}
