//! Asks the real judge about requests that nobody sent, with a token key that is generated for the run.

use std::sync::Arc;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use doorward_rules::cases::TestedKey;

use crate::{
    admin::username,
    clock::unix_time,
    config::Settings,
    domain::{
        account::Identity,
        body::Body,
        credential::Credential,
        decision::{Decision, Denial, Done},
        judge::{Judge, Step},
        keyring::Keyring,
        machine_key::{KeyName, MachineKey},
        machine_keys::{KeyEntry, KeySource, MachineKeys, Owner, OwnerState},
        path::Tolerance,
        policy::Access,
        request::{
            Answerable, Method, Request, RequestFault, RequestLine, TokenForm, browser::Browser,
        },
        revocation::{Generation, Revocations},
        token::{Secret, Signer, UnixTime, Verifier},
    },
};

/// The judge of the rules in the settings.
pub(super) struct Trial {
    judge: Judge,
    /// Keys that are made for the run, if keys are accepted.
    machine_keys: Option<Arc<MachineKeys>>,
    signer: Signer,
    paths: Tolerance,
    now: UnixTime,
}

/// A request that nobody sent.
pub(super) struct Asked<'a> {
    pub(super) line: RequestLine<'a>,
    pub(super) shows: Shows<'a>,
}

/// What a request shows.
#[derive(Clone, Copy)]
pub(super) enum Shows<'a> {
    Nothing,
    /// A token of this user.
    TokenOf(&'a Identity),
    /// A key, as a Bearer token.
    Key(&'a str),
    /// A key, as the password of Basic.
    KeyAsPassword(&'a str),
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
        let machine_keys = settings.keys.enabled.then(|| {
            let keys = MachineKeys::default();
            keys.have_been_read();
            Arc::new(keys)
        });
        Ok(Self {
            signer: Signer::new(Arc::clone(&keys), settings.jwt.terms.clone()),
            judge: Judge {
                policy: settings.policy.clone(),
                verifier: Verifier::of(&keys, settings.jwt.terms.clone()),
                revoked: Arc::new(Revocations::new(None)),
                forwards_bearer: settings.identity.forward_bearer,
                allows_preflight: false,
                keys: machine_keys.clone().map_or(KeySource::Off, KeySource::Here),
                sign_in: None,
            },
            machine_keys,
            paths: settings.paths,
            now: unix_time(),
        })
    }

    /// Makes a key for the run; without keys in the settings, it is refused like any other.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub(super) fn add_key(&self, name: &str, tested: &TestedKey) -> anyhow::Result<String> {
        let key = MachineKey::generate()?;
        let owner = Owner {
            subject: "-".into(),
            username: username("somebody")?,
            state: OwnerState::Active(Arc::new(tested.roles.clone())),
        };
        let entry = KeyEntry {
            hash: key.hash(),
            name: KeyName::parse(name).with_context(|| {
                format!("{name:?} is not a name for a key: letters, digits and ._:@/-")
            })?,
            limits: Some(Arc::new(tested.limits.clone())),
            expires: None,
            ended: false,
        };
        if let Some(keys) = &self.machine_keys {
            keys.set(key.id(), entry, Arc::new(owner));
        }
        Ok(key.expose().to_owned())
    }

    /// Judges a request.
    ///
    /// # Errors
    ///
    /// No token can be signed for the identity.
    pub(super) fn ask<'a>(&'a self, asked: &Asked<'a>) -> anyhow::Result<Tried<'a>> {
        let shown = match asked.shows {
            Shows::Nothing => None,
            Shows::TokenOf(identity) => {
                let token = self
                    .signer
                    .issue(identity, Generation::default(), None, self.now)?;
                Some(format!("Bearer {}", token.expose()))
            }
            Shows::Key(key) => Some(format!("Bearer {key}")),
            Shows::KeyAsPassword(key) => {
                let pair = BASE64_STANDARD.encode(format!("key:{key}"));
                Some(format!("Basic {pair}"))
            }
        };
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
            credential: Credential::parse(shown.as_deref().map(str::as_bytes)),
            preflight: None,
            body: Body::Absent,
            all: false,
            form: TokenForm::Plain,
            answerable: Answerable::Anything,
            browser: Browser::default(),
        };
        let decision = match self.judge.judge(&request, self.now).step {
            Step::Done(decision) => decision,
            // Only a judge whose keys for machines are elsewhere defers.
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
