//! Threads that hash, one password each, and the line of logins that wait for them.

mod line;

use std::{io, sync::Arc, time::Instant};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::{Builder, Runtime};

pub use self::line::{Line, NoTurn, Ticket, Turn};
use crate::domain::histogram::{Histogram, TO_TEN_SECONDS};

/// How much hashing threads give way to others (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashPriority {
    /// At once (SCHED_IDLE): a flood of logins makes no check wait until the kernel takes a core from a hash.
    Idle,
    /// Not more than any thread.
    Normal,
}

/// A pool of them.
#[derive(Debug)]
pub struct Hashing {
    threads: Option<Runtime>,
    times: Arc<HashTimes>,
}

/// How long hashing took so far.
#[derive(Debug)]
pub struct HashTimes {
    /// In line, from when a row was fetched until it was its turn.
    pub waiting: Histogram,
    /// On a thread.
    pub hashing: Histogram,
}

impl Hashing {
    /// Makes a pool of so many threads; none is started yet.
    ///
    /// # Errors
    ///
    /// The system has no means for more threads.
    pub fn new(threads: usize, priority: HashPriority) -> io::Result<Self> {
        Builder::new_current_thread()
            .thread_name("hashing")
            .max_blocking_threads(threads)
            .on_thread_start(move || match priority {
                HashPriority::Normal => {}
                HashPriority::Idle => {
                    // Where a sandbox forbids it, they hash as they are.
                    let _ = set_thread_priority_and_policy(
                        thread_native_id(),
                        ThreadPriority::Min,
                        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
                    );
                }
            })
            .build()
            .map(|threads| Self {
                threads: Some(threads),
                times: Arc::new(HashTimes {
                    waiting: Histogram::new(&TO_TEN_SECONDS),
                    hashing: Histogram::new(&TO_TEN_SECONDS),
                }),
            })
    }

    /// How long it took so far.
    #[must_use]
    pub fn times(&self) -> &Arc<HashTimes> {
        &self.times
    }

    /// Hashes as soon as a thread is free; nothing comes back where hashing panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        hash: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let times = Arc::clone(&self.times);
        let timed = move || {
            let begun = Instant::now();
            let hashed = hash();
            times.hashing.observe(begun.elapsed());
            hashed
        };
        self.uncounted(timed).await
    }

    /// The same for what is no password of anybody, and so is not in the numbers of logins.
    pub async fn uncounted<T: Send + 'static>(
        &self,
        hash: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.threads.as_ref()?.spawn_blocking(hash).await.ok()
    }
}

impl Drop for Hashing {
    /// A runtime must not be waited for where others are running.
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
