//! Reads a request from Envoy's headers, as every door of Doorward does, and judges it.

use std::sync::Arc;

use doorward_core::{
    decision::{Admission, Answer, Assertion, Caller, Decision, Denial, Realm, Unavailable},
    header_edits::{Gateway, HeaderEdits},
    headers::{self, READ},
    identity_headers::IdentityHeaders,
    judge::{Action, Judged, Logout, Step},
    policy::{Demand, Endpoint, Rule},
    request::{Answerable, RequestLine},
    sign_in::Visit,
};
use doorward_rules::feed::InForce;

use crate::{
    abi::{Header, Headers},
    action::{Effect, PendingAction},
    check::Question,
    clock::now,
    rule_counts::Outcome,
};

/// What follows from a request's headers. Borrows nothing from Envoy, whose memory moves when a header is set.
pub(crate) struct Judgement {
    pub(crate) next: Next,
    /// The rule that decided, for the dynamic metadata.
    pub(crate) rule: Option<Arc<str>>,
    /// Its number.
    pub(crate) number: Option<usize>,
}

/// What happens next.
pub(crate) enum Next {
    /// The service gets the request, with the identity headers of the decision and without those in `remove`.
    Pass {
        decision: Decision,
        identity: IdentityHeaders,
        remove: Vec<&'static str>,
    },
    /// The client gets an answer.
    Refuse(Decision, Answer),
    /// Doorward answers.
    Ask(Box<PendingAction>),
}

impl Next {
    /// How it is counted.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Pass { .. } => Outcome::Allowed,
            Self::Refuse(..) => Outcome::Denied,
            Self::Ask(_) => Outcome::Asked,
        }
    }
}

/// What is needed beside the verdict.
#[derive(Clone, Copy)]
pub(crate) struct Wants {
    /// The name of the rule, for the dynamic metadata.
    pub(crate) rule: bool,
    /// The signed assertion, where services get one.
    pub(crate) assertion: bool,
}

/// Judges a request by its headers.
pub(crate) fn judge(in_force: Option<&InForce>, headers: &Headers<'_>, wants: Wants) -> Judgement {
    let Some(in_force) = in_force else {
        return unknown();
    };
    let mut line = RequestLine::default();
    let mut seen = headers::Headers::default();
    for (name, value) in headers.iter() {
        match name {
            b":method" => line.method = value,
            b":authority" => line.host = value,
            b":path" => line.target = value,
            // ext_authz sets it for a body that it cut. The module sends complete bodies, and no client may claim otherwise.
            b"x-envoy-auth-partial-body" => {}
            _ => seen.see(in_force.identity, name, value),
        }
    }
    let read = seen.request(line, in_force.tolerance, b"", Answerable::Anything);
    let Judged { rule, step } = match &read {
        Ok(request) => in_force.judge.judge(request, now()),
        Err(fault) => Judged {
            rule: None,
            step: Step::Done(Decision::Deny(Denial::Malformed(*fault))),
        },
    };
    // Nothing here signs tokens, so that Doorward renews a cookie before the request.
    let step = match (step, &read) {
        (Step::Done(Decision::Allow(admission)), Ok(request)) if admission.renewal.is_some() => {
            let redirect = in_force.judge.renewing_redirect(request);
            let decision = redirect.map_or(Decision::Allow(admission), Decision::Deny);
            Step::Done(decision)
        }
        (step, _) => step,
    };
    let (step, effect) = match step {
        Step::Done(Decision::Allow(admission)) if wants.assertion => {
            match asserted(in_force, rule, admission) {
                Ok(admission) => (Step::Done(Decision::Allow(admission)), Effect::Nothing),
                Err(due) => (Step::Defer, due),
            }
        }
        step @ (Step::Done(_) | Step::Act(_) | Step::Defer) => (step, Effect::Nothing),
    };
    let name = rule
        .filter(|_| wants.rule)
        .map(|rule| Arc::clone(rule.name()));
    let endpoint = rule.and_then(|rule| match rule.demand() {
        Demand::Endpoint(endpoint) => Some(*endpoint),
        Demand::Public | Demand::SignedIn | Demand::Role(_) | Demand::Nobody => None,
    });
    let key = in_force.identity.key_header();
    let next = match (step, endpoint) {
        // A preflight, and a method that the endpoint does not have, need no answer of Doorward.
        (
            Step::Done(decision @ (Decision::Allow(_) | Decision::Deny(Denial::EndpointMethod(_)))),
            _,
        )
        | (Step::Done(decision), None) => decided(decision, headers, in_force),
        // Doorward answers everything else at an endpoint: only it reads the body and counts attempts.
        (step, Some(endpoint)) => {
            let reads_body = seen.reads_body();
            let endpoint = Some(endpoint);
            Next::Ask(Box::new(ask(
                endpoint, &step, line, headers, key, reads_body,
            )))
        }
        // Only Doorward has the keys of machines, and signs assertions.
        (Step::Defer, None) => Next::Ask(Box::new(PendingAction {
            effect,
            ..ask(None, &Step::Defer, line, headers, key, false)
        })),
        (Step::Act(_), None) => decided(
            Decision::Deny(Denial::Unavailable(Unavailable::Internal)),
            headers,
            in_force,
        ),
    };
    Judgement {
        next,
        rule: name,
        number: rule.and_then(|rule| in_force.judge.policy.number_of(rule)),
    }
}

/// Adds the signed assertion about a known caller, if services get one.
///
/// # Errors
///
/// The last one cannot be sent again. Only Doorward can sign another; the effect keeps it.
fn asserted(
    in_force: &InForce,
    rule: Option<&Rule>,
    admission: Admission,
) -> Result<Admission, Effect> {
    let (Some(assertions), Caller::Known(principal)) = (&in_force.assertions, &admission.caller)
    else {
        return Ok(admission);
    };
    let audience = rule.and_then(Rule::audience);
    match assertions.about(principal, audience, now()) {
        Some(text) => Ok(Admission {
            assertion: Some(Assertion(text)),
            ..admission
        }),
        None => Err(Effect::Assertion(Arc::clone(principal), audience.cloned())),
    }
}

/// The answer before the first feed.
fn unknown() -> Judgement {
    let denial = Denial::Unavailable(Unavailable::Stale);
    let answer = denial.answer(&Realm::default());
    Judgement {
        next: Next::Refuse(Decision::Deny(denial), answer),
        rule: None,
        number: None,
    }
}

fn decided(decision: Decision, headers: &Headers<'_>, in_force: &InForce) -> Next {
    match decision {
        Decision::Allow(ref admission) => {
            let edits = HeaderEdits::of(admission, in_force.identity, Gateway::ShowsAll);
            let is_there = |name: &&str| headers.iter().any(|(own, _)| own == name.as_bytes());
            let remove = edits.remove().filter(is_there).collect();
            Next::Pass {
                decision,
                identity: in_force.identity,
                remove,
            }
        }
        Decision::Deny(ref denial) => {
            let answer = denial.answer(&in_force.realm);
            Next::Refuse(decision, answer)
        }
        Decision::Issue(_) | Decision::Done(_) => {
            let denial = Denial::Unavailable(Unavailable::Internal);
            let answer = denial.answer(&in_force.realm);
            Next::Refuse(Decision::Deny(denial), answer)
        }
    }
}

fn ask(
    endpoint: Option<Endpoint>,
    step: &Step,
    line: RequestLine<'_>,
    headers: &Headers<'_>,
    key_header: Option<&'static str>,
    reads_body: bool,
) -> PendingAction {
    // After an upgrade, the bytes are no body.
    let is_upgrade = headers.iter().any(|(name, _)| name == b"upgrade");
    let question = Question {
        method: line.method.into(),
        host: line.host.into(),
        target: line.target.into(),
        headers: (headers.iter())
            .filter(|(name, _)| {
                READ.contains(name) || key_header.is_some_and(|own| own.as_bytes() == *name)
            })
            .map(owned)
            .collect(),
        source: None,
    };
    let effect = match (endpoint, step) {
        (Some(Endpoint::Logout), Step::Act(Action::Logout(logout))) => {
            Effect::Logout(logout.clone())
        }
        (Some(Endpoint::SignOut), Step::Act(Action::Visit(Visit::SignOut(Some(presented)), _))) => {
            Effect::Logout(Box::new(Logout {
                presented: (**presented).clone(),
                everywhere: false,
            }))
        }
        (Some(Endpoint::Password), _) => Effect::Password,
        (
            None
            | Some(
                Endpoint::Login
                | Endpoint::Logout
                | Endpoint::Refresh
                | Endpoint::Register
                | Endpoint::SignIn
                | Endpoint::SignOut
                | Endpoint::SignedIn
                | Endpoint::Keys
                | Endpoint::KeysPage,
            ),
            _,
        ) => Effect::Nothing,
    };
    let wants_body = match endpoint {
        Some(Endpoint::Logout | Endpoint::SignOut | Endpoint::SignedIn) => false,
        None
        | Some(
            Endpoint::Login
            | Endpoint::Refresh
            | Endpoint::Register
            | Endpoint::Password
            | Endpoint::SignIn
            | Endpoint::Keys
            | Endpoint::KeysPage,
        ) => reads_body && !is_upgrade,
    };
    PendingAction {
        question,
        wants_body,
        body: Vec::new(),
        effect,
    }
}

fn owned((name, value): Header<'_>) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}
