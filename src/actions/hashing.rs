//! Hashing threads, and the queue of logins that wait for them.

mod line;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::{Builder, Runtime};

pub(crate) use self::line::{Line, NoTurn, Ticket, Turn};
use crate::domain::histogram::{Histogram, TO_TEN_SECONDS};

/// The priority of hashing threads (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashPriority {
    /// SCHED_IDLE: hashing gives way at once, so a flood of logins does not delay checks by a time slice.
    Idle,
    /// The same priority as any thread.
    Normal,
}

/// A pool of hashing threads.
#[derive(Debug)]
pub(crate) struct Hashing {
    threads: Option<Runtime>,
    times: Arc<HashTimes>,
}

/// How long hashing took so far.
#[derive(Debug)]
pub(crate) struct HashTimes {
    /// Time in the queue, from fetching the row until the turn.
    pub(crate) waiting: Histogram,
    /// Time on a thread.
    pub(crate) hashing: Histogram,
}

/// How long a thread waits for the next hash before it ends.
const REST: Duration = Duration::from_secs(10);

impl Hashing {
    /// Makes a pool of this many threads; starts none yet. A thread that has had nothing to hash for ten seconds calls
    /// `rests` and ends.
    ///
    /// # Errors
    ///
    /// The system cannot start more threads.
    pub(crate) fn new(
        threads: usize,
        priority: HashPriority,
        rests: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Builder::new_current_thread()
            .thread_name("hashing")
            .max_blocking_threads(threads)
            .thread_keep_alive(REST)
            .on_thread_stop(rests)
            .on_thread_start(move || match priority {
                HashPriority::Normal => {}
                HashPriority::Idle => {
                    // If a sandbox forbids this, they keep the normal priority.
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

    /// The durations so far.
    #[must_use]
    pub(crate) fn times(&self) -> &Arc<HashTimes> {
        &self.times
    }

    /// Hashes as soon as a thread is free; `None` if hashing panicked.
    pub(crate) async fn run<T: Send + 'static>(
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

    /// Hashes a password of no user, which is not counted in the metrics of logins.
    pub(crate) async fn uncounted<T: Send + 'static>(
        &self,
        hash: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.threads.as_ref()?.spawn_blocking(hash).await.ok()
    }
}

impl Drop for Hashing {
    /// Never block on runtime shutdown inside async code.
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}
