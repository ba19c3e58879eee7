//! Requests that Doorward answers, which are actions, requests with a key, and those whose assertion is due: a call of its
//! gRPC port through Envoy, and what a good answer changes here at once.

use std::{sync::Arc, time::Duration};

use doorward_core::{
    credential::Credential, judge::Logout, principal::Principal, revocation::Generation,
    token::Presented,
};
use doorward_rules::feed::InForce;

use crate::{
    abi::{Header, Reply, Stream},
    check::{self, Answer, AnswerFault, Question, Verdict},
    clock::now,
    settings::Actions,
};

/// A request that Doorward answers. No `Debug`: it contains passwords and tokens.
pub(crate) struct PendingAction {
    pub(crate) question: Question,
    /// Whether Doorward reads its body.
    pub(crate) wants_body: bool,
    /// The received part of the body.
    pub(crate) body: Vec<u8>,
    pub(crate) effect: Effect,
}

/// What a good answer changes here.
pub(crate) enum Effect {
    Nothing,
    /// The token of the request, or all tokens of its user, are revoked.
    Logout(Box<Logout>),
    /// All tokens of the user except the one in the answer are revoked.
    Password,
    /// The assertion about the user for the audience of the rule is sent again.
    Assertion(Arc<Principal>, Option<Arc<str>>),
}

/// Why Doorward did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("the configuration has no \"actions\"")]
    NoCluster,
    #[error("the cluster {0:?} is unknown, or has no host")]
    NotSent(String),
    #[error("no answer")]
    NoAnswer,
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the answer cannot be used: {0}")]
    Answer(#[from] AnswerFault),
    #[error("the answer has no signed assertion: is identity.assertion the same at all replicas?")]
    NoAssertion,
}

/// Sends an action to Doorward.
pub(crate) fn send(
    stream: &mut Stream<'_>,
    actions: &Actions,
    question: &Question,
    body: Vec<u8>,
) -> Result<(), Unanswered> {
    let frame = question.frame(body);
    let timeout = grpc_timeout(actions.timeout);
    let headers: [Header<'_>; 6] = [
        (b":method", b"POST"),
        (b":path", check::PATH.as_bytes()),
        (b":authority", actions.authority.as_bytes()),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"grpc-timeout", timeout.as_bytes()),
    ];
    match stream.call(&actions.cluster, &headers, &frame, actions.timeout) {
        true => Ok(()),
        false => Err(Unanswered::NotSent(actions.cluster.clone())),
    }
}

/// A timeout as gRPC writes it: at most eight digits and a unit.
fn grpc_timeout(timeout: Duration) -> String {
    format!("{}m", timeout.as_millis().min(99_999_999))
}

/// Reads the answer.
pub(crate) fn answered(reply: Option<Reply>) -> Result<Answer, Unanswered> {
    let reply = reply.ok_or(Unanswered::NoAnswer)?;
    if reply.status != 200 {
        return Err(Unanswered::Status(reply.status));
    }
    Ok(check::read(&reply.body)?)
}

/// Keeps the assertion that an answer lets pass, for the next requests.
///
/// # Errors
///
/// [`Unanswered::NoAssertion`]: the service would get a request without the assertion that it expects.
pub(crate) fn keep(
    in_force: &InForce,
    effect: &Effect,
    verdict: &Verdict,
) -> Result<(), Unanswered> {
    let (Effect::Assertion(principal, audience), Verdict::Pass { set, .. }) = (effect, verdict)
    else {
        return Ok(());
    };
    let (Some(name), Some(assertions)) = (in_force.identity.assertion(), &in_force.assertions)
    else {
        return Ok(());
    };
    let found = set.iter().find(|(own, _)| own == name);
    let text = found.and_then(|(_, value)| str::from_utf8(value).ok());
    let text = text.ok_or(Unanswered::NoAssertion)?;
    let verifier = &in_force.judge.verifier;
    assertions.keep(verifier, principal, audience.as_ref(), text, now());
    Ok(())
}

/// Revokes here, at once, the tokens that a good answer revokes. The feed would do it later.
pub(crate) fn revoke(in_force: &InForce, effect: &Effect, verdict: &Verdict) {
    let Verdict::Answer {
        status: 200,
        headers,
        ..
    } = verdict
    else {
        return;
    };
    let judge = &in_force.judge;
    match effect {
        Effect::Nothing | Effect::Assertion(..) => {}
        Effect::Logout(logout) => {
            let Presented {
                identity,
                token,
                session,
                generation,
                expires,
            } = &logout.presented;
            match logout.everywhere {
                true => {
                    let next = Generation(generation.0.saturating_add(1));
                    let expires = judge.verifier.terms().all_expired(now());
                    judge.revoked.end_before(&identity.subject, next, expires);
                }
                false => {
                    for id in [Some(token), session.as_ref()].into_iter().flatten() {
                        judge.revoked.end(id, *expires);
                    }
                }
            }
        }
        Effect::Password => {
            let token = headers.iter().find(|(name, _)| name == "authorization");
            let credential = token.map(|(_, value)| Credential::parse([&**value]));
            let Some(Credential::Bearer(compact)) = credential else {
                return;
            };
            // The new token names its user and its generation. All earlier generations are revoked.
            if let Ok(new) = judge.verifier.open(compact, now(), &judge.revoked) {
                let expires = judge.verifier.terms().all_expired(now());
                judge
                    .revoked
                    .end_before(&new.identity.subject, new.generation, expires);
            }
        }
    }
}
