//! Measures at the start how long the hashes of the user table take, so that the first refusal takes as long as all others.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::Actions;
use crate::{
    login::password::{Kind, LengthClass, PasswordHash},
    observe::causes,
    tables::{database::Fault, users::UsersFault},
};

/// The progress of the measurement.
#[derive(Debug)]
pub(crate) struct Learning {
    is_done: AtomicBool,
    /// Notified when a login waits for the next attempt.
    wanted: Notify,
    /// The number of attempts.
    attempts: watch::Sender<u64>,
}

/// A stored hash of each kind, and the size of the sample.
#[derive(Debug, Default)]
struct Sample {
    kinds: BTreeMap<Kind, PasswordHash>,
    seen: usize,
    too_large: usize,
}

/// The most rows that are sampled from each end of the table.
const MOST_ROWS: usize = 2000;

/// The most kinds that are measured, the most expensive first.
const MOST_MEASURED: usize = 16;

/// How many measured kinds a login waits for. The slowest is among them, although their order is an estimate.
const FIRST: usize = 3;

/// The interval of attempts while the database is down.
const RETRY: Duration = Duration::from_secs(1);

/// The interval of later samples.
const AGAIN: Duration = Duration::from_secs(3600);

/// The longest time that a login waits for the measurement.
const LONGEST: Duration = Duration::from_secs(10);

/// The name under which measuring waits in the queue.
const MEASURING: &str = "measuring";

/// Kinds that take longer than this are measured once.
const SLOW: Duration = Duration::from_millis(200);

impl Default for Learning {
    fn default() -> Self {
        Self {
            is_done: AtomicBool::new(false),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
        }
    }
}

impl Learning {
    /// Whether logins need not wait any more.
    pub(super) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// Waits for the next attempt. The caller has just read a row, so the database is up.
    pub(super) async fn wait(&self) {
        let mut attempts = self.attempts.subscribe();
        attempts.mark_unchanged();
        if self.is_done() {
            return;
        }
        self.wanted.notify_one();
        let _ = timeout(LONGEST, attempts.changed()).await;
    }

    fn done(&self) {
        self.is_done.store(true, Ordering::Release);
        self.attempted();
    }

    fn attempted(&self) {
        self.attempts.send_modify(|attempts| *attempts += 1);
    }
}

impl Actions {
    /// Measures now and again later; while the database is down, tries again.
    pub(crate) async fn learn(self: Arc<Self>) {
        loop {
            let pause = match self.sample().await {
                Ok(sample) => {
                    self.measure(sample).await;
                    self.learning.done();
                    AGAIN
                }
                Err(UsersFault::NotOurs(_)) => {
                    tracing::warn!(
                        "the user table cannot be sampled: until somebody with a slow hash has logged in, refusals do not take as long as theirs; set users.hashes_query"
                    );
                    self.learning.done();
                    return;
                }
                Err(UsersFault::Database(Fault::Timeout | Fault::NoConnection)) => RETRY,
                Err(fault) => {
                    if !self.learning.is_done() {
                        tracing::warn!(cause = %causes(&fault), "the hashes of the user table cannot be sampled");
                    }
                    RETRY * 60
                }
            };
            self.learning.attempted();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.learning.wanted.notified() => {}
            }
        }
    }

    async fn sample(&self) -> Result<Sample, UsersFault> {
        let hasher = Arc::clone(&self.live.now().desk.hasher);
        let mut sample = Sample::default();
        let sampled = self.store.users.sample(MOST_ROWS, |hash| {
            sample.seen += 1;
            sample.too_large += usize::from(hasher.is_too_large(&hash));
            if let Some(kind) = hasher.kind(Some(&hash)) {
                sample.kinds.entry(kind).or_insert(hash);
            }
        });
        match sampled.await {
            // An incomplete sample is better than none.
            Err(UsersFault::Database(Fault::Timeout)) if sample.seen > 0 => Ok(sample),
            sampled => sampled.map(|()| sample),
        }
    }

    async fn measure(&self, sample: Sample) {
        let Sample {
            kinds,
            seen,
            too_large,
        } = sample;
        if too_large > 0 && !self.learning.is_done() {
            tracing::warn!(
                too_large,
                seen,
                "the user table has rows that need more memory than login.hash_memory: their users cannot log in"
            );
        }
        let all = kinds.len();
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by_key(|(kind, _)| std::cmp::Reverse(kind.estimate()));
        kinds.truncate(MOST_MEASURED);
        let kinds = kinds
            .into_iter()
            .map(|(kind, hash)| (Some(kind), Some(hash)));
        let mut measured = 0;
        for (at, (kind, hash)) in [(None, None)].into_iter().chain(kinds).enumerate() {
            if at > FIRST && !self.learning.is_done() {
                self.learning.done();
            }
            if self.equal_time.claim(kind) {
                self.measure_kind(kind, hash).await;
                measured += 1;
            }
        }
        if measured > 1 {
            tracing::info!(
                rows = seen,
                kinds = all,
                longest = %humantime::format_duration(Duration::from_millis(
                    u64::try_from(self.equal_time.longest().as_millis()).unwrap_or(u64::MAX)
                )),
                "sampled the user table"
            );
        }
    }

    /// Verifies passwords that belong to no user against a hash of this kind.
    pub(super) async fn measure_kind(&self, kind: Option<Kind>, hash: Option<PasswordHash>) {
        let Some(short) = self.took(hash.clone(), LengthClass::SHORT).await else {
            return;
        };
        let longest = match kind.is_some_and(Kind::grows) {
            false => Some(short),
            true => self.took(hash, LengthClass::LONGEST).await,
        };
        self.equal_time.learn(kind, short, longest.unwrap_or(short));
    }

    async fn took(&self, hash: Option<PasswordHash>, class: LengthClass) -> Option<Duration> {
        let rules = self.live.keep();
        let memory = rules.desk.hasher.memory(hash.as_ref());
        let password = Arc::new(class.example()?);
        let mut least: Option<Duration> = None;
        for _ in 0..2 {
            let ticket = self.line.enter_anyway(MEASURING.into());
            let mut turn = ticket.turn(memory).await.ok()?;
            let (rules, hash, password) = (Arc::clone(&rules), hash.clone(), Arc::clone(&password));
            let took = self.hashing.uncounted(move || {
                let started = Instant::now();
                let _ = rules.desk.hasher.verify(&password, hash.as_ref());
                started.elapsed()
            });
            let took = took.await;
            turn.hashed();
            least = [least, took].into_iter().flatten().min();
            if least.is_none_or(|least| least > SLOW) {
                break;
            }
        }
        least
    }
}
