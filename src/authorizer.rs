//! The gate with hands: runs errands in tasks of their own, and logs each decision once. Owns no rule.

mod errands;
mod pace;

use std::{fmt::Display, net::IpAddr, sync::Arc, time::Instant};

use tracing::Level;
use uuid::Uuid;

use self::errands::Upgrade;
pub use self::{errands::Errands, pace::Pace};
use crate::{
    audit,
    clock::unix_time,
    domain::{
        credential::{Credential, CredentialFault},
        decision::{Caller, Decision, Denial, Unavailable},
        gate::{Judged, Step},
        policy::{Endpoint, Rule},
        request::{Request, RequestFault, RequestLine},
    },
    live::{Live, Rules},
    users::UsersFault,
};

/// Decides requests.
#[derive(Clone, Debug)]
pub struct Authorizer {
    errands: Arc<Errands>,
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

/// A decision, and the rule that it follows from, where one decided.
#[derive(Clone, Debug)]
pub struct Decided<'r> {
    /// What every door must say.
    pub decision: Decision,
    /// Whose rule that is.
    pub rule: Option<&'r Rule>,
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

/// A decision, what the log alone may know of it, and what is left to do behind it.
#[derive(Debug)]
pub struct Concluded {
    decision: Decision,
    cause: Option<UsersFault>,
    upgrade: Option<Upgrade>,
}

impl Authorizer {
    /// Takes what errands need.
    #[must_use]
    pub fn new(errands: Errands) -> Self {
        Self {
            errands: Arc::new(errands),
        }
    }

    /// The rules that are in force.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.errands.live
    }

    /// Decides a request by the rules it began with. Only an errand is awaited.
    pub async fn decide<'r>(
        &self,
        rules: &'r Rules,
        request: &Request<'_>,
        trace: Trace<'_>,
    ) -> Decided<'r> {
        let started = Instant::now();
        let Judged { rule, step } = rules.gate.judge(request, unix_time());
        let decision = self.take(step, rule, trace, started).await;
        Decided { decision, rule }
    }

    /// Takes what a request asks of an endpoint, by a door that has a route for it.
    pub async fn ask(
        &self,
        rules: &Rules,
        endpoint: Endpoint,
        request: &Request<'_>,
        trace: Trace<'_>,
    ) -> Decision {
        let started = Instant::now();
        let step = rules.gate.endpoint(endpoint, request, unix_time());
        self.take(step, None, trace, started).await
    }

    /// The claims of a good token, as JSON.
    ///
    /// # Errors
    ///
    /// Why the credential is not one.
    pub fn validate(
        &self,
        rules: &Rules,
        credential: Credential<'_>,
        trace: Trace<'_>,
    ) -> Result<Vec<u8>, Denial> {
        let started = Instant::now();
        let claims = match credential {
            // Whoever validates shows a token or nothing.
            Credential::Basic(_) | Credential::Foreign => {
                Err(Denial::MalformedToken(CredentialFault::Token))
            }
            Credential::Absent | Credential::Malformed(_) | Credential::Bearer(_) => {
                rules.gate.claims(credential, unix_time())
            }
        };
        if let Err(denial) = &claims {
            let decision = Decision::Deny(denial.clone());
            logged(decision.into(), None, trace, started);
        }
        claims
    }

    /// Decides a request that no door could read.
    #[must_use]
    pub fn refuse(&self, fault: RequestFault, trace: Trace<'_>) -> Decided<'static> {
        self.deny(Denial::Malformed(fault), trace)
    }

    /// Denies what a door knows to be out of the question.
    #[must_use]
    pub fn deny(&self, denial: Denial, trace: Trace<'_>) -> Decided<'static> {
        let denied = Decision::Deny(denial).into();
        Decided {
            decision: logged(denied, None, trace, Instant::now()),
            rule: None,
        }
    }

    /// A gateway that hangs up drops the call; the errand goes on and is logged, so that hanging up hides nothing.
    async fn take(
        &self,
        step: Step,
        rule: Option<&Rule>,
        trace: Trace<'_>,
        started: Instant,
    ) -> Decision {
        let rule = rule.map(Rule::name);
        let errand = match step {
            Step::Done(decision) => {
                return logged(decision.into(), rule.map(|name| &**name), trace, started);
            }
            Step::Errand(errand) => errand,
        };
        let rule = rule.cloned();
        let errands = Arc::clone(&self.errands);
        let trace = Arc::new(OwnedTrace::from(trace));
        let task = tokio::spawn(async move {
            let mut concluded = Arc::clone(&errands).run(errand, trace.client).await;
            if let Some(upgrade) = concluded.upgrade.take() {
                let trace = Arc::clone(&trace);
                tokio::spawn(async move {
                    if let Some(subject) = errands.upgrade(upgrade).await {
                        tracing::info!(sub = subject, "hash upgraded");
                        audit::upgraded(&subject, &trace.borrow());
                    }
                });
            }
            logged(concluded, rule.as_deref(), trace.borrow(), started)
        });
        task.await
            .unwrap_or_else(|_| Decision::Deny(Denial::Unavailable(Unavailable::Internal)))
    }
}

impl From<Decision> for Concluded {
    fn from(decision: Decision) -> Self {
        Self {
            decision,
            cause: None,
            upgrade: None,
        }
    }
}

/// The most of a host or path that a line of the log shows, in bytes.
const SHOWN: usize = 256;

/// Bytes of a client, without a query, so that they can neither end a line of the log nor fill it.
fn shown(bytes: &[u8]) -> impl Display + '_ {
    let bytes = bytes.split(|byte| *byte == b'?').next().unwrap_or(bytes);
    bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii()
}

fn logged(
    concluded: Concluded,
    rule: Option<&str>,
    trace: Trace<'_>,
    started: Instant,
) -> Decision {
    let Concluded {
        decision, cause, ..
    } = concluded;
    let (verdict, reason, subject) = match &decision {
        Decision::Allow(admission) => match &admission.caller {
            Caller::Anonymous => ("allow", "anonymous", None),
            Caller::Known(identity) => ("allow", "token", Some(&*identity.subject)),
        },
        Decision::Issue(issued) => ("issue", issued.by.reason(), Some(&*issued.identity.subject)),
        Decision::Done(done) => ("done", done.reason(), done.subject()),
        Decision::Deny(denial) => ("deny", denial.reason(), denial.subject()),
    };
    let id = match &decision {
        Decision::Allow(_) => None,
        Decision::Issue(_) | Decision::Done(_) | Decision::Deny(_) => Some(Uuid::now_v7()),
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
                rule,
                reason,
                sub = subject,
                request_id = trace.request_id,
                decision = id.map(tracing::field::display),
                micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
                cause = cause.as_ref().map(tracing::field::display),
                "{verdict}"
            )
        };
    }
    match &decision {
        Decision::Allow(_) => write!(Level::DEBUG),
        Decision::Deny(Denial::Unavailable(_)) => write!(Level::WARN),
        Decision::Deny(_) | Decision::Issue(_) | Decision::Done(_) if cause.is_some() => {
            write!(Level::WARN);
        }
        Decision::Deny(_) | Decision::Issue(_) | Decision::Done(_) => write!(Level::INFO),
    }
    if let Some(id) = id {
        audit::decided(verdict, reason, subject, &trace, id);
    }
    decision
}
