//! The order in which revocations became known, so that a follower can ask for those that it does not have.
//!
//! Contains only names; their revocations are looked up when they are read. Bearer requests do not use it.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a line of the journal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A token or a session.
    Ended,
    /// A user whose tokens were revoked.
    Generation,
    /// A user who became inactive, or active again.
    Activity,
}

/// A line: its position, and what has changed.
#[derive(Clone, Debug)]
struct Line {
    position: u64,
    of: Subject,
    name: Arc<str>,
}

/// Some lines in their order.
pub(super) struct Excerpt {
    pub(super) lines: Vec<(Subject, Arc<str>)>,
    /// The position of the last line.
    pub(super) position: u64,
    pub(super) more: bool,
}

/// The journal. Of several lines with one name, [`Journal::tidy`] keeps the last.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Line>,
    /// The position of the last line ever written; the first has 1.
    last: u64,
    /// A follower at an earlier position has missed a line that was dropped.
    floor: u64,
}

/// The most lines of users who are active again.
const MOST_ACTIVE_AGAIN: usize = 10_000;

impl Journal {
    pub(super) fn write(&self, of: Subject, name: Arc<str>) {
        let mut own = self.lines();
        own.last += 1;
        let position = own.last;
        own.lines.push_back(Line { position, of, name });
    }

    /// At most `most` lines after a position; `None` if lines after it were dropped, or if it was never reached.
    pub(super) fn after(&self, position: u64, most: usize) -> Option<Excerpt> {
        let own = self.lines();
        if position > own.last || position < own.floor {
            return None;
        }
        Some(own.excerpt(position, most))
    }

    /// At most `most` lines from the beginning.
    pub(super) fn beginning(&self, most: usize) -> Excerpt {
        self.lines().excerpt(0, most)
    }

    /// The position of the last line.
    pub(super) fn last(&self) -> u64 {
        self.lines().last
    }

    /// Drops lines of removed entries, and all lines of a name but the last.
    pub(super) fn tidy(&self, is_known: impl Fn(Subject, &str) -> bool) {
        let mut own = self.lines();
        let mut seen = HashSet::with_capacity(own.lines.len());
        let mut active_again = 0_usize;
        let mut floor = own.floor;
        let mut kept: VecDeque<Line> = VecDeque::with_capacity(own.lines.len());
        for line in own.lines.iter().rev() {
            if !seen.insert((line.of, Arc::clone(&line.name))) {
                continue;
            }
            if !is_known(line.of, &line.name) {
                match line.of {
                    // Followers remove these by themselves, by their expiry.
                    Subject::Ended | Subject::Generation => continue,
                    Subject::Activity => active_again += 1,
                }
                if active_again > MOST_ACTIVE_AGAIN {
                    floor = floor.max(line.position);
                    continue;
                }
            }
            kept.push_front(line.clone());
        }
        own.lines = kept;
        own.floor = floor;
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Each change of it is one assignment or one push.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn excerpt(&self, position: u64, most: usize) -> Excerpt {
        let start = (self.lines).partition_point(|line| line.position <= position);
        let end = start.saturating_add(most).min(self.lines.len());
        let more = end < self.lines.len();
        let position = match self.lines.range(start..end).next_back() {
            Some(last) if more => last.position,
            Some(_) | None => self.last,
        };
        let lines = self.lines.range(start..end);
        let lines = lines
            .map(|line| (line.of, Arc::clone(&line.name)))
            .collect();
        Excerpt {
            lines,
            position,
            more,
        }
    }
}
