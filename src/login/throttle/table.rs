//! Counts by key, as many as there is room for. What makes somebody wait is kept for as long as it does; what gives way
//! first is what has failed least, and of that what has changed longest ago. Looking at a count keeps nothing.

use std::{collections::hash_map::RandomState, hash::BuildHasher as _};

use lru::LruCache;

use super::{
    Curves, Key, UnixMillis,
    curve::{Count, Curve, Tally},
};

/// Counts of one kind.
pub(super) struct Table {
    most: usize,
    /// By what they are worth, each in the order of the last change: no failure; one; some that cost nothing; the rest.
    levels: [LruCache<Key, Count>; LEVELS],
    /// What is counted together where there is no room, because all the rest makes somebody wait. Nothing until then.
    overflow: Vec<Tally>,
    cells: RandomState,
}

const LEVELS: usize = 4;

/// How many counts are looked at, of each level, to find one that can give way.
const LOOKED_AT: usize = 32;

/// How many counts what there is no room for is spread over.
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

    /// The count of a key, if it has one of its own.
    pub(super) fn own(&self, key: &Key) -> Option<Count> {
        self.levels
            .iter()
            .find_map(|level| level.peek(key))
            .copied()
    }

    /// The count that a key falls under, and its curve: its own, a new one, or the one it shares.
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

    /// Changes the count of a key, and makes one where there is none. Where there is no room for it, nothing is changed.
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

    /// Changes the count of a key, if it has one of its own.
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

    /// A failure of something that has no count of its own.
    pub(super) fn fail_together(&mut self, key: &Key, curves: &Curves, now: UnixMillis) {
        if self.overflow.is_empty() {
            self.overflow = vec![Tally::default(); CELLS];
        }
        let cell = self.cell(key);
        if let Some(tally) = self.overflow.get_mut(cell) {
            curves.overflow.fail(tally, now);
        }
    }

    fn cell(&self, key: &Key) -> usize {
        // As many cells as fit a remainder without loss.
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

    /// The level whose last count gives way to another one. What must stay is put in front of the others of its level, so
    /// that the next search goes on behind it.
    fn gives_way(&mut self, curves: &Curves, now: UnixMillis) -> Option<usize> {
        let is_forgotten = |level: &LruCache<Key, Count>| {
            let last = level.peek_lru();
            last.is_some_and(|(key, count)| {
                count.under_way == 0 && curves.of(key).left(count.tally, now) == 0
            })
        };
        // What has been forgotten since it was put where it is.
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
