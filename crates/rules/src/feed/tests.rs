use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use doorward_core::{
    account::{Identity, Roles, Username},
    body::Body,
    credential::Credential,
    decision::{Decision, Denial, LoginReply, Realm, Unavailable},
    identity_headers::IdentityHeaders,
    issuer::{Issuer, IssuerTerms},
    judge::{Judge, Step},
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    machine_keys::KeySource,
    path::{Path, Tolerance},
    policy::{Demand, Endpoint, Policy, Rule},
    request::{Answerable, Host, Method, Request, TokenForm},
    revocation::{Generation, Revocations},
    time::UnixTime,
    token::{Secret, Signer, TokenTerms, Verifier},
    trust::{ClientAddress, TrustedProxies},
};
use proptest::prelude::*;
use serde_json::{Value, json};

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

#[test]
fn a_follower_judges_as_the_replica_does() {
    let replica = Replica::usual();
    let token = replica.token("7");
    let mut known = follower();
    assert!(known.in_force().is_none());
    let taken = follow(&mut known, &replica, NOW);
    assert!(taken.complete && taken.exchanged);
    for (path, authorization) in [
        ("/", &*token),
        ("/", ""),
        ("/", "Bearer x.y.z"),
        ("/open", ""),
        ("/open", &token),
        ("/login", ""),
        ("/login", "Basic YTpi"),
    ] {
        let expected = judged_by(&replica.judge, path, authorization, NOW);
        assert_eq!(
            judged(&known, path, authorization, NOW),
            expected,
            "{path} {authorization}"
        );
    }
    assert_eq!(judged(&known, "/", &token, NOW), "token");
    let before = Arc::clone(known.in_force().unwrap());
    let taken = follow(&mut known, &replica, NOW);
    assert_eq!(
        (taken.exchanged, taken.changes, taken.complete),
        (false, 0, true)
    );
    assert!(Arc::ptr_eq(&before, known.in_force().unwrap()));
}

#[test]
fn revocations_are_sent_and_stay_in_force() {
    let replica = Replica::usual();
    let (ada, bob, eve) = (replica.token("7"), replica.token("8"), replica.token("9"));
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    for token in [&ada, &bob, &eve] {
        assert_eq!(judged(&known, "/", token, NOW), "token");
    }
    let revoked = &replica.judge.revoked;
    let id = |token: &str| {
        let Credential::Bearer(compact) = Credential::parse([token.as_bytes()]) else {
            panic!("a token");
        };
        let opened = replica.judge.verifier.open(compact, NOW, revoked);
        opened.unwrap().token
    };
    revoked.end(&id(&ada), later(3600));
    revoked.end_before("8", Generation(5), later(3600));
    revoked.set_inactive(["9".into()].into());
    let taken = follow(&mut known, &replica, NOW);
    assert_eq!((taken.changes, taken.exchanged), (3, false));
    for token in [&ada, &bob, &eve] {
        assert_eq!(judged(&known, "/", token, NOW), "token-ended");
    }
    revoked.set_inactive(HashSet::new());
    assert_eq!(follow(&mut known, &replica, NOW).changes, 1);
    assert_eq!(judged(&known, "/", &eve, NOW), "token");
    // A new follower receives the same, and removed revocations are not sent.
    let mut new = follower();
    follow(&mut new, &replica, NOW);
    for (token, expected) in [
        (&ada, "token-ended"),
        (&bob, "token-ended"),
        (&eve, "token"),
    ] {
        assert_eq!(judged(&new, "/", token, NOW), expected);
    }
    revoked.forget(later(3600));
    let mut newest = follower();
    assert_eq!(follow(&mut newest, &replica, NOW).changes, 1);
    assert_eq!(newest.revoked().len(), 0);
}

#[test]
fn tokens_are_refused_while_the_feed_is_incomplete_or_stale() {
    let replica = Replica::usual();
    let token = replica.token("7");
    for number in 0..MOST_CHANGES + 1 {
        replica.judge.revoked.end(&format!("t{number}"), later(60));
    }
    let mut known = follower();
    let question = known.question();
    let first = known.take(&replica.answer(&question), NOW).unwrap();
    assert!(first.more && !first.complete && first.exchanged);
    assert_eq!(judged(&known, "/", &token, NOW), "stale");
    assert_ne!(judged(&known, "/open", "", NOW), "stale");
    assert!(follow(&mut known, &replica, NOW).complete);
    assert_eq!(judged(&known, "/", &token, NOW), "token");
    // The replica cannot read its tables any more.
    for (after, expected) in [(10, "token"), (30, "token"), (31, "stale")] {
        follow(&mut known, &replica, later(after));
        assert_eq!(
            judged(&known, "/", &token, later(after)),
            expected,
            "{after}"
        );
    }
    replica.judge.revoked.have_been_read(later(40));
    follow(&mut known, &replica, later(40));
    assert_eq!(judged(&known, "/", &token, later(40)), "token");
    // The clock of the follower is set back by a day.
    replica
        .judge
        .revoked
        .have_been_read(UnixTime(NOW.0 - 86400));
    follow(&mut known, &replica, UnixTime(NOW.0 - 86400));
    assert_eq!(known.revoked().read_at(), UnixTime(NOW.0 - 86400));

    // A replica that has never read its tables.
    let fresh = Replica::usual();
    fresh.judge.revoked.have_been_read(UnixTime(0));
    let mut known = follower();
    assert!(!follow(&mut known, &fresh, NOW).complete);
    assert_eq!(judged(&known, "/", &fresh.token("7"), NOW), "stale");
}

#[test]
fn each_replica_sends_everything_once() {
    let replicas = [Replica::usual(), Replica::usual(), Replica::usual()];
    for replica in &replicas {
        for number in 0..2 * MOST_CHANGES + 7 {
            replica.judge.revoked.end(&format!("t{number}"), later(60));
        }
    }
    let mut known = follower();
    // A gateway that asks them in turn, for every page.
    let mut told = 0;
    for replica in replicas.iter().cycle().take(9) {
        let question = known.question();
        told += known.take(&replica.answer(&question), NOW).unwrap().changes;
    }
    assert_eq!(told, 3 * (2 * MOST_CHANGES + 7));
    assert_eq!(known.revoked().len(), 2 * MOST_CHANGES + 7);
    replicas[1].judge.revoked.end("new", later(60));
    for (replica, expected) in replicas.iter().zip([0, 1, 0]) {
        assert_eq!(follow(&mut known, replica, NOW).changes, expected);
    }
    // A restarted replica, and a follower that starts over.
    let mut other = follower();
    follow(&mut other, &replicas[0], NOW);
    let restarted = Replica::usual();
    restarted.judge.revoked.end("t", later(60));
    assert_eq!(follow(&mut other, &restarted, NOW).changes, 1);
    other.start_over();
    assert_eq!(follow(&mut other, &restarted, NOW).changes, 1);
}

#[test]
fn a_lagging_replica_undoes_nothing() {
    let (leads, lags) = (Replica::usual(), Replica::usual());
    leads.judge.revoked.have_been_read(later(60));
    leads.judge.revoked.set_inactive(["7".into()].into());
    lags.judge.revoked.set_inactive(["8".into()].into());
    let mut known = follower();
    follow(&mut known, &lags, later(60));
    assert!(known.revoked().inactive().contains("8"));
    follow(&mut known, &leads, later(60));
    let seven: HashSet<Box<str>> = ["7".into()].into();
    assert_eq!(*known.revoked().inactive(), seven);
    lags.judge.revoked.set_inactive(HashSet::new());
    follow(&mut known, &lags, later(60));
    known.start_over();
    follow(&mut known, &lags, later(60));
    assert_eq!(*known.revoked().inactive(), seven);
    assert_eq!(known.revoked().read_at(), later(60));
}

#[test]
fn the_newer_of_two_alternating_contents_stays() {
    let old = Replica::usual();
    let new = Replica::new(vec![ec("two", UnixTime(0))], &[("/*", "nobody")]);
    new.judge.revoked.have_been_read(NOW);
    let mut known = follower();
    assert!(follow(&mut known, &old, NOW).exchanged);
    assert!(follow(&mut known, &new, NOW).exchanged);
    let digest = known.in_force().unwrap().digest.clone();
    for after in 0..20 {
        assert!(!follow(&mut known, &old, later(after)).exchanged);
        assert!(!follow(&mut known, &new, later(after)).exchanged);
        assert_eq!(known.in_force().unwrap().digest, digest);
    }
    // After a rollback, no replica sends the newer content any more.
    for (after, exchanged) in [(20, false), (28, false), (29, true), (30, false)] {
        assert_eq!(
            follow(&mut known, &old, later(after)).exchanged,
            exchanged,
            "{after}"
        );
    }
    assert_eq!(judged(&known, "/open", "", NOW), "anonymous");
}

#[test]
fn new_rules_keep_unchanged_keys_and_revocations() {
    let mut replica = Replica::usual();
    let token = replica.token("7");
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    assert_eq!(judged(&known, "/", &token, NOW), "token");
    let before = Arc::clone(known.in_force().unwrap());
    let open = Rule::new("/also", &[], &[], Demand::Public).unwrap();
    let mut rules = replica.judge.policy.rules().to_vec();
    rules.push(open);
    replica.judge.policy = Policy::new(rules).unwrap();
    assert!(follow(&mut known, &replica, NOW).exchanged);
    let after = known.in_force().unwrap();
    assert!(Arc::ptr_eq(
        before.judge.verifier.keys(),
        after.judge.verifier.keys()
    ));
    assert!(Arc::ptr_eq(&before.judge.revoked, &after.judge.revoked));
    assert_eq!(judged(&known, "/also", "", NOW), "anonymous");
}

#[test]
fn keys_are_sent_before_they_sign_until_their_tokens_expire() {
    let keys = vec![ec("one", UnixTime(0)), ec("two", later(100))];
    let mut replica = Replica::new(keys, &[("/*", "signed-in")]);
    replica.judge.revoked.have_been_read(later(4000));
    let mut known = follower();
    follow(&mut known, &replica, later(4000));
    let keys = known.in_force().unwrap().judge.verifier.keys();
    for now in [
        NOW,
        later(99),
        later(100),
        later(3759),
        later(3760),
        later(9000),
    ] {
        for own in replica.judge.verifier.keys().keys() {
            let theirs = keys.keys().iter().find(|key| key.id() == own.id()).unwrap();
            let expected = replica.judge.verifier.keys().state(own, now);
            assert_eq!(keys.state(theirs, now), expected, "{:?} {now:?}", own.id());
        }
    }
    replica.judge.verifier = Verifier::of(
        &Keyring::new(vec![ec("three", UnixTime(0))], terms().lasts()).unwrap(),
        terms(),
    );
    assert!(follow(&mut known, &replica, NOW).exchanged);
    assert_eq!(
        known.in_force().unwrap().judge.verifier.keys().keys().len(),
        1
    );
}

#[test]
fn secrets_and_private_keys_are_never_sent() {
    let both = Replica::new(
        vec![secret().only_verifying(), ec("one", UnixTime(0))],
        &[("/*", "signed-in")],
    );
    both.judge.revoked.have_been_read(NOW);
    let mut known = follower();
    let question = known.question();
    let answer = both.answer(&question);
    let text = String::from_utf8(answer.clone()).unwrap();
    assert!(!text.contains("\"d\"") && !text.contains("\"k\""), "{text}");
    assert!(!text.contains(str::from_utf8(SECRET).unwrap()));
    known.take(&answer, NOW).unwrap();
    let name = secret().id().as_str().to_owned();
    assert_eq!(known.in_force().unwrap().missing_secrets, [name]);

    let only = Replica::new(vec![secret()], &[("/*", "signed-in")]);
    only.judge.revoked.have_been_read(NOW);
    let token = only.token("7");
    let mut known = follower();
    let question = known.question();
    let fault = known.take(&only.answer(&question), NOW).unwrap_err();
    assert_eq!(fault, FeedFault::Content(ContentFault::OnlySecrets));
    assert!(known.in_force().is_none());
    let mut known = follower_with(vec![secret()]);
    follow(&mut known, &only, NOW);
    assert_eq!(judged(&known, "/", &token, NOW), "token");
}

#[test]
fn other_issuers_are_sent_with_their_keys() {
    let theirs = ec("theirs", UnixTime(0));
    let issuer = Issuer::new(IssuerTerms {
        issuer: "https://id.example.com/".into(),
        audience: "api".into(),
        prefix: "corp/".into(),
        username: "sub".into(),
        roles: Some("roles".into()),
        accept_roles: Roles::parse_list("editor").unwrap(),
        grant: Roles::parse_list("member").unwrap(),
        algorithms: vec![Algorithm::Es256],
    });
    let mut replica = Replica::usual();
    replica.judge.verifier = replica.judge.verifier.clone().believing(Arc::new([issuer]));
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    let issuers = known.in_force().unwrap().judge.verifier.issuers();
    assert_eq!(
        issuers[0].terms(),
        replica.judge.verifier.issuers()[0].terms()
    );
    assert!(issuers[0].key_names().is_empty());
    let document = json!({"keys": [theirs.public()]}).to_string();
    replica.judge.verifier.issuers()[0]
        .take(document.as_bytes())
        .unwrap();
    assert!(follow(&mut known, &replica, NOW).exchanged);
    let issuers = known.in_force().unwrap().judge.verifier.issuers();
    assert_eq!(issuers[0].key_names(), ["theirs"]);
}

/// Changes one thing in a good answer.
fn changed(answer: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut answer: Value = serde_json::from_slice(answer).unwrap();
    change(&mut answer);
    answer.to_string().into_bytes()
}

#[test]
fn a_hostile_answer_changes_nothing_and_its_fault_is_named() {
    let replica = Replica::usual();
    replica.judge.revoked.end("t", later(60));
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    let old_question = known.question();
    let old_answer = replica.answer(&old_question);
    replica.judge.revoked.set_inactive(["9".into()].into());
    replica.judge.revoked.end("u", later(60));
    let before = image(&known);

    let question = known.question();
    let good = replica.answer(&format!("{PATH}?{}", {
        let query = question.split_once('?').unwrap().1;
        query
            .split('&')
            .filter(|part| !part.starts_with("have"))
            .collect::<Vec<_>>()
            .join("&")
    }));
    type Change = fn(&mut Value);
    let changes: Vec<(Change, &str)> = vec![
        (|a| a["format"] = json!(2), "is of format 2"),
        (
            |a| {
                a["format"] = json!(2);
                a["later"] = json!(1);
            },
            "is of format 2",
        ),
        (|a| a["format"] = json!("1"), "cannot be read"),
        (|a| a["answers"] = json!("other"), "another question"),
        (|a| a["more"] = json!(0), "cannot be read"),
        (|a| a["unknown"] = json!(0), "unknown field"),
        (|a| a["position"] = json!(0), "goes back"),
        (|a| a["position"] = json!(-1), "cannot be read"),
        (|a| a["age"] = json!("1"), "cannot be read"),
        (
            |a| drop(a.as_object_mut().unwrap().remove("age")),
            "missing field",
        ),
        (|a| a["part"] = json!("last"), "did not begin"),
        (|a| a["part"] = json!("Last"), "unknown variant"),
        (|a| a["replica"] = json!(""), "empty or overlong"),
        (|a| a["next"] = json!("x".repeat(2000)), "empty or overlong"),
        (
            |a| a["changes"] = json!([["t", "", 5]]),
            "empty or overlong",
        ),
        (
            |a| a["changes"] = json!([["t", "x".repeat(600), 5]]),
            "empty or overlong",
        ),
        (|a| a["changes"] = json!([["t", "x"]]), "cannot be read"),
        (|a| a["changes"] = json!([["t", "x", 5, 6]]), "too many"),
        (
            |a| a["changes"] = json!([["t", "x", 5.5]]),
            "cannot be read",
        ),
        (|a| a["changes"] = json!([["i", "x", 1]]), "cannot be read"),
        (|a| a["changes"] = json!([["z", "x", 1]]), "unknown variant"),
        (
            |a| a["changes"] = json!(vec![json!(["t", "x", 5]); 4001]),
            "more than 4000",
        ),
        (|a| a["content"] = json!(null), "cannot be read"),
    ];
    for (change, says) in changes {
        let answer = changed(&good, change);
        let fault = known.take(&answer, NOW).unwrap_err().to_string();
        assert!(fault.contains(says), "{says}: {fault}");
        assert_eq!(image(&known), before, "{says}");
    }
    for length in 0..good.len() {
        assert!(known.take(&good[..length], NOW).is_err(), "{length}");
    }
    for body in [
        [&good[..], b"x"].concat(),
        b"{}".to_vec(),
        b"[[[[".repeat(100_000),
        vec![b' '; LONGEST + 1],
        vec![b'['; 100 * 1024 * 1024],
        b"\xff\xfe".to_vec(),
        old_answer,
    ] {
        assert!(known.take(&body, NOW).is_err());
    }
    assert_eq!(image(&known), before);
    let taken = known.take(&good, NOW).unwrap();
    assert_eq!(taken.changes, 2);
    // The same once more.
    assert_eq!(known.take(&good, NOW).unwrap_err(), FeedFault::Replayed);
}

/// Any fault in the content refuses the whole answer.
#[test]
fn an_answer_with_an_invalid_content_is_refused_completely() {
    let replica = Replica::usual();
    let mut known = follower();
    follow(&mut known, &replica, NOW);
    replica.judge.revoked.end("t", later(60));
    let before = image(&known);
    let own_secret = json!({"kid": "s", "alg": "HS256", "not_before": 0, "signs": true,
        "public": {"kty": "oct", "k": "AAAA"}});
    type Change = fn(&mut Value);
    let changes: Vec<(Change, &str)> = vec![
        (|c| c["keys"] = json!([]), "no key"),
        (|c| c["keys"][0]["kid"] = json!("a b"), "no valid name"),
        (
            |c| c["keys"][0]["alg"] = json!("none"),
            "does not name an algorithm",
        ),
        (|c| c["keys"][0]["alg"] = json!("RS256"), "\"alg\""),
        (|c| c["keys"][0]["public"]["d"] = json!("AAAA"), "\"d\""),
        (
            |c| c["keys"][0]["public"]["x"] = json!("AAAA"),
            "part that is missing",
        ),
        (
            |c| drop(c["keys"][0].as_object_mut().unwrap().remove("public")),
            "part that is missing",
        ),
        (
            |c| {
                let key = c["keys"][0].clone();
                c["keys"].as_array_mut().unwrap().push(key);
            },
            "two keys",
        ),
        (
            |c| c["keys"] = json!(vec![c["keys"][0].clone(); 65]),
            "more than 64 keys",
        ),
        (|c| c["token"]["lifetime"] = json!(u64::MAX), "lifetime"),
        (|c| c["token"]["leeway"] = json!(u64::MAX), "leeway"),
        (|c| c["token"]["issuer"] = json!(""), "issuer"),
        (|c| c["rules"][0]["path"] = json!("no"), "rule 1"),
        (|c| c["rules"][1]["allow"] = json!("everybody"), "rule 2"),
        (|c| c["rules"][1]["allow"] = json!([]), "rule 2"),
        (|c| c["rules"][1]["allow"] = json!(7), "cannot be read"),
        (|c| c["rules"][1]["methods"] = json!(["get"]), "rule 2"),
        (|c| c["rules"][1]["demand"] = json!("x"), "unknown field"),
        (
            |c| {
                let rule = c["rules"][0].clone();
                c["rules"].as_array_mut().unwrap().push(rule);
            },
            "two rules",
        ),
        (|c| c["settings"]["realm"] = json!("a\"b"), "realm"),
        (|c| c["settings"]["endpoints"] = json!(["logn"]), "endpoint"),
        (
            |c| c["settings"]["identity_headers"] = json!(["x", "y"]),
            "three names",
        ),
        (|c| c["settings"]["tolerate"] = json!(["all"]), "tolerate"),
        (|c| c["settings"]["also"] = json!(["all"]), "also"),
        (
            |c| c["settings"]["trusted_proxies"] = json!(["x"]),
            "network",
        ),
        (
            |c| c["settings"]["client_address"] = json!("x"),
            "client_address",
        ),
        (|c| c["settings"]["login_reply"] = json!("x"), "login_reply"),
        (
            |c| c["settings"]["forward_bearer"] = json!("true"),
            "cannot be read",
        ),
        (
            |c| drop(c["settings"].as_object_mut().unwrap().remove("metadata")),
            "missing field",
        ),
        (|c| c["settings"]["cookies"] = json!(true), "unknown field"),
        (
            |c| c["issuers"] = json!([issuer("doorward", json!(null))]),
            "taken",
        ),
        (
            |c| c["issuers"] = json!([issuer("a|b", json!(null))]),
            "cannot have this name",
        ),
        (
            |c| c["issuers"] = json!([issuer("a", json!({"keys": []}))]),
            "no key that can be used",
        ),
        (
            |c| c["issuers"] = json!(vec![issuer("a", json!(null)); 2]),
            "taken",
        ),
        (
            |c| c["issuers"] = json!(vec![issuer("a", json!(null)); 17]),
            "more than 16 issuers",
        ),
    ];
    let mut try_one = |says: &str, change: &dyn Fn(&mut Value)| {
        let mut question = known.question();
        question.truncate(question.find("&have").unwrap());
        let answer = changed(&replica.answer(&question), |answer| {
            answer["digest"] = json!("another");
            change(&mut answer["content"]);
        });
        let fault = known.take(&answer, NOW).unwrap_err().to_string();
        assert!(fault.contains(says), "{says}: {fault}");
        assert!(!fault.contains('\n') && fault.len() < 500, "{fault}");
        assert_eq!(image(&known), before, "{says}");
    };
    for (change, says) in changes {
        try_one(says, &change);
    }
    try_one("is no key for HS256", &|content| {
        content["keys"][0] = own_secret.clone()
    });
    // An answer whose digest names a content that the answer does not contain.
    let question = known.question();
    let answer = changed(&replica.answer(&question), |answer| {
        answer["digest"] = json!("another")
    });
    assert_eq!(known.take(&answer, NOW).unwrap_err(), FeedFault::NoContent);
    assert_eq!(image(&known), before);
    follow(&mut known, &replica, NOW);
    assert_eq!(known.revoked().len(), 1);
}

fn issuer(name: &str, keys: Value) -> Value {
    json!({"issuer": name, "audience": "a", "prefix": "p/", "username": "sub", "roles": null,
        "accept_roles": [], "grant": [], "algorithms": ["ES256"], "keys": keys})
}

#[test]
fn locally_configured_parts_are_not_replaced() {
    let replica = Replica::usual();
    let rules = r#"{"rules": [{"path": "/*", "allow": "public"}]}"#;
    let mut known = Known::new(Options {
        stale_after: Duration::from_secs(30),
        secrets: Vec::new(),
        instead: serde_json::from_str(rules).unwrap(),
    });
    follow(&mut known, &replica, NOW);
    assert_eq!(judged(&known, "/anything", "", NOW), "anonymous");
    assert!(serde_json::from_str::<Instead>(r#"{"rule": []}"#).is_err());
    let alone = Known::without_feed(replica.content(), Vec::new()).unwrap();
    assert_eq!(
        judged_by(&alone.judge, "/", &replica.token("7"), NOW),
        "token"
    );
}

/// What happens at one of three replicas, or which of them is asked.
#[derive(Clone, Debug)]
enum Event {
    End(usize, u8),
    EndBefore(usize, u8, u64),
    Activity(u8, bool),
    Forget(usize),
    Ask(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let replica = 0..3_usize;
    prop_oneof![
        3 => (replica.clone(), any::<u8>()).prop_map(|(at, id)| Event::End(at, id)),
        2 => (replica.clone(), 0..8_u8, 1..50_u64).prop_map(|(at, id, of)| Event::EndBefore(at, id, of)),
        2 => (0..8_u8, any::<bool>()).prop_map(|(id, is)| Event::Activity(id, is)),
        1 => replica.clone().prop_map(Event::Forget),
        4 => replica.prop_map(Event::Ask),
    ]
}

fn set_activity(revoked: &Revocations, id: u8, inactive: bool) {
    let mut users = HashSet::clone(&revoked.inactive());
    let user: Box<str> = id.to_string().into();
    match inactive {
        true => users.insert(user),
        false => users.remove(&user),
    };
    revoked.set_inactive(users);
}

proptest! {
    // Each case makes several token caches, which takes most of its time.
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// For any order of events, the follower finally knows everything that any replica knows.
    #[test]
    fn a_follower_knows_what_all_replicas_know(events in prop::collection::vec(event(), 0..80)) {
        let replicas = [Replica::usual(), Replica::usual(), Replica::usual()];
        let mut known = follower();
        for event in &events {
            match event {
                Event::End(at, id) => replicas[*at].judge.revoked.end(&format!("t{id}"), later(60)),
                Event::EndBefore(at, id, of) => {
                    replicas[*at].judge.revoked.end_before(&id.to_string(), Generation(*of), later(60));
                }
                // All of them read the same table.
                Event::Activity(id, is) => {
                    for replica in &replicas {
                        set_activity(&replica.judge.revoked, *id, *is);
                    }
                }
                Event::Forget(at) => replicas[*at].judge.revoked.forget(NOW),
                Event::Ask(at) => {
                    let question = known.question();
                    known.take(&replicas[*at].answer(&question), NOW).unwrap();
                }
            }
        }
        for replica in &replicas {
            follow(&mut known, replica, NOW);
        }
        let mut ids = HashSet::new();
        for replica in &replicas {
            let revoked = &replica.judge.revoked;
            for change in revoked.changes_after(None, usize::MAX).unwrap().changes {
                if let doorward_core::revocation::Change::Ended { id, .. } = change {
                    ids.insert(id);
                }
            }
            for user in 0..8 {
                let user = user.to_string();
                prop_assert!(known.revoked().generation(&user) >= revoked.generation(&user));
            }
            prop_assert_eq!(&*known.revoked().inactive(), &*revoked.inactive());
        }
        let generations = (0..8_u8)
            .filter(|user| known.revoked().generation(&user.to_string()) > Generation(0))
            .count();
        let inactive = known.revoked().inactive().len();
        prop_assert_eq!(known.revoked().len(), ids.len() + generations + inactive);
    }

    /// Arbitrary bytes and damaged answers cause no panic, and a refused answer changes nothing.
    #[test]
    fn a_damaged_answer_changes_nothing(at in any::<prop::sample::Index>(), byte in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let replica = Replica::usual();
        replica.judge.revoked.end("t", later(60));
        let mut known = follower();
        let question = known.question();
        let mut answer = replica.answer(&question);
        let before = image(&known);
        prop_assert!(known.take(&noise, NOW).is_err());
        prop_assert_eq!(image(&known), before.clone());
        let at = at.index(answer.len());
        answer[at] = byte;
        if known.take(&answer, NOW).is_err() {
            prop_assert_eq!(image(&known), before);
        }
    }
}
