mod following;
mod hostile;
mod properties;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use doorward_core::{
    account::{Identity, Roles, Username},
    body::Body,
    credential::Credential,
    decision::{Decision, Denial, LoginReply, Realm, Unavailable},
    identity_headers::IdentityHeaders,
    judge::{Judge, Step},
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    machine_keys::KeySource,
    path::{Path, Tolerance},
    policy::{Demand, Endpoint, Policy, Rule},
    request::{Answerable, Host, Method, Request, TokenForm, browser::Browser},
    revocation::Revocations,
    time::UnixTime,
    token::{Secret, Signer, TokenTerms, Verifier},
    trust::{ClientAddress, TrustedProxies},
};

use super::*;

const NOW: UnixTime = UnixTime(1_800_000_000);
const SECRET: &[u8] = b"f3b1c2d4e5a60718293a4b5c6d7e8f90";

fn later(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

fn terms() -> TokenTerms {
    TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    }
}

/// A replica: rules, keys and revocations.
struct Replica {
    judge: Judge,
    signer: Signer,
    server: Server,
}

fn ec(id: &str, not_before: UnixTime) -> Key {
    let id = KeyId::parse(id).unwrap();
    let file = Key::generate(&id, Algorithm::Es256, not_before).unwrap();
    Key::read("k", file.as_bytes()).unwrap()
}

fn secret() -> Key {
    Key::from_secret(&Secret::parse(SECRET).unwrap(), UnixTime(0))
}

impl Replica {
    fn new(keys: Vec<Key>, rules: &[(&str, &str)]) -> Self {
        let keys = Arc::new(Keyring::new(keys, terms().lasts()).unwrap());
        let revoked = Arc::new(Revocations::new(None).with_journal());
        let rule = |(path, allow): &(&str, &str)| {
            Rule::new(path, &[], &[], Demand::parse(allow).unwrap()).unwrap()
        };
        Self {
            judge: Judge {
                policy: Policy::new(rules.iter().map(rule).collect()).unwrap(),
                verifier: Verifier::of(&keys, terms()),
                revoked: Arc::clone(&revoked),
                forwards_bearer: true,
                allows_preflight: false,
                keys: KeySource::Off,
                sign_in: None,
            },
            signer: Signer::new(keys, terms()),
            server: Server::new(revoked),
        }
    }

    fn usual() -> Self {
        // All of them have the same key, as replicas do.
        static KEY: LazyLock<String> = LazyLock::new(|| {
            let id = KeyId::parse("one").unwrap();
            let file = Key::generate(&id, Algorithm::Es256, UnixTime(0));
            file.unwrap().to_string()
        });
        let own = Self::new(
            vec![Key::read("k", KEY.as_bytes()).unwrap()],
            &[
                ("/*", "signed-in"),
                ("/open", "public"),
                ("/login", "login"),
            ],
        );
        own.judge.revoked.have_been_read(NOW);
        own
    }

    fn content(&self) -> Content {
        let (realm, trusted) = (Realm::default(), TrustedProxies::loopback());
        Content::of(
            &self.judge,
            Beside {
                endpoints: &[Endpoint::Login, Endpoint::Logout],
                realm: &realm,
                identity: IdentityHeaders::default(),
                assertion_audience: None,
                tolerance: Tolerance::default(),
                trusted: &trusted,
                client_address: ClientAddress::Peer,
                reply: LoginReply::Direct,
                metadata: true,
            },
        )
    }

    fn answer_at(&self, question: &str, now: UnixTime) -> Vec<u8> {
        let (path, query) = question.split_once('?').unwrap();
        assert_eq!(path, PATH);
        let query = Query::parse(query).unwrap();
        let content = self.content().render().unwrap();
        self.server.answer(&query, &content, now).unwrap().body
    }

    fn answer(&self, question: &str) -> Vec<u8> {
        self.answer_at(question, NOW)
    }

    fn token(&self, subject: &str) -> String {
        let identity = Identity {
            subject: subject.into(),
            username: Username::parse("ada").unwrap(),
            roles: Roles::default(),
        };
        let generation = self.judge.revoked.generation(subject);
        let token = self.signer.issue(&identity, generation, None, NOW).unwrap();
        format!("Bearer {}", token.expose())
    }
}

fn follower() -> Known {
    follower_with(Vec::new())
}

fn follower_with(secrets: Vec<Key>) -> Known {
    Known::new(Options {
        stale_after: Duration::from_secs(30),
        secrets,
        instead: Instead::default(),
    })
}

/// Asks until there is no more.
fn follow(known: &mut Known, replica: &Replica, now: UnixTime) -> Taken {
    for _ in 0..1000 {
        let question = known.question();
        let taken = known.take(&replica.answer_at(&question, now), now).unwrap();
        if !taken.more {
            return taken;
        }
    }
    panic!("the answers never end");
}

fn judged_by(judge: &Judge, path: &str, authorization: &str, now: UnixTime) -> String {
    let values = [authorization.as_bytes()];
    let shown = if authorization.is_empty() { 0 } else { 1 };
    let request = Request {
        method: Method::parse(b"GET").unwrap(),
        host: Host::parse(b"gateway.example").unwrap(),
        path: Path::parse(path.as_bytes(), Tolerance::default()).unwrap(),
        credential: Credential::parse(values.into_iter().take(shown)),
        preflight: None,
        body: Body::Absent,
        all: false,
        form: TokenForm::Plain,
        answerable: Answerable::Verdict,
        browser: Browser::default(),
    };
    match judge.judge(&request, now).step {
        Step::Done(Decision::Deny(Denial::Unavailable(Unavailable::Stale))) => "stale".into(),
        Step::Done(decision) => decision.reason().name().into(),
        Step::Act(_) => "act".into(),
        Step::Defer => "defer".into(),
    }
}

fn judged(known: &Known, path: &str, authorization: &str, now: UnixTime) -> String {
    judged_by(&known.in_force().unwrap().judge, path, authorization, now)
}

/// Everything that a follower knows, as text.
fn image(known: &Known) -> String {
    let revoked = known.revoked();
    let mut inactive: Vec<_> = revoked.inactive().iter().cloned().collect();
    inactive.sort();
    let in_force = known.in_force().map(|own| own.digest.clone());
    format!(
        "{in_force:?} {} {:?} {inactive:?}",
        revoked.len(),
        revoked.read_at()
    )
}
