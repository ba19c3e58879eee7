//! Threads that hash, one password each; what else there is for them waits in line.

use std::io;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::{Builder, Runtime};

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
pub struct Hashing(Option<Runtime>);

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
            .map(|threads| Self(Some(threads)))
    }

    /// Hashes when it is its turn; nothing comes back where hashing panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        hash: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.0.as_ref()?.spawn_blocking(hash).await.ok()
    }
}

impl Drop for Hashing {
    /// A runtime must not be waited for where others are running.
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}
