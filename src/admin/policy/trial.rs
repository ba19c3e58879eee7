//! Asks the real judge about requests that nobody sent, with a token key that is generated for the run.

use std::sync::Arc;

use crate::{
    clock::unix_time,
    config::Settings,
    domain::{
        account::Identity,
        body::Body,
        credential::{Compact, Credential},
        decision::{Decision, Denial, Done},
        judge::{Judge, Step},
        keyring::Keyring,
        machine_keys::KeySource,
        path::Tolerance,
        policy::Access,
        request::{
            Answerable, Method, Request, RequestFault, RequestLine, TokenForm, browser::Browser,
        },
        revocation::{Generation, Revocations},
        token::{Secret, Signer, Token, UnixTime, Verifier},
    },
};

/// The judge of the rules in the settings.
pub(super) struct Trial {
    judge: Judge,
    signer: Signer,
    paths: Tolerance,
    now: UnixTime,
}

/// A request that nobody sent.
pub(super) struct Asked<'a> {
    pub(super) line: RequestLine<'a>,
    /// The owner of the token; `None` for a request without one.
    pub(super) identity: Option<&'a Identity>,
}

/// What the judge says about a request.
pub(super) struct Tried<'a> {
    /// The method and what the rules say, or why the request cannot be read.
    pub(super) read: Result<(Method<'a>, Access<'a>), RequestFault>,
    pub(super) decision: Decision,
}

impl Trial {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let secret = Secret::parse(Secret::generate().as_bytes())?;
        let keys = Arc::new(Keyring::of_secret(&secret, settings.jwt.terms.lasts()));
        Ok(Self {
            signer: Signer::new(Arc::clone(&keys), settings.jwt.terms.clone()),
            judge: Judge {
                policy: settings.policy.clone(),
                verifier: Verifier::of(&keys, settings.jwt.terms.clone()),
                revoked: Arc::new(Revocations::new(None)),
                forwards_bearer: settings.identity.forward_bearer,
                allows_preflight: false,
                keys: KeySource::Off,
                sign_in: None,
            },
            paths: settings.paths,
            now: unix_time(),
        })
    }

    /// Judges a request.
    ///
    /// # Errors
    ///
    /// No token can be signed for the identity.
    pub(super) fn ask<'a>(&'a self, asked: &Asked<'a>) -> anyhow::Result<Tried<'a>> {
        let token = asked
            .identity
            .map(|identity| (self.signer).issue(identity, Generation::default(), None, self.now));
        let token = token.transpose()?;
        let (method, host, path) = match asked.line.parse(self.paths) {
            Ok(read) => read,
            Err(fault) => {
                return Ok(Tried {
                    read: Err(fault),
                    decision: Decision::Deny(Denial::Malformed(fault)),
                });
            }
        };
        let access = self.judge.policy.access(method, host, &path);
        let request = Request {
            method,
            host,
            path,
            credential: match token.as_ref().map(Token::expose).and_then(Compact::parse) {
                Some(compact) => Credential::Bearer(compact),
                None => Credential::Absent,
            },
            preflight: None,
            body: Body::Absent,
            all: false,
            form: TokenForm::Plain,
            answerable: Answerable::Anything,
            browser: Browser::default(),
        };
        let decision = match self.judge.judge(&request, self.now).step {
            Step::Done(decision) => decision,
            // Only a judge whose keys for machines are elsewhere defers; this one has none.
            Step::Defer => Decision::Deny(Denial::Nobody),
            // A token is enough for a logout. Any other endpoint would need more than was given.
            Step::Act(_) => Decision::Done(Done::LoggedOut {
                subject: "-".into(),
                everywhere: false,
            }),
        };
        Ok(Tried {
            read: Ok((method, access)),
            decision,
        })
    }
}

fn unreadable(fault: RequestFault) -> String {
    match fault {
        RequestFault::Path(fault) => format!("the path is ambiguous: {fault}"),
        RequestFault::NotHttp
        | RequestFault::Method
        | RequestFault::MethodCase
        | RequestFault::Host
        | RequestFault::DoubledHeader
        | RequestFault::AliasedHeader
        | RequestFault::Dialect(_)
        | RequestFault::TwoOriginals => fault.to_string(),
    }
}

/// The rule that a decision names, and why.
pub(super) fn explain(tried: &Tried<'_>) -> (Option<String>, String) {
    let (method, access) = match tried.read {
        Ok(read) => read,
        Err(fault) => return (None, unreadable(fault)),
    };
    match access {
        Access::Rule(rule)
            if method.is_head() && rule.names_method("GET") && !rule.names_method("HEAD") =>
        {
            (
                Some(rule.to_string()),
                "it is the most specific rule for the request; a rule for GET is one for HEAD, too"
                    .into(),
            )
        }
        Access::Rule(rule) => (
            Some(rule.to_string()),
            "it is the most specific rule for the request".into(),
        ),
        Access::EndpointMethod(rule) => (
            Some(rule.to_string()),
            "the path is an endpoint's, but the method is not".into(),
        ),
        Access::NoRule => (None, "no rule is for this request, so nobody passes".into()),
        Access::TwoReadings(rule) => (
            Some(rule.to_string()),
            "a service that ignores case, escapes, a trailing slash or what \"paths.also\" names would read the path as this rule's, and as sent it is another's".into(),
        ),
        Access::NoHost => (
            None,
            "there are rules for hosts, and the request names none; give a whole URL".into(),
        ),
        Access::MethodCase => (None, RequestFault::MethodCase.to_string()),
    }
}
