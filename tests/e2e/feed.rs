//! The feed: who may read it, that it contains no secret, and how soon a follower learns what a replica knows.

use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use doorward::domain::{
    credential::Credential,
    key::{Algorithm, Key, KeyId},
    policy::{Demand, Policy},
    token::{Secret, UnixTime},
};
use doorward_rules::feed::{FeedFault, Instead, Known, Options, Taken};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    certificates::curl,
    direct::{bearer, judged, login, post},
    front::BOB,
    harness::{Database, Doorward, Engine, Reply, Server, Settings, send, until},
};

const SECRET: &str = "2b7e151628aed2a6abf7158809cf4f3c";

/// The time within which a follower learns of a change at any replica.
const SOON: Duration = Duration::from_secs(2);

/// The pause between two requests of a follower.
const PAUSE: Duration = Duration::from_millis(500);

on_each_database!(
    a_revocation_at_one_replica_is_in_the_feed_of_the_other,
    many_revocations_are_sent_in_pages_and_only_once,
);

mod away {
    use super::*;

    on_each_server!(the_age_in_the_feed_grows_while_the_database_is_down);

    async fn the_age_in_the_feed_grows_while_the_database_is_down<S: Server>() {
        let mut database = Database::<S>::start().await;
        let doorward = replica(&database, |_| {}).await;
        let mut follower = Follower::new();
        follower.catch_up(&doorward).await;
        database.kill();
        let read_at = until("it is older", 5 * SOON, async || {
            let age = ask(&doorward, "").await.json()["age"].as_u64().unwrap();
            (age >= 3).then(|| now().0 - age)
        })
        .await;
        // A follower adds this age to its own, and still receives what is in force.
        follower.catch_up(&doorward).await;
        let known = follower.known.revoked().read_at();
        assert!(known.0.abs_diff(read_at) <= 1, "{known:?} {read_at}");
        database.restart().await;
        until("it is new again", 5 * SOON, async || {
            let age = ask(&doorward, "").await.json()["age"].as_u64().unwrap();
            (age <= 1).then_some(())
        })
        .await;
        follower.catch_up(&doorward).await;
        assert!(follower.known.revoked().read_at().0 > read_at);
    }
}

fn now() -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime(now.as_secs())
}

async fn ask(doorward: &Doorward, query: &str) -> Reply {
    let path = format!("/feed{query}");
    send(doorward.http, "GET", &path, &[], "").await
}

async fn replica<E: Engine>(database: &Database<E>, more: impl FnOnce(&mut Settings)) -> Doorward {
    let env = database.env();
    let home = Doorward::prepare(|settings| {
        settings
            .envs(env)
            .env("JWT_SECRET", SECRET)
            .env("DOORWARD_FEED__ENABLED", "true");
        more(settings);
    });
    home.run(&["migrate"], "").await.ok();
    home.serve().await
}

/// A Doorward with its own database and an asymmetric key.
async fn alone(more: impl FnOnce(&mut Settings)) -> Doorward {
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_FEED__ENABLED", "true");
        more(settings);
    });
    home.run(&["keys", "generate", "ES256"], "").await.ok();
    let doorward = home.serve().await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    doorward
}

/// A follower of the feed, as the module inside Envoy is.
struct Follower {
    known: Known,
}

impl Follower {
    fn new() -> Self {
        let secret = Secret::parse(SECRET.as_bytes()).unwrap();
        let secret = Key::from_secret(&secret, UnixTime(0));
        Self {
            known: Known::new(Options {
                stale_after: Duration::from_secs(30),
                secrets: vec![secret],
                instead: Instead::default(),
            }),
        }
    }

    async fn ask(&mut self, doorward: &Doorward) -> Taken {
        let question = self.known.question();
        let at = now();
        let reply = send(doorward.http, "GET", &question, &[], "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        self.known.take(&reply.body, at).unwrap()
    }

    async fn catch_up(&mut self, doorward: &Doorward) -> usize {
        let mut changes = 0;
        loop {
            let taken = self.ask(doorward).await;
            changes += taken.changes;
            if !taken.more {
                return changes;
            }
        }
    }

    /// Whether the follower accepts a token.
    fn accepts(&self, bearer: &str) -> bool {
        let judge = &self.known.in_force().unwrap().judge;
        let credential = Credential::parse([bearer.as_bytes()]);
        judge.validate(credential, now()).is_ok()
    }

    /// Polls twice a second until a token is refused.
    async fn refuses(&mut self, doorward: &Doorward, bearer: &str, what: &str) {
        let start = Instant::now();
        while self.accepts(bearer) {
            tokio::time::sleep(PAUSE).await;
            self.catch_up(doorward).await;
            let took = start.elapsed();
            assert!(took <= SOON + PAUSE, "{what}: not after {took:?}");
        }
        eprintln!("{what}: told after {:?}", start.elapsed());
    }

    fn policy(&self) -> &Policy {
        &self.known.in_force().unwrap().judge.policy
    }
}

async fn a_revocation_at_one_replica_is_in_the_feed_of_the_other<E: Engine>() {
    let database = Database::<E>::start().await;
    let one = replica(&database, |_| {}).await;
    let other = replica(&database, |_| {}).await;
    let mut follower = Follower::new();
    follower.catch_up(&other).await;
    one.add_user(BOB.0, BOB.1, &[]).await;
    let bystander = bearer(&one, BOB).await;
    let ways: [(&str, &[&str]); 4] = [
        ("POST /logout", &[]),
        ("POST /logout?all", &[]),
        ("user logout", &["user", "logout", "u2"]),
        ("user disable", &["user", "disable", "u3"]),
    ];
    let mut ended = Vec::new();
    for (nth, (way, command)) in ways.into_iter().enumerate() {
        let who = (&*format!("u{nth}"), "a-password-of-theirs");
        one.add_user(who.0, who.1, &[]).await;
        let token = bearer(&one, who).await;
        assert!(follower.accepts(&token), "{way}");
        match way.strip_prefix("POST ") {
            Some(path) => {
                let headers = [("authorization", &*token)];
                let reply = send(one.http, "POST", path, &headers, "").await;
                assert_eq!(reply.status, 200, "{way}: {reply:?}");
            }
            None => drop(one.run(command, "").await.ok()),
        }
        follower.refuses(&other, &token, way).await;
        ended.push(token);
    }
    // The other replica adds nothing new, and each of them knows everything after a restart.
    follower.catch_up(&one).await;
    let (one, other) = (one.kill().serve().await, other.kill().serve().await);
    let mut fresh = Follower::new();
    for follower in [&mut follower, &mut fresh] {
        for doorward in [&one, &other] {
            assert!(follower.catch_up(doorward).await >= ended.len());
            assert_eq!(follower.catch_up(doorward).await, 0);
        }
        for token in &ended {
            assert!(!follower.accepts(token));
        }
        assert!(follower.accepts(&bystander));
    }
}

async fn many_revocations_are_sent_in_pages_and_only_once<E: Engine>() {
    const MANY: usize = 10_000;
    let database = Database::<E>::start().await;
    let doorward = replica(&database, |_| {}).await;
    let mut follower = Follower::new();
    follower.catch_up(&doorward).await;
    let expires = now().0 + 3600;
    let rows: Vec<_> = (0..MANY)
        .map(|number| format!("('~{number:08}', {expires}, {})", now().0))
        .collect();
    for rows in rows.chunks(2_000) {
        database.sql(&format!(
            "INSERT INTO doorward_endings (ended_id, expires_at, changed_at) VALUES {}",
            rows.join(", ")
        ));
    }
    let mut told = 0;
    until("all are told", 5 * SOON, async || {
        told += follower.catch_up(&doorward).await;
        (follower.known.revoked().len() == MANY).then_some(())
    })
    .await;
    // For a while, Doorward reads the rows again; the feed does not repeat them.
    tokio::time::sleep(SOON).await;
    told += follower.catch_up(&doorward).await;
    assert_eq!(told, MANY);
    let mut fresh = Follower::new();
    let first = fresh.ask(&doorward).await;
    assert!(first.more && !first.complete && first.changes < MANY / 2);
    assert_eq!(first.changes + fresh.catch_up(&doorward).await, MANY);
    // A page is small, and an empty answer is smaller.
    let whole = ask(&doorward, "").await;
    assert!(whole.body.len() < 1024 * 1024, "{}", whole.body.len());
    let question = follower.known.question();
    let empty = send(doorward.http, "GET", &question, &[], "").await;
    assert!(empty.body.len() < 400, "{}", empty.text());
    follower.known.take(&empty.body, now()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_gateways_can_read_the_feed_if_it_is_enabled() {
    let unknown = |doorward: &Doorward| {
        let http = doorward.http;
        async move { send(http, "GET", "/feeds", &[], "").await }
    };
    let same = |one: &Reply, other: &Reply| {
        let plain = |reply: &Reply| {
            let mut headers: Vec<_> = (reply.headers.iter())
                .filter(|(name, _)| *name != "date")
                .map(|(name, value)| format!("{name}: {value:?}"))
                .collect();
            headers.sort();
            (reply.status, headers, reply.body.clone())
        };
        assert_eq!(plain(one), plain(other));
        assert_eq!(one.status, 404);
    };
    let off = Doorward::start(|_| {}).await;
    same(&ask(&off, "").await, &unknown(&off).await);

    let foreign = alone(|settings| {
        settings.env("DOORWARD_TRUSTED_PROXIES", "203.0.113.0/24");
    })
    .await;
    for query in ["", "?since=x", "?nonsense", "?format=9"] {
        same(&ask(&foreign, query).await, &unknown(&foreign).await);
    }
    for method in ["POST", "HEAD", "DELETE"] {
        let reply = send(foreign.http, method, "/feed", &[], "").await;
        assert_eq!(reply.status, 404, "{method}");
    }
    // Headers of a client change nothing.
    let claims = [
        ("x-forwarded-for", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
    ];
    let reply = send(foreign.http, "GET", "/feed", &claims, "").await;
    assert_eq!(reply.status, 404);
    let refused = |line: &&Value| {
        let message = line["fields"]["message"].as_str().unwrap_or_default();
        message.starts_with("the feed was refused")
    };
    let log = foreign.log();
    let lines: Vec<_> = log.iter().filter(refused).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["fields"]["peer"], "127.0.0.1");
    let numbers = send(foreign.ops, "GET", "/metrics", &[], "").await;
    assert!(
        numbers
            .text()
            .contains("doorward_feed_answers_total{result=\"refused\"} 8\n")
    );

    let home = Doorward::prepare(|settings| {
        settings
            .env("DOORWARD_FEED__ENABLED", "true")
            .env("DOORWARD_TRUSTED_PROXIES", "203.0.113.0/24")
            .env("DOORWARD_LISTEN__HTTP", "unix:http.sock");
    });
    let path = home.dir().join("http.sock").display().to_string();
    let _doorward = home.serve().await;
    let answer = curl(&["--unix-socket", &path, "http://doorward/feed"]).unwrap();
    assert!(answer.starts_with("{\"format\":1,"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_parsed_strictly_and_every_answer_is_counted() {
    let doorward = alone(|_| {}).await;
    let first = ask(&doorward, "").await;
    assert_eq!(first.header("content-type"), Some("application/json"));
    let first = first.json();
    assert_eq!(
        (&first["part"], &first["more"]),
        (&"only".into(), &false.into())
    );
    let cursor = first["next"].as_str().unwrap();
    let digest = first["digest"].as_str().unwrap();
    for (query, part, has_content) in [
        (
            format!("?since={cursor}&have={digest}&ask=x"),
            "changes",
            false,
        ),
        (format!("?since={cursor}"), "changes", true),
        (format!("?since={cursor}&have=other"), "changes", true),
        // This replica does not know these cursors, so it sends everything.
        (format!("?since={cursor}9"), "only", true),
        ("?since=0123456789ab.7".into(), "only", true),
        ("?since=".into(), "only", true),
        ("?since=another-format_of.later~times".into(), "only", true),
    ] {
        let reply = ask(&doorward, &query).await;
        assert_eq!(reply.status, 200, "{query}");
        let answer = reply.json();
        assert_eq!(answer["part"], part, "{query}");
        assert_eq!(answer.get("content").is_some(), has_content, "{query}");
        assert_eq!(
            answer["age"].as_u64().map(|age| age <= 2),
            Some(true),
            "{query}"
        );
    }
    let long = format!("?since={}", "a".repeat(1025));
    for (query, says) in [
        ("?since=a%20b", "since: not a cursor"),
        ("?since=%00", "since: not a cursor"),
        (&*long, "since: not a cursor"),
        ("?since=a.1&since=a.1", "twice"),
        ("?format=2", "serves format 1"),
        ("?have=a,b,c,d,e", "have:"),
        ("?ask=%22", "ask:"),
        ("?other=1", "none of"),
    ] {
        let reply = ask(&doorward, query).await;
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.text().contains(says), "{query}: {}", reply.text());
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    let reply = send(doorward.http, "POST", "/feed", &[], "").await;
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let reply = send(doorward.http, "HEAD", "/feed", &[], "").await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    let numbers = send(doorward.ops, "GET", "/metrics", &[], "").await;
    for (result, count) in [
        ("empty", 1),
        ("changes", 2),
        ("whole", 6),
        ("malformed", 8),
        ("refused", 0),
    ] {
        let line = format!("doorward_feed_answers_total{{result=\"{result}\"}} {count}\n");
        assert!(numbers.text().contains(&line), "{line}{}", numbers.text());
    }
    let lines = |what: &str| {
        let is = |line: &&Value| {
            line["fields"]["message"]
                .as_str()
                .unwrap_or_default()
                .contains(what)
        };
        doorward.log().iter().filter(is).count()
    };
    assert_eq!(lines("reads everything"), 1);
    assert_eq!(lines("is malformed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_contains_no_secret() {
    let password = "a-password-nobody-else-has";
    let home = Doorward::prepare(|settings| {
        settings
            .env("DOORWARD_FEED__ENABLED", "true")
            .env("DOORWARD_REFRESH__ENABLED", "true")
            .env("JWT_SECRET", SECRET);
    });
    let keys = home.dir().join("data/keys");
    fs::create_dir_all(&keys).unwrap();
    let algorithms = ["HS256", "EdDSA", "RS256", "ES384", "ES256"];
    for (since, name) in (1_700_000_000..).zip(algorithms) {
        let id = KeyId::parse(name).unwrap();
        let algorithm = Algorithm::parse(name).unwrap();
        let key = Key::generate(&id, algorithm, UnixTime(since)).unwrap();
        fs::write(keys.join(name), &*key).unwrap();
    }
    let doorward = home.serve().await;
    doorward.add_user("ada", password, &["--admin"]).await;
    let session = login(&doorward, ("ada", password)).await;
    let (token, refresh) = (
        session.header("authorization").unwrap().to_owned(),
        session.header("x-refresh-token").unwrap().to_owned(),
    );
    let reply = post(&doorward, "/logout", Some(&token), &Value::Null).await;
    assert_eq!(reply.status, 200);
    let answer = ask(&doorward, "").await;
    let text = answer.text();
    let entries = answer.json()["content"]["keys"].clone();
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 6);
    for entry in entries {
        assert_eq!(
            entry.get("public").is_none(),
            entry["alg"] == "HS256",
            "{entry}"
        );
    }
    let mut secrets = vec![SECRET.to_owned(), password.into(), "$argon2".into()];
    secrets.push(token.strip_prefix("Bearer ").unwrap().to_owned());
    secrets.push(token.rsplit('.').next().unwrap().to_owned());
    secrets.push(refresh);
    for member in ["d", "p", "q", "dp", "dq", "qi", "k"] {
        secrets.push(format!("\"{member}\":"));
    }
    for file in fs::read_dir(keys).unwrap() {
        let content = fs::read_to_string(file.unwrap().path()).unwrap();
        match serde_json::from_str::<Value>(&content) {
            Ok(jwk) => secrets.push(jwk["k"].as_str().unwrap().to_owned()),
            Err(_) => {
                let lines = content.lines().filter(|line| line.len() > 30);
                secrets.extend(lines.filter(|line| !line.contains('-')).map(str::to_owned));
            }
        }
    }
    assert!(secrets.len() > 20);
    for secret in &secrets {
        assert!(!text.contains(secret), "{secret}");
        let coded = BASE64_URL_SAFE_NO_PAD.encode(secret);
        assert!(!text.contains(&coded), "{secret}");
    }
    // Revocations contain ids, which are not credentials.
    assert_eq!(answer.json()["changes"].as_array().unwrap().len(), 2);

    let only = Doorward::start(|settings| {
        settings.env("DOORWARD_FEED__ENABLED", "true").env(
            "JWT_SECRET",
            "c09e7d41b3a258f6610f8e2d7b4c9a53d1e6f7082b3c4d59",
        );
    })
    .await;
    let mut follower = Follower::new();
    let question = follower.known.question();
    let reply = send(only.http, "GET", &question, &[], "").await;
    let fault = follower.known.take(&reply.body, now()).unwrap_err();
    assert!(matches!(fault, FeedFault::Content(_)));
    assert!(fault.to_string().contains("ES256"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_rules_and_keys_are_sent() {
    let rules = |word: &str| {
        format!(
            "[[route]]\npath = '/login'\nallow = 'login'\n[[route]]\npath = '/x/*'\nallow = '{word}'\n"
        )
    };
    let home = Doorward::prepare(|settings| {
        settings
            .toml(rules("public"))
            .env("DOORWARD_FEED__ENABLED", "true");
    });
    home.run(&["keys", "generate", "ES256", "--id", "first"], "")
        .await
        .ok();
    let file = home.dir().join("doorward.toml");
    let doorward = home.serve().await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let mut follower = Follower::new();
    follower.catch_up(&doorward).await;
    let demand = |follower: &Follower| {
        let rule = follower
            .policy()
            .rules()
            .iter()
            .find(|rule| rule.path() == "/x/*");
        rule.unwrap().demand().clone()
    };
    assert_eq!(demand(&follower), Demand::Public);
    let token = bearer(&doorward, BOB).await;
    assert!(follower.accepts(&token));

    fs::write(&file, rules("role:editor")).unwrap();
    doorward.signal(Signal::HUP);
    until("other rules are told", 5 * SOON, async || {
        follower.ask(&doorward).await.exchanged.then_some(())
    })
    .await;
    assert_eq!(demand(&follower).to_string(), "role:editor");
    assert!(follower.accepts(&token));

    // A file that Doorward refuses does not change the feed.
    fs::write(&file, rules("everybody")).unwrap();
    doorward.signal(Signal::HUP);
    doorward
        .logged("not reloaded", |line| line["level"] == "ERROR")
        .await;
    assert!(!follower.ask(&doorward).await.exchanged);

    fs::write(&file, rules("nobody")).unwrap();
    let rotate = [
        "keys",
        "rotate",
        "--algorithm",
        "ES256",
        "--after",
        "1s",
        "--id",
        "next",
    ];
    doorward.run(&rotate, "").await.ok();
    doorward.signal(Signal::HUP);
    until("the next key is told", 5 * SOON, async || {
        follower.ask(&doorward).await;
        let keys = follower.known.in_force()?.judge.verifier.keys();
        let staged = keys.names().any(|name| name.as_str() == "next");
        staged.then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let newer = bearer(&doorward, BOB).await;
    assert_ne!(newer.split('.').next(), token.split('.').next());
    assert!(follower.accepts(&newer) && follower.accepts(&token));
    assert_eq!(judged(&doorward, &newer).await.status, 403);
}
