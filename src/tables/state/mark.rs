//! How far a table has been read. A row becomes visible when it is committed, which may be after rows with a later time.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// A row is visible at most this many seconds after the time that it carries, by the database's clock.
const OVERLAP: i64 = 10;

/// The overlap by the clock of this process. One second more, because rows carry whole seconds.
const SETTLED: Duration = Duration::from_secs(11);

/// How far a table has been read.
///
/// Each read starts an overlap before the newest known change. When an overlap has passed since that change was seen, no
/// earlier row can appear, and reads start after it. So a burst of changes is not read at every poll until a newer change
/// follows. The time of a row is never compared with the clock of this process. A writer's clock may be slow, as long as its
/// rows are not older than the newest change by more than the overlap.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// The newest changes of the last reads, oldest first, each with the time when it was seen. Settled ones are removed.
    seen: VecDeque<(Instant, i64)>,
    /// All changes up to this one have been read.
    settled: Option<i64>,
    /// When the last read began; `None` if the next one must read everything.
    began: Option<Instant>,
    rows: u64,
}

/// Which rows a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Always,
    /// Rows with a later time than `after`, or than `overlap` seconds ago by the database's clock if that is earlier: the
    /// clock may have been set back.
    Change {
        after: i64,
        overlap: i64,
    },
}

impl Mark {
    /// Makes the next read return everything.
    pub(crate) fn read_all(&mut self) {
        self.began = None;
    }

    /// Whether the next read returns everything.
    pub(crate) fn reads_all(&self) -> bool {
        self.began.is_none()
    }

    /// The number of rows that the last read returned.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn since(&self, now: Instant) -> Since {
        let newest = self.seen.back().map(|(_, newest)| newest - OVERLAP - 1);
        match (self.began, newest.max(self.settled)) {
            (Some(began), Some(after)) => {
                let elapsed = i64::try_from((now - began).as_secs()).unwrap_or(i64::MAX);
                // Both clocks are rounded to whole seconds.
                let overlap = elapsed.saturating_add(OVERLAP + 2);
                Since::Change { after, overlap }
            }
            (None, _) | (_, None) => Since::Always,
        }
    }

    /// The mark after a read that began at `began` and returned `rows` rows; `newest` is the time of the newest one.
    pub(super) fn read(
        mut self,
        began: Instant,
        now: Instant,
        rows: u64,
        newest: Option<i64>,
    ) -> Self {
        let known = self.seen.back().map(|(_, newest)| *newest);
        let known = known.max(self.settled);
        if newest > known
            && let Some(newest) = newest
        {
            self.seen.push_back((now, newest));
        }
        // When this read began, every row up to that change was visible.
        while let Some((at, newest)) = self.seen.front().copied()
            && at + SETTLED <= began
        {
            self.settled = Some(newest);
            self.seen.pop_front();
        }
        self.began = Some(began);
        self.rows = rows;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn after(mark: &Mark, now: Instant) -> Option<i64> {
        match mark.since(now) {
            Since::Always => None,
            Since::Change { after, .. } => Some(after),
        }
    }

    #[test]
    fn a_burst_is_read_again_only_during_the_overlap() {
        let start = Instant::now();
        let mut mark = Mark::default();
        assert_eq!(mark.since(start), Since::Always);
        for second in 0..=30 {
            let now = start + secs(second);
            mark = mark.read(now, now, 0, (second < 20).then_some(1000));
            let expected = match second {
                0..=10 => 989,
                11.. => 1000,
            };
            assert_eq!(after(&mark, now + secs(1)), Some(expected), "{second}");
        }
        // `read_all` reads everything once more; after it, reads start where they started before.
        mark.read_all();
        let now = start + secs(31);
        assert_eq!(mark.since(now), Since::Always);
        mark = mark.read(now, now, 7, Some(1000));
        assert_eq!((after(&mark, now), mark.rows()), (Some(1000), 7));
    }

    #[test]
    fn newer_changes_move_the_overlap_forward() {
        let start = Instant::now();
        let mut mark = Mark::default();
        for second in 0..100_i64 {
            let now = start + secs(second.unsigned_abs());
            mark = mark.read(now, now, 1, Some(5000 + second));
            let expected = 5000 + second - 11;
            assert_eq!(after(&mark, now + secs(1)), Some(expected), "{second}");
        }
        assert!(mark.seen.len() <= 12, "{mark:?}");
    }

    /// Reads fail while the database is down, and do not change the mark.
    #[test]
    fn changes_during_an_outage_are_read() {
        let start = Instant::now();
        let mark = Mark::default().read(start, start, 1, Some(1000));
        let later = start + secs(600);
        assert_eq!(
            mark.since(later),
            Since::Change {
                after: 989,
                overlap: 612
            }
        );
        // The first read after the outage may miss rows that are not committed yet.
        let mark = mark.read(later, later, 1, Some(1599));
        assert_eq!(after(&mark, later + secs(1)), Some(1588));
    }

    /// Writers stamp rows with one clock and commit them up to ten seconds later. Every row is read, whatever the pauses
    /// between reads.
    #[test]
    fn no_row_within_the_overlap_is_missed() {
        let start = Instant::now();
        for seed in 1..200_u64 {
            let mut random = seed;
            let mut next = |below: u64| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (random >> 33) % below
            };
            // In milliseconds: the time in the row, and the time at which the row becomes visible.
            let rows: Vec<(u64, u64)> = (0..60)
                .map(|_| {
                    let written = next(90_000) + 1_000_000;
                    (written, written + next(10_000))
                })
                .collect();
            let mut read = vec![false; rows.len()];
            let (mut mark, mut now) = (Mark::default(), 1_000_000);
            while now < 1_130_000 {
                let moment = start + Duration::from_millis(now);
                let clock = (now / 1000).cast_signed();
                let floor = match mark.since(moment) {
                    Since::Always => i64::MIN,
                    Since::Change { after, overlap } => after.min(clock - overlap),
                };
                let mut newest = None;
                for (row, read) in rows.iter().zip(&mut read) {
                    let stamp = (row.0 / 1000).cast_signed();
                    if row.1 <= now && stamp > floor {
                        *read = true;
                        newest = newest.max(Some(stamp));
                    }
                }
                mark = mark.read(moment, moment, 0, newest);
                now += match next(10) {
                    0 => 1 + next(25_000),
                    _ => 500 + next(1_500),
                };
            }
            assert!(read.iter().all(|read| *read), "{seed}");
        }
    }
}
