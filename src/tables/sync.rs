//! What replicas tell each other through the state tables. Revocations and failures of other replicas are read into memory
//! every second; own failures are written after the answer.

mod machine_keys;
mod skew;

use std::{collections::HashSet, error::Error, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at},
};

use self::{machine_keys::KeyFollower, skew::Skew};
use crate::{
    clock::{random_part, unix_time},
    domain::{
        machine_keys::MachineKeys,
        revocation::Revocations,
        token::{TokenTerms, UnixTime},
    },
    login::throttle::{SharedFailure, Throttle},
    observe::{
        causes,
        metrics::{Metrics, Outcome, SyncRows},
    },
    tables::{
        database::Fault,
        state::{Kept, Mark, Swept},
        store::Store,
        users::UsersFault,
    },
};

/// The most inactive users in memory.
const MOST_INACTIVE: usize = 100_000;

/// The interval of full reads, which ignore the mark, and of the removal of expired rows.
const WHOLE: Duration = Duration::from_secs(300);

/// How soon everything is read again after a standby, at the latest.
const AFTER_STANDBY: Duration = Duration::from_secs(30);

/// How soon the removal of rows is tried again after a failure.
const SWEEP_RETRY: Duration = Duration::from_secs(5);

/// The most failures that wait to be written. Further ones are not shared with other replicas.
const MOST_SHARES: usize = 4096;

/// The most failures of one write, and how long they are collected.
const MOST_AT_ONCE: usize = 128;
const TOGETHER: Duration = Duration::from_millis(100);

/// Sends failures to other replicas.
#[derive(Clone, Debug)]
pub(crate) struct FailureSender(mpsc::Sender<(SharedFailure, Option<String>)>);

impl FailureSender {
    /// Sends failures; they are written soon after.
    pub(crate) fn send(&self, shares: Vec<SharedFailure>, user_id: Option<&str>) {
        for share in shares {
            // A flood from many addresses fills the queue with first failures; repeated failures must still be shared.
            if share.is_first && self.0.capacity() < MOST_SHARES / 2 {
                continue;
            }
            let user_id = user_id.filter(|_| share.is_about_an_account());
            // If the database is down for long, each replica counts alone.
            let _ = self.0.try_send((share, user_id.map(str::to_owned)));
        }
    }
}

/// Writes failures, until the last [`FailureSender`] is dropped and everything is written.
pub(crate) fn shares(store: Store) -> (FailureSender, impl Future<Output = ()>) {
    let (sender, mut receiver) = mpsc::channel::<(SharedFailure, Option<String>)>(MOST_SHARES);
    let write = async move {
        let mut fails = Failing::default();
        let mut waiting = Vec::new();
        while receiver.recv_many(&mut waiting, MOST_AT_ONCE).await > 0 {
            // In a fixed order, so that two replicas do not deadlock.
            waiting.sort_by(|(left, _), (right, _)| left.key.cmp(&right.key));
            let writes: Vec<_> = (waiting.drain(..))
                .map(|(share, user_id)| store.state.sharing(&share, user_id.as_deref()))
                .collect();
            let written = store.state.connections.write(&writes).await;
            fails.note(
                written.as_ref().err(),
                "failed logins cannot be shared with other replicas",
            );
            // Failures that arrive meanwhile are written together, which under a flood saves most of the cost.
            tokio::time::sleep(TOGETHER).await;
        }
    };
    (FailureSender(sender), write)
}

/// Reads the state tables, and remembers how far it has read.
#[derive(Debug)]
pub(crate) struct Follower {
    store: Store,
    ended: Arc<Revocations>,
    throttle: Arc<Throttle>,
    terms: TokenTerms,
    endings: Mark,
    tallies: Mark,
    /// The time of the next full read.
    whole: Instant,
    /// When expired rows are removed, after the next full read.
    sweeps: Instant,
    /// Whether the next read is a full one.
    reads_whole: bool,
    /// The last expiry of tokens of a replica whose clock is ahead.
    latest_expiry: UnixTime,
    skew: Skew,
    /// Whether the database took no writes at the last measurement.
    was_standby: bool,
    /// How far rows have aged.
    swept: Option<Swept>,
    /// Keys for machines, if they are on.
    keys: Option<KeyFollower>,
    fails: Failing,
    key_fails: Failing,
    use_fails: Failing,
    sweep_fails: Failing,
    metrics: Metrics,
}

impl Follower {
    /// Makes a follower that has read nothing yet.
    #[must_use]
    pub(crate) fn new(
        store: Store,
        ended: Arc<Revocations>,
        throttle: Arc<Throttle>,
        terms: TokenTerms,
        keys: Option<Arc<MachineKeys>>,
        metrics: Metrics,
    ) -> Self {
        let whole = Instant::now() + random_part(WHOLE);
        Self {
            store,
            ended,
            throttle,
            terms,
            endings: Mark::default(),
            tallies: Mark::default(),
            whole,
            sweeps: whole,
            reads_whole: true,
            latest_expiry: UnixTime(0),
            skew: Skew::default(),
            was_standby: false,
            swept: None,
            keys: keys.map(KeyFollower::new),
            fails: Failing::default(),
            key_fails: Failing::default(),
            use_fails: Failing::default(),
            sweep_fails: Failing::default(),
            metrics,
        }
    }

    /// Reads what other replicas have written since the last read.
    pub(crate) async fn read(&mut self) {
        if self.reads_whole
            && let Some(keys) = &mut self.keys
        {
            keys.read_all();
        }
        let read = self.read_all().await;
        if read.is_err() {
            self.skew.measure_soon();
        }
        self.metrics.revocations_read(Outcome::of(&read));
        self.fails.note(
            read.as_ref().err(),
            "logouts and disabled users of other replicas cannot be read",
        );
        self.read_keys().await;
    }

    /// Reads keys for machines and their owners after the revocations, which say which owners have changed.
    async fn read_keys(&mut self) {
        let Some(keys) = &mut self.keys else {
            return;
        };
        let read = keys.read(&self.store, &self.ended).await;
        if let Ok(rows) = &read {
            self.metrics.rows_read(SyncRows::Keys, *rows);
        }
        self.key_fails.note(
            read.as_ref().err(),
            "keys for machines and their owners cannot be read",
        );
        let written = keys.write_uses(&self.store).await;
        self.use_fails.note(
            written.as_ref().err(),
            "the last use of keys for machines cannot be written",
        );
    }

    async fn read_all(&mut self) -> Result<(), UsersFault> {
        let state = &self.store.state;
        if self.reads_whole {
            self.endings.read_all();
            self.tallies.read_all();
            // Before `doorward migrate`, there is no such table.
            self.latest_expiry = state.latest_expiry().await.unwrap_or(self.latest_expiry);
            if self.swept.is_none() {
                self.swept = state.advance(None).await.ok();
            }
        }
        let mut is_standby = false;
        if self.reads_whole || self.skew.is_due() {
            let limit = self.terms.leeway;
            is_standby = self.skew.measure(state, limit, &self.metrics).await?;
            self.skew.tell(state, &self.terms).await;
            match (self.was_standby, is_standby) {
                (_, true) => state.connections.leave_server(),
                // A row may have been missing there.
                (true, false) => self.whole = Instant::now() + random_part(AFTER_STANDBY),
                (false, false) => {}
            }
            self.was_standby = is_standby;
        }
        let kept = self.kept();
        let now = unix_time();
        self.endings = state
            .read_endings(&self.endings, &kept, &self.ended)
            .await?;
        self.metrics
            .rows_read(SyncRows::Revocations, self.endings.rows());
        if let Some(inactive) = self.store.users.inactive(MOST_INACTIVE).await? {
            if inactive.len() == MOST_INACTIVE {
                tracing::warn!(
                    "users.inactive_query returns more users than Doorward keeps in memory; let it return only those who became inactive lately"
                );
            }
            let inactive: HashSet<Box<str>> = inactive.into_iter().map(Into::into).collect();
            self.ended.set_inactive(inactive);
        }
        // What a standby says holds, but there may be more.
        if !is_standby {
            self.ended.have_been_read(now);
        }
        self.tallies = state.read_tallies(&self.tallies, &self.throttle).await?;
        self.metrics
            .rows_read(SyncRows::Failures, self.tallies.rows());
        self.reads_whole = false;
        match is_standby {
            true => Err(Fault::ReadOnly.into()),
            false => Ok(()),
        }
    }

    /// Which rows are still needed; recent ones always are, even if a clock is wrong.
    fn kept(&self) -> Kept {
        Kept {
            lasts: self.terms.lasts(),
            now: match self.reads_whole {
                true => self.skew.earlier(),
                false => UnixTime(0),
            },
            latest_expiry: self.latest_expiry,
        }
    }

    /// Reads for ever. Reads are jittered so that replicas do not synchronise.
    pub(crate) async fn follow(mut self, terms: impl Fn() -> TokenTerms, every: Duration) {
        let mut ticks = interval_at(Instant::now() + random_part(every), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.whole <= Instant::now() {
                self.whole = Instant::now() + WHOLE;
                self.reads_whole = true;
                self.terms = terms();
            }
            self.read().await;
            // Remove only after a full read: if a wrong clock removed entries too early, the read restores them first.
            if self.sweeps <= Instant::now() && !self.reads_whole {
                let pause = match self.forget().await {
                    true => WHOLE,
                    false => SWEEP_RETRY,
                };
                self.sweeps = Instant::now() + pause;
            }
        }
    }

    /// Removes expired entries from memory and rows from the tables; says whether the tables could be changed.
    async fn forget(&mut self) -> bool {
        let now = self.skew.earlier();
        if self.latest_expiry <= now {
            let ended = Arc::clone(&self.ended);
            // This takes long; never on a runtime thread.
            let _ = spawn_blocking(move || ended.forget(now)).await;
        }
        let state = &self.store.state;
        let swept = async {
            let swept = state.advance(self.swept).await?;
            state.sweep(self.terms.lasts(), swept).await?;
            Ok::<_, Fault>(swept)
        };
        let swept = swept.await;
        self.sweep_fails
            .note(swept.as_ref().err(), "rows of no use cannot be removed");
        match swept {
            Ok(swept) => {
                self.swept = Some(swept);
                true
            }
            Err(_) => false,
        }
    }
}

/// Logs once that something fails, and once that it works again.
#[derive(Debug, Default)]
struct Failing(bool);

impl Failing {
    fn note<E: Error + 'static>(&mut self, fault: Option<&E>, what: &'static str) {
        match (fault, self.0) {
            (Some(fault), false) => tracing::warn!(cause = %causes(fault), "{what}"),
            (None, true) => tracing::info!("no longer: {what}"),
            (Some(_), true) | (None, false) => {}
        }
        self.0 = fault.is_some();
    }
}
