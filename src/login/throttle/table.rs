//! A bounded table of counts by key. A count that makes attempts wait stays as long as it does. The counts with the fewest
//! failures are dropped first, and of those the one that changed longest ago. Reading a count does not keep it alive.

use std::{collections::hash_map::RandomState, hash::BuildHasher as _};

use lru::LruCache;

use super::{
    Key, UnixMillis,
    curve::{Count, Curve, Curves, FailureCount},
};

/// Counts of one kind.
pub(super) struct Table {
    most: usize,
    /// Four levels, each in the order of the last change: no failure; one; several without a wait; the rest.
    levels: [LruCache<Key, Count>; LEVELS],
    /// Shared counts, for when there is no room because every count makes attempts wait. Empty until then.
    overflow: Vec<FailureCount>,
    cells: RandomState,
}

const LEVELS: usize = 4;

/// How many counts of each level are checked to find one that can be dropped.
const LOOKED_AT: usize = 32;

/// The number of shared counts.
const CELLS: usize = 1024;

impl Table {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            levels: std::array::from_fn(|_| LruCache::unbounded()),
            overflow: Vec::new(),
            cells: RandomState::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.levels.iter().map(LruCache::len).sum()
    }

    /// The count of a key, if it has a separate one.
    pub(super) fn own(&self, key: &Key) -> Option<Count> {
        self.levels
            .iter()
            .find_map(|level| level.peek(key))
            .copied()
    }

    /// The count of a key and its curve: its own, a new one, or a shared one.
    pub(super) fn of(&mut self, key: &Key, curves: &Curves, now: UnixMillis) -> (Count, Curve) {
        if let Some(own) = self.own(key) {
            return (own, curves.of(key));
        }
        if self.has_room(curves, now) {
            return (Count::default(), curves.of(key));
        }
        let tally = self.overflow.get(self.cell(key)).copied();
        let shared = Count::settled(tally.unwrap_or_default());
        (shared, curves.overflow)
    }

    /// Changes the count of a key, and makes one if there is none. Changes nothing if there is no room for it.
    pub(super) fn change(
        &mut self,
        key: &Key,
        curves: &Curves,
        now: UnixMillis,
        change: impl FnOnce(&mut Count),
    ) -> bool {
        let (key, count) = match self.take(key) {
            Some(own) => own,
            None if self.make_room(curves, now) => (key.clone(), Count::default()),
            None => return false,
        };
        self.put(key, count, curves, now, change);
        true
    }

    /// Changes the count of a key, if it has a separate one.
    pub(super) fn change_own(
        &mut self,
        key: &Key,
        curves: &Curves,
        now: UnixMillis,
        change: impl FnOnce(&mut Count),
    ) {
        if let Some((key, count)) = self.take(key) {
            self.put(key, count, curves, now, change);
        }
    }

    /// Counts a failure of a key that has no separate count.
    pub(super) fn fail_together(&mut self, key: &Key, curves: &Curves, now: UnixMillis) {
        if self.overflow.is_empty() {
            self.overflow = vec![FailureCount::default(); CELLS];
        }
        let cell = self.cell(key);
        if let Some(tally) = self.overflow.get_mut(cell) {
            curves.overflow.fail(tally, now);
        }
    }

    fn cell(&self, key: &Key) -> usize {
        // The remainder chooses one of the shared counts.
        usize::try_from(self.cells.hash_one(key) % CELLS as u64).unwrap_or(0)
    }

    fn take(&mut self, key: &Key) -> Option<(Key, Count)> {
        (self.levels.iter_mut()).find_map(|level| level.pop_entry(key))
    }

    fn put(
        &mut self,
        key: Key,
        mut count: Count,
        curves: &Curves,
        now: UnixMillis,
        change: impl FnOnce(&mut Count),
    ) {
        change(&mut count);
        let curve = curves.of(&key);
        let level = match curve.left(count.tally, now) {
            0 => 0,
            failures if failures >= curve.free => 3,
            1 => 1,
            _ => 2,
        };
        if let Some(level) = self.levels.get_mut(level) {
            level.put(key, count);
        }
    }

    fn make_room(&mut self, curves: &Curves, now: UnixMillis) -> bool {
        if self.len() < self.most {
            return true;
        }
        let Some(level) = self.gives_way(curves, now) else {
            return false;
        };
        let level = self.levels.get_mut(level);
        level.and_then(LruCache::pop_lru).is_some()
    }

    fn has_room(&mut self, curves: &Curves, now: UnixMillis) -> bool {
        self.len() < self.most || self.gives_way(curves, now).is_some()
    }

    /// The level whose last count can be dropped. A count that must stay moves to the front of its level, so that the next
    /// search continues behind it.
    fn gives_way(&mut self, curves: &Curves, now: UnixMillis) -> Option<usize> {
        let is_forgotten = |level: &LruCache<Key, Count>| {
            let last = level.peek_lru();
            last.is_some_and(|(key, count)| {
                count.under_way == 0 && curves.of(key).left(count.tally, now) == 0
            })
        };
        // Failures may have expired since the count was put into this level.
        if let Some(forgotten) = self.levels.iter().rposition(is_forgotten) {
            return Some(forgotten);
        }
        for (number, level) in self.levels.iter_mut().enumerate() {
            for _ in 0..LOOKED_AT.min(level.len()) {
                let (key, count) = level.peek_lru()?;
                if count.under_way == 0 && count.wait(curves.of(key), now).is_zero() {
                    return Some(number);
                }
                let key = key.clone();
                level.promote(&key);
            }
        }
        None
    }
}
