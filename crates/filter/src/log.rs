//! Lines in Envoy's log: at most one of each kind per second, with the number of lines that were left out.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    abi::{self, Level},
    clock::now,
};

/// A kind of line.
#[derive(Debug, Default)]
pub(crate) struct Kind {
    /// The second of the last line.
    last: AtomicU64,
    left_out: AtomicU64,
}

impl Kind {
    pub(crate) const fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Writes a line, unless one of this kind was written in the same second.
    pub(crate) fn line(&self, level: Level, text: impl fmt::Display) {
        let now = now().0;
        if self.last.swap(now, Ordering::Relaxed) == now {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.left_out.swap(0, Ordering::Relaxed) {
            0 => abi::write(level, &format!("doorward: {text}")),
            left_out => abi::write(
                level,
                &format!("doorward: {text} ({left_out} similar lines were left out)"),
            ),
        }
    }
}
