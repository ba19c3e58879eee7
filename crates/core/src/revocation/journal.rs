//! In which order revocations became known here, so that a follower can ask for what is new to it.
//!
//! Holds names alone: what is known of a name is looked up when it is told. Not on the path of a request.

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

/// A line: the place of it, and what has changed.
#[derive(Clone, Debug)]
struct Line {
    position: u64,
    of: Subject,
    name: Arc<str>,
}

/// Lines after some position.
pub(super) struct Excerpt {
    pub(super) lines: Vec<(Subject, Arc<str>)>,
    /// The position of the last of them.
    pub(super) position: u64,
    pub(super) more: bool,
}

/// The journal. A line that repeats a name replaces the earlier one, when the journal is next tidied.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Line>,
    /// The position of the last line that was ever written; that of the first is 1.
    last: u64,
    /// Who has read less than this has missed a line that was dropped.
    floor: u64,
}

/// The most users that are active again of whom the journal still tells.
const MOST_ACTIVE_AGAIN: usize = 10_000;

impl Journal {
    pub(super) fn write(&self, of: Subject, name: Arc<str>) {
        let mut own = self.lines();
        own.last += 1;
        let position = own.last;
        own.lines.push_back(Line { position, of, name });
    }

    /// At most so many lines after a position; `None` if lines after it were dropped, or it was never reached.
    pub(super) fn after(&self, position: u64, most: usize) -> Option<Excerpt> {
        let own = self.lines();
        if position > own.last || position < own.floor {
            return None;
        }
        Some(own.excerpt(position, most))
    }

    /// At most so many lines from the beginning.
    pub(super) fn beginning(&self, most: usize) -> Excerpt {
        self.lines().excerpt(0, most)
    }

    /// The position of the last line.
    pub(super) fn last(&self) -> u64 {
        self.lines().last
    }

    /// Drops lines that say nothing any more: those of entries that are forgotten, and all but the last of a name.
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
                    // Followers forget these by their expiry.
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
