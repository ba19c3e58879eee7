//! The gate with hands: fetches the row of a login, hashes on a bounded pool, and logs each decision once. Owns no
//! rule.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Semaphore;
use tracing::Level;

use crate::{
    domain::{
        decision::{Caller, Decision, Denial, Unavailable},
        gate::{Attempt, Gate, Step},
        request::{Request, RequestFault},
        token::UnixTime,
    },
    users::{Users, UsersFault},
};

/// Decides requests.
#[derive(Clone, Debug)]
pub struct Authorizer {
    logins: Arc<Logins>,
}

/// What a login needs beside the attempt itself.
#[derive(Debug)]
struct Logins {
    gate: Gate,
    users: Users,
    /// Logins that are under way, from the first look at the table on.
    places: Arc<Semaphore>,
    /// Passwords that are hashed at once.
    turns: Arc<Semaphore>,
}

/// What the log says of a request beside the decision.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// Which door asked.
    pub door: &'static str,
    /// `x-request-id`, or what the gateway has in its place.
    pub request_id: &'a str,
}

/// A decision, and what the log alone may know of it.
struct Settled {
    decision: Decision,
    cause: Option<UsersFault>,
}

impl Authorizer {
    /// Takes a gate, the user table, how many passwords are hashed at once and how many logins wait for that.
    #[must_use]
    pub fn new(gate: Gate, users: Users, hash_threads: usize, hash_queue: usize) -> Self {
        let places = hash_threads.saturating_add(hash_queue);
        Self {
            logins: Arc::new(Logins {
                gate,
                users,
                places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
                turns: Arc::new(Semaphore::new(hash_threads)),
            }),
        }
    }

    /// Decides a request. Only a login is awaited.
    pub async fn decide(&self, request: &Request<'_>, trace: Trace<'_>) -> Decision {
        let started = Instant::now();
        let settled = match self.logins.gate.judge(request, unix_time()) {
            Step::Done(decision) => decision.into(),
            Step::Login(attempt) => self.login(attempt).await,
        };
        log(&settled, Some(request), trace, started.elapsed());
        settled.decision
    }

    /// Decides a request that no door could read.
    #[must_use]
    pub fn refuse(&self, fault: RequestFault, trace: Trace<'_>) -> Decision {
        let settled = Settled::from(Decision::Deny(Denial::Malformed(fault)));
        log(&settled, None, trace, Duration::ZERO);
        settled.decision
    }

    async fn login(&self, attempt: Box<Attempt>) -> Settled {
        let logins = Arc::clone(&self.logins);
        // A gateway that hangs up drops the call; the attempt goes on, so that hanging up saves nobody anything.
        let task = tokio::spawn(async move { logins.settle(attempt).await });
        match task.await {
            Ok(settled) => settled,
            Err(_) => unavailable(Unavailable::Internal).into(),
        }
    }
}

impl Logins {
    async fn settle(self: Arc<Self>, attempt: Box<Attempt>) -> Settled {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return unavailable(Unavailable::Busy).into();
        };
        let account = match self.users.find(&attempt.login.username).await {
            Ok(account) => account,
            Err(fault) => {
                let kind = match &fault {
                    UsersFault::Timeout => Unavailable::DatabaseTimeout,
                    UsersFault::Row(_) => Unavailable::Row,
                    UsersFault::NoConnection
                    | UsersFault::Database(_)
                    | UsersFault::NotMigrated
                    | UsersFault::Exists
                    | UsersFault::Unknown
                    | UsersFault::Foreign
                    | UsersFault::File(_)
                    | UsersFault::Migrate(_) => Unavailable::Database,
                };
                return Settled {
                    decision: unavailable(kind),
                    cause: Some(fault),
                };
            }
        };
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return unavailable(Unavailable::Internal).into();
        };
        let hashing = tokio::task::spawn_blocking(move || {
            let decision = self.gate.settle(&attempt, account, unix_time());
            drop((turn, place));
            decision
        });
        match hashing.await {
            Ok(decision) => decision.into(),
            Err(_) => unavailable(Unavailable::Internal).into(),
        }
    }
}

impl From<Decision> for Settled {
    fn from(decision: Decision) -> Self {
        Self {
            decision,
            cause: None,
        }
    }
}

fn unavailable(kind: Unavailable) -> Decision {
    Decision::Deny(Denial::Unavailable(kind))
}

fn unix_time() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 makes every token one from the future, and so refuses it.
    UnixTime(since.map_or(0, |since| since.as_secs()))
}

fn log(settled: &Settled, request: Option<&Request<'_>>, trace: Trace<'_>, took: Duration) {
    let (verdict, reason, subject) = match &settled.decision {
        Decision::Allow(admission) => match &admission.caller {
            Caller::Anonymous => ("allow", "anonymous", None),
            Caller::Known(identity) => ("allow", "token", Some(&*identity.subject)),
        },
        Decision::Issue(issued) => ("issue", "login", Some(&*issued.identity.subject)),
        Decision::Deny(denial) => ("deny", denial.reason(), denial.subject()),
    };
    macro_rules! write {
        ($level:expr) => {
            tracing::event!(
                $level,
                door = trace.door,
                method = request.map(|request| request.method.as_str()),
                host = request.and_then(|request| request.host.name()),
                path = request.map(|request| request.path.as_str()),
                reason,
                sub = subject,
                request_id = trace.request_id,
                micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                cause = settled.cause.as_ref().map(tracing::field::display),
                "{verdict}"
            )
        };
    }
    match &settled.decision {
        Decision::Allow(_) => write!(Level::DEBUG),
        Decision::Deny(Denial::Unavailable(_)) => write!(Level::WARN),
        Decision::Deny(_) | Decision::Issue(_) => write!(Level::INFO),
    }
}
