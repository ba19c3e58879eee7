//! The gate with hands: fetches the row of a login, hashes on a bounded pool, and logs each decision once. Owns no
//! rule.

use std::{
    fmt::Display,
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Semaphore;
use tracing::Level;

use crate::{
    domain::{
        credential::{Credential, CredentialFault},
        decision::{Caller, Decision, Denial, Unavailable},
        gate::{Attempt, Gate, Step},
        request::{Request, RequestFault, RequestLine},
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
    /// The address of the client, where it is known.
    pub client: Option<IpAddr>,
    /// The request as it came, readable or not.
    pub line: RequestLine<'a>,
}

/// The same, for a login that outlives the call that asked for it.
struct OwnedTrace {
    door: &'static str,
    request_id: String,
    client: Option<IpAddr>,
    method: Vec<u8>,
    host: Vec<u8>,
    target: Vec<u8>,
}

impl From<Trace<'_>> for OwnedTrace {
    fn from(trace: Trace<'_>) -> Self {
        let Trace {
            door,
            request_id,
            client,
            line,
        } = trace;
        Self {
            door,
            request_id: request_id.into(),
            client,
            method: line.method.into(),
            host: line.host.into(),
            target: line.target.into(),
        }
    }
}

impl OwnedTrace {
    fn borrow(&self) -> Trace<'_> {
        Trace {
            door: self.door,
            request_id: &self.request_id,
            client: self.client,
            line: RequestLine {
                method: &self.method,
                host: &self.host,
                target: &self.target,
            },
        }
    }
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
        match self.logins.gate.judge(request, unix_time()) {
            Step::Done(decision) => logged(decision.into(), trace, started),
            Step::Login(attempt) => self.login(attempt, trace.into(), started).await,
        }
    }

    /// Takes the login that a request is, by a door that has a route for nothing else.
    pub async fn log_in(&self, request: &Request<'_>, trace: Trace<'_>) -> Decision {
        let started = Instant::now();
        match self.logins.gate.log_in(request) {
            Step::Done(decision) => logged(decision.into(), trace, started),
            Step::Login(attempt) => self.login(attempt, trace.into(), started).await,
        }
    }

    /// The claims of a good token, as JSON.
    ///
    /// # Errors
    ///
    /// Why the credential is not one.
    pub fn validate(
        &self,
        credential: Credential<'_>,
        trace: Trace<'_>,
    ) -> Result<Vec<u8>, Denial> {
        let started = Instant::now();
        let gate = &self.logins.gate;
        let claims = match credential {
            Credential::Absent => Err(Denial::MissingToken),
            Credential::Basic(_) | Credential::Foreign => {
                Err(Denial::MalformedToken(CredentialFault::Token))
            }
            Credential::Malformed(fault) => Err(Denial::MalformedToken(fault)),
            Credential::Bearer(compact) => gate
                .tokens
                .claims(compact, unix_time())
                .map_err(Denial::InvalidToken),
        };
        if let Err(denial) = &claims {
            let decision = Decision::Deny(denial.clone());
            logged(decision.into(), trace, started);
        }
        claims
    }

    /// Decides a request that no door could read.
    #[must_use]
    pub fn refuse(&self, fault: RequestFault, trace: Trace<'_>) -> Decision {
        self.deny(Denial::Malformed(fault), trace)
    }

    /// Denies what a door knows to be out of the question.
    #[must_use]
    pub fn deny(&self, denial: Denial, trace: Trace<'_>) -> Decision {
        logged(Decision::Deny(denial).into(), trace, Instant::now())
    }

    /// A gateway that hangs up drops the call; the attempt goes on and is logged, so that hanging up hides nothing.
    async fn login(&self, attempt: Box<Attempt>, trace: OwnedTrace, started: Instant) -> Decision {
        let logins = Arc::clone(&self.logins);
        let task = tokio::spawn(async move {
            let settled = logins.settle(attempt).await;
            logged(settled, trace.borrow(), started)
        });
        task.await
            .unwrap_or_else(|_| unavailable(Unavailable::Internal))
    }
}

impl Logins {
    async fn settle(self: Arc<Self>, attempt: Box<Attempt>) -> Settled {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return unavailable(Unavailable::Busy).into();
        };
        let (account, cause) = match self.users.find(&attempt.login.username).await {
            Ok(account) => (account, None),
            // Refused like everybody else, at the same cost: a broken row must not show that there is one.
            Err(fault @ UsersFault::Row(_)) => (None, Some(fault)),
            Err(fault) => {
                return Settled {
                    decision: unavailable(match fault {
                        UsersFault::Timeout => Unavailable::DatabaseTimeout,
                        UsersFault::Row(_)
                        | UsersFault::NoConnection
                        | UsersFault::Database(_)
                        | UsersFault::NotMigrated
                        | UsersFault::Exists
                        | UsersFault::Unknown
                        | UsersFault::Foreign
                        | UsersFault::File(_)
                        | UsersFault::Unprotected
                        | UsersFault::Migrate(_) => Unavailable::Database,
                    }),
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
        let decision = hashing
            .await
            .unwrap_or_else(|_| unavailable(Unavailable::Internal));
        Settled { decision, cause }
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

/// The clock of the shell.
pub(crate) fn unix_time() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 makes every token one from the future, and so refuses it.
    UnixTime(since.map_or(0, |since| since.as_secs()))
}

/// The most of a host or path that a line of the log shows, in bytes.
const SHOWN: usize = 256;

/// Bytes of a client, without a query, so that they can neither end a line of the log nor fill it.
fn shown(bytes: &[u8]) -> impl Display + '_ {
    let bytes = bytes.split(|byte| *byte == b'?').next().unwrap_or(bytes);
    bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii()
}

fn logged(settled: Settled, trace: Trace<'_>, started: Instant) -> Decision {
    let Settled { decision, cause } = settled;
    let (verdict, reason, subject) = match &decision {
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
                client = trace.client.map(tracing::field::display),
                method = %shown(trace.line.method),
                host = %shown(trace.line.host),
                path = %shown(trace.line.target),
                reason,
                sub = subject,
                request_id = trace.request_id,
                micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                cause = cause.as_ref().map(tracing::field::display),
                "{verdict}"
            )
        };
    }
    match &decision {
        Decision::Allow(_) => write!(Level::DEBUG),
        Decision::Deny(Denial::Unavailable(_)) => write!(Level::WARN),
        Decision::Deny(_) | Decision::Issue(_) if cause.is_some() => write!(Level::WARN),
        Decision::Deny(_) | Decision::Issue(_) => write!(Level::INFO),
    }
    decision
}
