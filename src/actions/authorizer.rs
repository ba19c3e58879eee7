//! Decides requests: asks the judge, runs each action in its own task, and logs each decision once. Contains no rule.

mod denied;
mod logged;

use std::{panic::resume_unwind, sync::Arc, time::Instant};

use tokio_util::sync::CancellationToken;

pub(crate) use self::denied::TurnedAway;
use self::logged::{Counts, Started, logged};
use crate::{
    actions::run::{Actions, Caller, Renewed, Run},
    clock::unix_time,
    domain::{
        cookie::CookieEdit,
        credential::{Credential, CredentialFault},
        decision::{
            self, Admission, Assertion, Decision, Denial, Forwarding, Reason, Unavailable, Verdict,
        },
        judge::{Action, Judged, Step},
        policy::{Endpoint, Rule},
        probe::Answered,
        request::Request,
        time::UnixTime,
    },
    live::{Live, Rules},
    observe::{
        audit,
        metrics::Work,
        request_log::{Door, OwnedTrace, Trace},
        spans,
    },
    pages,
    shadow::Otherwise,
};

/// Decides requests.
#[derive(Clone, Debug)]
pub(crate) struct Authorizer {
    actions: Arc<Actions>,
}

/// A decision, and the rule that led to it, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Decided<'r> {
    /// The decision that every door must answer.
    pub(crate) decision: Decision,
    /// The rule that decided.
    pub(crate) rule: Option<&'r Rule>,
    /// What the next rules decide instead.
    pub(crate) otherwise: Option<Otherwise>,
}

impl Authorizer {
    /// Takes everything that actions use.
    #[must_use]
    pub(crate) fn new(actions: Actions) -> Self {
        Self {
            actions: Arc::new(actions),
        }
    }

    /// Measures the hashes of the user table, and continues to sample it.
    pub(crate) async fn learn(&self) {
        Arc::clone(&self.actions).learn().await;
    }

    /// The current rules.
    #[must_use]
    pub(crate) fn live(&self) -> &Live {
        &self.actions.live
    }

    /// Whether decisions have spans, so that the gateway's trace context is needed.
    #[must_use]
    pub(crate) fn has_spans(&self) -> bool {
        self.actions.spans.is_on()
    }

    /// Decides a request by the rules that are current when it starts. Only actions are awaited.
    pub(crate) async fn decide<'r>(
        &self,
        rules: &'r Arc<Rules>,
        request: &Request<'_>,
        probe: Option<&[u8]>,
        trace: Trace<'_>,
    ) -> Decided<'r> {
        let begun = self.begin(&trace);
        let now = unix_time();
        let judged = rules.judge.judge(request, now);
        let answered = || {
            let (decision, reason) = match &judged.step {
                Step::Done(decision) => (decision.verdict().name(), decision.reason().name()),
                Step::Act(action) => ("act", action.endpoint().name()),
                // The keys of this program are in its own memory.
                Step::Defer => (Verdict::Deny.name(), Reason::Internal.name()),
            };
            Answered {
                decision: decision.to_owned(),
                reason: reason.to_owned(),
                rule: judged.rule.map(|rule| rule.name().to_string()),
            }
        };
        if let Some(denial) = probed(rules, probe, answered) {
            return self.deny(denial, trace);
        }
        let shadow = rules.shadow.as_ref();
        let otherwise =
            shadow.and_then(|shadow| shadow.compare(&rules.judge, &judged, request, now));
        let Judged { rule, step } = judged;
        let step = match step {
            Step::Done(Decision::Allow(admission)) if admission.renewal.is_some() => {
                // Boxed, because hyper moves the memory of every call, and few calls renew a cookie.
                Step::Done(Box::pin(self.renewed(rules, request, admission, trace.door)).await)
            }
            step @ (Step::Done(_) | Step::Act(_) | Step::Defer) => step,
        };
        let step = asserted(rules, rule, step, now);
        let decision = self.take(rules, step, rule, trace, begun).await;
        if let Some(otherwise) = &otherwise {
            otherwise.log(&decision, rule.map(|rule| &**rule.name()), &trace);
        }
        Decided {
            decision,
            rule,
            otherwise,
        }
    }

    /// Renews a cookie at half of its life: Envoy adds the next one to the answer of the service; through other gateways,
    /// a user who goes to a page comes by the sign-in page first.
    async fn renewed(
        &self,
        rules: &Arc<Rules>,
        request: &Request<'_>,
        mut admission: Admission,
        door: Door,
    ) -> Decision {
        if door != Door::Grpc {
            let redirect = rules.judge.renewing_redirect(request);
            return redirect.map_or(Decision::Allow(admission), Decision::Deny);
        }
        if let Some(renewal) = &admission.renewal {
            let run = Run::new(Arc::clone(&self.actions), Arc::clone(rules));
            let transport = renewal.transport;
            let cookie = match run.renew(renewal).await {
                Renewed::Issued(issued) => issued.cookie(transport),
                Renewed::Refused | Renewed::Later => pages::later(transport),
            };
            admission.set_cookie = Some(cookie.into());
        }
        Decision::Allow(admission)
    }

    /// Runs a request to an endpoint, for a door that has a route for it.
    pub(crate) async fn ask(
        &self,
        rules: &Arc<Rules>,
        endpoint: Endpoint,
        request: &Request<'_>,
        probe: Option<&[u8]>,
        trace: Trace<'_>,
    ) -> Decision {
        let answered = || Answered {
            decision: "act".to_owned(),
            reason: endpoint.name().to_owned(),
            rule: None,
        };
        if let Some(denial) = probed(rules, probe, answered) {
            return self.deny(denial, trace).decision;
        }
        let begun = self.begin(&trace);
        let step = rules.judge.endpoint(endpoint, request, unix_time());
        self.take(rules, step, None, trace, begun).await
    }

    /// The claims of a valid token, as JSON.
    ///
    /// # Errors
    ///
    /// Why the credential is refused.
    pub(crate) fn validate(
        &self,
        rules: &Rules,
        credential: Credential<'_>,
        trace: Trace<'_>,
    ) -> Result<Vec<u8>, Denial> {
        let begun = self.begin(&trace);
        let valid = match credential {
            // `/validate` accepts a token or nothing.
            Credential::Basic(_) | Credential::Foreign => {
                Err(Denial::MalformedToken(CredentialFault::Token))
            }
            Credential::Absent
            | Credential::Cookie(_)
            | Credential::Malformed(_)
            | Credential::Bearer(_)
            | Credential::Key(_) => rules.judge.validate(credential, unix_time()),
        };
        let decision = match &valid {
            Ok(token) => Decision::Allow(Admission {
                caller: decision::Caller::Known(Arc::clone(&token.principal)),
                authorization: Forwarding::Keep,
                cookies: CookieEdit::Keep,
                renewal: None,
                set_cookie: None,
                assertion: None,
            }),
            Err(denial) => Decision::Deny(denial.clone()),
        };
        let counts = Counts::checked(&rules.counts, None);
        logged(decision.into(), None, trace, begun, counts);
        valid.map(|token| token.claims)
    }

    fn begin(&self, trace: &Trace<'_>) -> Started {
        Started {
            started: Instant::now(),
            span: self.actions.spans.begin(trace),
        }
    }

    /// Logs a decision, or runs an action.
    async fn take(
        &self,
        rules: &Arc<Rules>,
        step: Step,
        rule: Option<&Rule>,
        trace: Trace<'_>,
        begun: Started,
    ) -> Decision {
        let decision = match step {
            // Boxed, because hyper moves the memory of every call, and most calls are checks.
            Step::Act(action) => {
                return Box::pin(self.act(rules, action, rule, trace, begun)).await;
            }
            Step::Done(decision) => decision,
            // The keys of this program are in its own memory.
            Step::Defer => Decision::Deny(Denial::Unavailable(Unavailable::Internal)),
        };
        let number = rule.and_then(|rule| rules.judge.policy.number_of(rule));
        let counts = Counts::checked(&rules.counts, number);
        let rule = rule.map(|rule| &**rule.name());
        logged(decision.into(), rule, trace, begun, counts)
    }

    /// A gateway that disconnects drops the call. An action that still waits leaves the queue; an action that has its
    /// turn runs to its end. Both are logged, so that a caller cannot hide by disconnecting.
    async fn act(
        &self,
        rules: &Arc<Rules>,
        action: Action,
        rule: Option<&Rule>,
        trace: Trace<'_>,
        begun: Started,
    ) -> Decision {
        let number = rule.and_then(|rule| rules.judge.policy.number_of(rule));
        let rule = rule.map(Rule::name).cloned();
        let rules = Arc::clone(rules);
        let decisions = Arc::clone(&rules.counts);
        let actions = Arc::clone(&self.actions);
        let trace = Arc::new(OwnedTrace::from(trace));
        let caller = Caller {
            client: trace.client,
            gone: CancellationToken::new(),
        };
        // Dropped together with the call if the gateway disconnects.
        let _waits = caller.gone.clone().drop_guard();
        let task = tokio::spawn(async move {
            let run = Run::new(actions, rules);
            let mut concluded =
                spans::within(&trace.request_id, &begun.span, run.run(action, caller)).await;
            if let Some(upgrade) = concluded.upgrade.take() {
                let (trace, span) = (Arc::clone(&trace), begun.span.clone());
                tokio::spawn(async move {
                    let upgraded = run.upgrade(upgrade);
                    if let Some(subject) = spans::within(&trace.request_id, &span, upgraded).await {
                        let request_id = &*trace.request_id;
                        tracing::info!(sub = subject, request_id, "hash upgraded");
                        audit::upgraded(&subject, &trace.borrow());
                    }
                });
            }
            let counts = Counts {
                work: Work::Action,
                ..Counts::checked(&decisions, number)
            };
            logged(concluded, rule.as_deref(), trace.borrow(), begun, counts)
        });
        task.await
            .unwrap_or_else(|fault| match fault.try_into_panic() {
                // The door answers, logs and counts every panic in the same way.
                Ok(panic) => resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => Decision::Deny(Denial::Unavailable(Unavailable::Internal)),
            })
    }
}

/// Adds the signed assertion about a known caller, if services get one. Without it, the request must not pass.
fn asserted(rules: &Rules, rule: Option<&Rule>, step: Step, now: UnixTime) -> Step {
    let (Some(assertions), Step::Done(Decision::Allow(admission))) = (&rules.assertions, &step)
    else {
        return step;
    };
    let decision::Caller::Known(principal) = &admission.caller else {
        return step;
    };
    let audience = rule.and_then(Rule::audience);
    Step::Done(match assertions.about(principal, audience, now) {
        Ok(text) => Decision::Allow(Admission {
            assertion: Some(Assertion(text)),
            ..admission.clone()
        }),
        Err(_) => Decision::Deny(Denial::Unavailable(Unavailable::Internal)),
    })
}

/// The denial that answers a question of `doorward probe`, if the request carries a valid one.
fn probed(
    rules: &Rules,
    probe: Option<&[u8]>,
    answered: impl FnOnce() -> Answered,
) -> Option<Denial> {
    let (key, question) = (rules.probe.as_ref()?, probe?);
    let nonce = key.read(question, unix_time())?;
    Some(Denial::Probed(key.answer(nonce, &answered())))
}
