//! A judge in this process, a token that it accepts, and the time of its decisions, alone and beside the next rules.

use std::{hint::black_box, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use doorward::domain::{
    account::{Identity, Role, Roles, Username},
    body::Body,
    credential::{Compact, Credential},
    decision::Decision,
    judge::{Judge, Step},
    keyring::Keyring,
    machine_keys::KeySource,
    path::Tolerance,
    policy::Policy,
    request::{Answerable, Request, RequestLine, TokenForm, browser::Browser},
    revocation::Generation,
    token::{Secret, Signer, UnixTime, Verifier},
};

use super::tokens::terms;

/// The time of every decision.
pub const NOW: UnixTime = UnixTime(1_800_000_000);

/// The roles of the user.
pub fn roles() -> anyhow::Result<Roles> {
    let roles = ["reader", "writer"].map(Role::parse);
    Ok(Roles::collect(roles.into_iter().flatten())?)
}

/// A judge with these rules and keys, and a token of a user.
pub fn judge(policy: Policy, keys: KeySource) -> anyhow::Result<(Judge, String)> {
    let signing = Arc::new(Keyring::of_secret(
        &Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90")?,
        terms().lasts(),
    ));
    let identity = Identity {
        subject: "4711".into(),
        username: Username::parse("alice").context("no name")?,
        roles: roles()?,
    };
    let signer = Signer::new(Arc::clone(&signing), terms());
    let token = signer.issue(&identity, Generation(0), None, NOW)?;
    let judge = Judge {
        policy,
        verifier: Verifier::of(&signing, terms()),
        revoked: Arc::default(),
        forwards_bearer: true,
        allows_preflight: false,
        keys,
        sign_in: None,
    };
    Ok((judge, token.expose().to_owned()))
}

/// A request with this token or key.
pub fn request<'a>(
    method: &'a str,
    host: &'a str,
    path: &'a str,
    shown: &'a str,
) -> anyhow::Result<Request<'a>> {
    let line = RequestLine {
        method: method.as_bytes(),
        host: host.as_bytes(),
        target: path.as_bytes(),
    };
    let (method, host, path) = line.parse(Tolerance::default())?;
    Ok(Request {
        method,
        host,
        path,
        credential: Credential::Bearer(Compact::parse(shown).context("not a token")?),
        preflight: None,
        body: Body::Absent,
        all: false,
        form: TokenForm::Plain,
        answerable: Answerable::Anything,
        browser: Browser::default(),
    })
}

/// Judges all requests, which must pass, and returns the seconds per decision.
pub fn seconds(judge: &Judge, requests: &[Request<'_>]) -> anyhow::Result<f64> {
    let start = Instant::now();
    for request in requests {
        let judged = black_box(judge.judge(request, NOW));
        ensure!(
            matches!(judged.step, Step::Done(Decision::Allow(_))),
            "{:?} does not pass",
            request.path
        );
    }
    Ok(start.elapsed().as_secs_f64() / requests.len() as f64)
}

/// The same, and compares each decision with that of the next rules, which must be the same.
pub fn seconds_beside(
    judge: &Judge,
    next: &Policy,
    requests: &[Request<'_>],
) -> anyhow::Result<f64> {
    let start = Instant::now();
    for request in requests {
        let judged = black_box(judge.judge(request, NOW));
        let difference = black_box(judge.difference(next, &judged, request, NOW));
        ensure!(difference.is_none(), "{:?} differs", request.path);
    }
    Ok(start.elapsed().as_secs_f64() / requests.len() as f64)
}
