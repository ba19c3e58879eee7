//! Follows the feed: asks Doorward through a cluster of Envoy's, on its main thread, again and again.
//!
//! Only bootstrap extensions have timers. So one thread of the process, whatever number of configurations there is, wakes
//! the main thread; the question goes out by the bootstrap extension, which lives as long as Envoy, or else by the latest
//! filter configuration, because those that drain live on for minutes.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use doorward_core::time::UnixTime;
use doorward_rules::feed::{FeedFault, Known, LONGEST};

use crate::{
    abi::{Config, ConfigId, Level, Reply, Scheduler},
    log::Kind,
    settings::{Feed, SettingsFault},
    state::{State, locked, now},
};

/// Asks for the feed of one state.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) feed: Feed,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: Known,
    carriers: Vec<Carrier>,
    asked: Option<Asked>,
    /// When to ask next.
    due: Instant,
    /// Whether what is in force came from another state, and stays until everything was heard.
    waits: bool,
    is_complete: bool,
    is_failing: bool,
    forgot_at: UnixTime,
}

/// A configuration that can carry a question.
#[derive(Debug)]
struct Carrier {
    id: ConfigId,
    is_bootstrap: bool,
    scheduler: Arc<Scheduler>,
}

/// A question without an answer yet.
#[derive(Debug)]
struct Asked {
    by: ConfigId,
    at: UnixTime,
    since: Instant,
}

/// How long what nobody can meet any more is kept, for clocks that differ.
const MARGIN: u64 = 60;

/// The pause between questions as long as nothing is known.
const AT_FIRST: Duration = Duration::from_millis(100);

impl Follower {
    /// Knows nothing yet. With `waits`, what is in force stays until everything was heard.
    pub(crate) fn new(feed: Feed, known: Known, waits: bool) -> Self {
        Self {
            feed,
            inner: Mutex::new(Inner {
                known,
                carriers: Vec::new(),
                asked: None,
                due: Instant::now(),
                waits,
                is_complete: false,
                is_failing: false,
                forgot_at: UnixTime(0),
            }),
        }
    }

    /// Lets a configuration carry questions, from now on.
    pub(crate) fn join(&self, config: &Config<'_>) -> Result<(), SettingsFault> {
        let scheduler = Arc::new(config.scheduler());
        scheduler.wake();
        locked(&self.inner).carriers.push(Carrier {
            id: config.id(),
            is_bootstrap: config.is_bootstrap(),
            scheduler,
        });
        start()
    }

    /// A configuration is gone, and a question that it carries with it.
    pub(crate) fn leave(&self, id: ConfigId) {
        let mut inner = locked(&self.inner);
        inner.carriers.retain(|carrier| carrier.id != id);
        if inner.asked.as_ref().is_some_and(|asked| asked.by == id) {
            inner.asked = None;
            inner.due = Instant::now();
        }
    }

    /// Whether everything that Doorward knows was heard once.
    pub(crate) fn is_complete(&self) -> bool {
        locked(&self.inner).is_complete
    }

    /// Has the main thread ask, if it is time; says when it is time again.
    fn wake(&self, at: Instant) -> Instant {
        let mut inner = locked(&self.inner);
        if inner.due <= at {
            let pause = match inner.is_complete {
                true => jittered(self.feed.every),
                false => AT_FIRST.min(self.feed.every),
            };
            inner.due = at + pause;
            let mut carriers = inner.carriers.iter().rev();
            let lasting = carriers.clone().find(|carrier| carrier.is_bootstrap);
            if let Some(carrier) = lasting.or_else(|| carriers.next()) {
                carrier.scheduler.wake();
            }
        }
        inner.due
    }

    /// Asks by this configuration, unless an answer is still to come.
    pub(crate) fn ask(&self, config: &Config<'_>) {
        let mut inner = locked(&self.inner);
        let patience = self.feed.timeout + Duration::from_secs(1);
        if (inner.asked.as_ref()).is_some_and(|asked| asked.since.elapsed() < patience) {
            return;
        }
        self.question(&mut inner, config);
    }

    fn question(&self, inner: &mut Inner, config: &Config<'_>) {
        static UNREACHED: Kind = Kind::new();
        let question = inner.known.question();
        let headers: [(&[u8], &[u8]); 4] = [
            (b":method", b"GET"),
            (b":path", question.as_bytes()),
            (b":authority", self.feed.authority.as_bytes()),
            (b"accept", b"application/json"),
        ];
        let is_sent = config.call(&self.feed.cluster, &headers, self.feed.timeout);
        inner.asked = is_sent.then(|| Asked {
            by: config.id(),
            at: now(),
            since: Instant::now(),
        });
        if !is_sent && inner.is_complete {
            inner.is_failing = true;
            UNREACHED.line(
                Level::Warn,
                format_args!(
                    "the feed cannot be asked: cluster {:?} is unknown or has no healthy host",
                    self.feed.cluster
                ),
            );
        }
    }

    /// Takes an answer.
    pub(crate) fn take(&self, state: &State, config: &Config<'_>, reply: Option<Reply<'_>>) {
        static FAILED: Kind = Kind::new();
        let mut inner = locked(&self.inner);
        let Some(asked) = inner.asked.take() else {
            return;
        };
        match self.taken(&mut inner, state, asked.at, reply) {
            Ok(More(true)) => self.question(&mut inner, config),
            Ok(More(false)) => {}
            Err(fault) => {
                inner.is_failing = true;
                FAILED.line(
                    Level::Warn,
                    format_args!("the feed was not taken, and what was known stays: {fault}"),
                );
            }
        }
    }

    fn taken(
        &self,
        inner: &mut Inner,
        state: &State,
        asked_at: UnixTime,
        reply: Option<Reply<'_>>,
    ) -> Result<More, Fault> {
        static CHANGED: Kind = Kind::new();
        let reply = reply.ok_or(Fault::NoAnswer)?;
        match reply.status {
            200 => {}
            400 => {
                inner.known.start_over();
                return Err(Fault::Refused(shown(&reply.body)));
            }
            404 => return Err(Fault::NotFound),
            status => return Err(Fault::Status(status)),
        }
        if reply.body.len() > LONGEST {
            return Err(FeedFault::Long.into());
        }
        let taken = inner.known.take(&reply.body, asked_at);
        if let Err(FeedFault::NoContent | FeedFault::OutOfStep | FeedFault::RolledBack { .. }) =
            taken
        {
            inner.known.start_over();
        }
        let taken = taken?;
        let is_first = taken.complete && !inner.is_complete;
        inner.is_complete |= taken.complete;
        let may_exchange = taken.exchanged && !inner.waits;
        let waited = inner.waits && inner.is_complete;
        if (may_exchange || waited)
            && let Some(next) = inner.known.in_force()
        {
            inner.waits = false;
            state.exchange(Arc::clone(next));
            let missing = match &*next.missing_secrets {
                [] => String::new(),
                missing => format!(
                    "; \"secret_files\" lacks the secrets {}",
                    missing.join(", ")
                ),
            };
            CHANGED.line(
                Level::Info,
                format_args!(
                    "new rules, keys and settings are in force: {}{missing}",
                    next.digest
                ),
            );
        }
        if is_first || (inner.is_failing && taken.complete) {
            inner.is_failing = false;
            CHANGED.line(
                Level::Info,
                format_args!(
                    "the feed is followed; {} revocations are known",
                    inner.known.revoked().len()
                ),
            );
        }
        let at = now();
        if at.0.abs_diff(inner.forgot_at.0) > MARGIN {
            inner.forgot_at = at;
            inner
                .known
                .revoked()
                .forget(UnixTime(at.0.saturating_sub(MARGIN)));
        }
        Ok(More(taken.more))
    }
}

/// Whether to ask again at once.
struct More(bool);

/// Why an answer changes nothing.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no answer came")]
    NoAnswer,
    #[error(
        "Doorward answered 404: feed.enabled is off there, or trusted_proxies does not contain the address of this Envoy"
    )]
    NotFound,
    #[error("Doorward answered 400: {0}")]
    Refused(String),
    #[error("Doorward answered {0}")]
    Status(u16),
    #[error(transparent)]
    Feed(#[from] FeedFault),
}

/// The beginning of an answer, as it may stand in a log.
fn shown(body: &[u8]) -> String {
    let text = body.get(..200).unwrap_or(body);
    String::from_utf8_lossy(text).escape_debug().collect()
}

/// By a fifth more or less, so that the Envoys of a fleet do not ask in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Whether the thread runs.
static RUNS: Mutex<bool> = Mutex::new(false);

/// Starts the thread, if there is none.
fn start() -> Result<(), SettingsFault> {
    let mut runs = locked(&RUNS);
    if !*runs {
        let thread = thread::Builder::new().name("doorward".into());
        thread.spawn(run).map_err(SettingsFault::Thread)?;
        *runs = true;
    }
    Ok(())
}

/// Wakes the main thread for every state that is in use; ends when there is none.
fn run() {
    loop {
        let at = Instant::now();
        let mut next = at + Duration::from_millis(250);
        {
            // Held until the end of the look, so that nobody finds the thread running that is about to end.
            let mut runs = locked(&RUNS);
            let states = State::all();
            if !states.iter().any(|state| state.follower.is_some()) {
                *runs = false;
                return;
            }
            for follower in states.iter().filter_map(|state| state.follower.as_ref()) {
                next = next.min(follower.wake(at));
            }
        }
        thread::sleep(
            next.saturating_duration_since(Instant::now())
                .max(Duration::from_millis(5)),
        );
    }
}
