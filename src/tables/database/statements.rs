//! Statistics of statements: durations and failures, counted without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Fault, FaultKind, OfDatabase};
use crate::domain::histogram::{Histogram, Resolution, Scale};

/// Durations and failures of all statements so far.
#[derive(Debug)]
pub(crate) struct StatementStats {
    times: Histogram,
    errors: [AtomicU64; FaultKind::ALL.len()],
}

static TIMES: Scale = Scale {
    bounds: &[
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
    ],
    resolution: Resolution::Nanoseconds,
};

impl Default for StatementStats {
    fn default() -> Self {
        Self {
            times: Histogram::new(&TIMES),
            errors: Default::default(),
        }
    }
}

impl StatementStats {
    /// Records how long one statement took on its connection.
    pub(crate) fn took(&self, time: Duration) {
        self.times.observe(time);
    }

    /// Counts a failure of the database.
    pub(crate) fn note<T, E: OfDatabase>(&self, answer: &Result<T, E>) {
        let fault = answer.as_ref().err().and_then(OfDatabase::fault);
        let kind = fault.and_then(Fault::kind);
        if let Some(count) = kind.and_then(|kind| self.errors.get(kind as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn times(&self) -> &Histogram {
        &self.times
    }

    pub(crate) fn errors(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        let counts = self
            .errors
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        FaultKind::ALL.into_iter().zip(counts)
    }
}
