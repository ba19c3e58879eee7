//! Follows the feed: polls Doorward through a cluster of Envoy's, on Envoy's main thread.
//!
//! The bootstrap extension sends the requests, because it lives as long as Envoy. Without one, the latest filter
//! configuration does: older ones drain, and still exist for minutes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use doorward_core::time::UnixTime;
use doorward_rules::feed::{FeedFault, InForce, Known};

use crate::{
    abi::{Config, ConfigId, Level, Reply, Scheduler},
    clock::now,
    log::Kind,
    settings::Feed,
};

/// Follows the feed for one state.
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
    /// Whether another state's content stays in force until the first feed is complete.
    waits: bool,
    /// Whether all that Doorward knows was received once.
    is_complete: bool,
    is_failing: bool,
    /// When expired revocations were last removed.
    forgot_at: UnixTime,
}

/// A configuration that can send requests.
#[derive(Debug)]
struct Carrier {
    id: ConfigId,
    is_bootstrap: bool,
    scheduler: Arc<Scheduler>,
}

/// A request that has no answer yet.
#[derive(Debug)]
struct Asked {
    by: ConfigId,
    at: UnixTime,
    since: Instant,
}

/// For how many seconds expired revocations are kept, because clocks differ.
const MARGIN: u64 = 60;

/// The pause between requests until the first feed is complete.
const AT_FIRST: Duration = Duration::from_millis(100);

impl Follower {
    /// Knows nothing yet. With `waits`, another state's content stays in force until the first feed is complete.
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

    /// Lets a configuration send requests.
    pub(crate) fn join(&self, config: &Config<'_>) {
        let scheduler = Arc::new(config.scheduler());
        scheduler.wake();
        locked(&self.inner).carriers.push(Carrier {
            id: config.id(),
            is_bootstrap: config.is_bootstrap(),
            scheduler,
        });
    }

    /// Forgets a configuration that is gone. The answer to a request that it has sent never comes.
    pub(crate) fn leave(&self, id: ConfigId) {
        let mut inner = locked(&self.inner);
        inner.carriers.retain(|carrier| carrier.id != id);
        if inner.asked.as_ref().is_some_and(|asked| asked.by == id) {
            inner.asked = None;
            inner.due = Instant::now();
        }
    }

    /// Whether all that Doorward knows was received once.
    pub(crate) fn is_complete(&self) -> bool {
        locked(&self.inner).is_complete
    }

    /// Wakes the main thread if a request is due; returns when the next one is.
    pub(crate) fn wake(&self, at: Instant) -> Instant {
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

    /// Sends a request from this configuration, unless an answer is outstanding.
    pub(crate) fn ask(&self, config: &Config<'_>) {
        let mut inner = locked(&self.inner);
        // Envoy reports a timeout itself; a little later, the answer counts as lost.
        let longest = self.feed.timeout + Duration::from_secs(1);
        if (inner.asked.as_ref()).is_some_and(|asked| asked.since.elapsed() < longest) {
            return;
        }
        self.send(&mut inner, config);
    }

    fn send(&self, inner: &mut Inner, config: &Config<'_>) {
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

    /// Takes an answer; calls `exchange` with what is in force next, if it changes.
    pub(crate) fn take(
        &self,
        config: &Config<'_>,
        reply: Option<Reply>,
        exchange: impl FnOnce(Arc<InForce>),
    ) {
        static FAILED: Kind = Kind::new();
        let mut inner = locked(&self.inner);
        let Some(asked) = inner.asked.take() else {
            return;
        };
        match taken(&mut inner, asked.at, reply, exchange) {
            Ok(More(true)) => self.send(&mut inner, config),
            Ok(More(false)) => {}
            Err(fault) => {
                inner.is_failing = true;
                FAILED.line(
                    Level::Warn,
                    format_args!("an answer of the feed was refused, and nothing changes: {fault}"),
                );
            }
        }
    }
}

fn taken(
    inner: &mut Inner,
    asked_at: UnixTime,
    reply: Option<Reply>,
    exchange: impl FnOnce(Arc<InForce>),
) -> Result<More, Fault> {
    static CHANGED: Kind = Kind::new();
    static FOLLOWED: Kind = Kind::new();
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
    let taken = inner.known.take(&reply.body, asked_at)?;
    let is_first = taken.complete && !inner.is_complete;
    inner.is_complete |= taken.complete;
    let may_exchange = taken.exchanged && !inner.waits;
    let waited = inner.waits && inner.is_complete;
    if (may_exchange || waited)
        && let Some(next) = inner.known.in_force()
    {
        inner.waits = false;
        exchange(Arc::clone(next));
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
        FOLLOWED.line(
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

/// Locks a mutex. A panic under the lock is logged where it happens, and each step leaves the value whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether to send the next request at once.
struct More(bool);

/// Why an answer changes nothing.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("no answer")]
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

/// The beginning of an answer, safe for a log.
fn shown(body: &[u8]) -> String {
    let text = body.get(..200).unwrap_or(body);
    String::from_utf8_lossy(text).escape_debug().collect()
}

/// A fifth more or less, so that many Envoys do not synchronise.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * fastrand::f64())
}
