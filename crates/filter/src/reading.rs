//! Reads a request of Envoy's as every door of Doorward reads one.

use std::sync::Arc;

use doorward_core::{
    decision::{Answer, Decision, Denial, Unavailable},
    header_edits::{Gateway, HeaderEdits},
    headers,
    judge::{Action, Judged, Step},
    policy::{Demand, Endpoint},
    request::{Answerable, RequestLine},
};
use doorward_rules::feed::InForce;

use crate::{
    abi::{Header, Headers},
    action::{Asks, Ends},
    check::Question,
    state::now,
};

/// What comes of a request's headers. Borrows nothing of Envoy's, whose memory moves when a header is set.
pub(crate) struct Judgement {
    pub(crate) next: Next,
    /// The rule that decided, where the dynamic metadata wants it.
    pub(crate) rule: Option<Arc<str>>,
}

/// What happens next.
pub(crate) enum Next {
    /// The service gets it, without these headers and with those that the admission has.
    Pass(Decision, Vec<&'static str>),
    /// The client gets an answer.
    Refuse(Decision, Answer),
    /// Doorward is asked.
    Ask(Box<Asks>),
}

/// The headers that Doorward reads, beside those of the request line.
const READ: [&[u8]; 8] = [
    b"accept",
    b"access-control-request-method",
    b"authorization",
    b"content-type",
    b"origin",
    b"x-envoy-external-address",
    b"x-forwarded-for",
    b"x-request-id",
];

/// Judges a request by its headers.
pub(crate) fn judge(
    in_force: Option<&InForce>,
    headers: &Headers<'_>,
    names_rule: bool,
) -> Judgement {
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
            // Envoy's own answer to ext_authz, which a client has no reason to send; a body is always whole here.
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
    let name = rule
        .filter(|_| names_rule)
        .map(|rule| Arc::clone(rule.name()));
    let endpoint = rule.and_then(|rule| match rule.demand() {
        Demand::Endpoint(endpoint) => Some(*endpoint),
        Demand::Public | Demand::SignedIn | Demand::Role(_) | Demand::Nobody => None,
    });
    let next = match (step, endpoint) {
        // What a method that is not the endpoint's gets, and a preflight, needs nobody else.
        (
            Step::Done(decision @ (Decision::Allow(_) | Decision::Deny(Denial::EndpointMethod(_)))),
            _,
        )
        | (Step::Done(decision), None) => decided(decision, headers, in_force),
        // Whatever else is asked of an endpoint, Doorward answers: it alone sees the body, and counts attempts.
        (step, Some(endpoint)) => Next::Ask(Box::new(asks(endpoint, &step, line, headers))),
        (Step::Act(_), None) => decided(
            Decision::Deny(Denial::Unavailable(Unavailable::Internal)),
            headers,
            in_force,
        ),
    };
    Judgement { next, rule: name }
}

/// Nothing is known yet by which a request could be judged.
fn unknown() -> Judgement {
    let denial = Denial::Unavailable(Unavailable::Stale);
    let answer = denial.answer(&doorward_core::decision::Realm::default());
    Judgement {
        next: Next::Refuse(Decision::Deny(denial), answer),
        rule: None,
    }
}

fn decided(decision: Decision, headers: &Headers<'_>, in_force: &InForce) -> Next {
    match decision {
        Decision::Allow(ref admission) => {
            let edits = HeaderEdits::of(admission, in_force.identity, Gateway::ShowsAll);
            let is_there = |name: &&str| headers.iter().any(|(own, _)| own == name.as_bytes());
            let remove = edits.remove().filter(is_there).collect();
            Next::Pass(decision, remove)
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

fn asks(endpoint: Endpoint, step: &Step, line: RequestLine<'_>, headers: &Headers<'_>) -> Asks {
    let mut forms = false;
    let mut is_upgrade = false;
    for (name, value) in headers.iter() {
        match name {
            b"content-type" => {
                forms |= doorward_core::request::is_json(value)
                    || doorward_core::request::is_form(value);
            }
            b"upgrade" => is_upgrade = true,
            _ => {}
        }
    }
    let question = Question {
        method: line.method.into(),
        host: line.host.into(),
        target: line.target.into(),
        headers: headers.iter().filter(is_read).map(owned).collect(),
        source: None,
    };
    let ends = match (endpoint, step) {
        (Endpoint::Logout, Step::Act(Action::Logout(logout))) => Ends::Logout(logout.clone()),
        (Endpoint::Password, _) => Ends::Password,
        (Endpoint::Login | Endpoint::Logout | Endpoint::Refresh | Endpoint::Register, _) => {
            Ends::Nothing
        }
    };
    Asks {
        question,
        wants_body: forms && !is_upgrade && endpoint != Endpoint::Logout,
        body: Vec::new(),
        ends,
    }
}

fn is_read((name, _): &Header<'_>) -> bool {
    READ.contains(name)
}

fn owned((name, value): Header<'_>) -> (Vec<u8>, Vec<u8>) {
    (name.into(), value.into())
}
