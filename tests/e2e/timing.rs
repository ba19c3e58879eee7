//! Refusals that a client must not distinguish are identical to the byte and take the same time.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    direct::{login_from, sqlite},
    front::basic,
    harness::{Doorward, Home, Settings, repository, send_bytes},
};

/// The number of attempts of each kind.
const SAMPLES: usize = 45;

/// A relative difference between medians that nobody can see through a network, and the z of the Mann-Whitney test
/// above which a difference is significant (p = 0.001).
const UNSEEN: f64 = 0.03;
const BY_CHANCE: f64 = 3.29;

const WRONG: &str = "no password of anybody";

/// A kind of login that is refused.
struct Kind {
    what: &'static str,
    name: &'static str,
    password: &'static str,
}

const fn kind(what: &'static str, name: &'static str, password: &'static str) -> Kind {
    Kind {
        what,
        name,
        password,
    }
}

/// The durations of each kind: one attempt of each per round, in random order.
async fn sampled(doorward: &Doorward, kinds: &[Kind], status: u16) -> Vec<Vec<f64>> {
    let mut times = vec![Vec::new(); kinds.len()];
    for nth in 0..SAMPLES + 5 {
        let mut order: Vec<_> = (0..kinds.len()).collect();
        order.sort_by_key(|_| uuid::Uuid::new_v4());
        for which in order {
            let Kind { name, password, .. } = kinds[which];
            // An address that has not been used before.
            let client = format!("198.51.{}.{}", nth, which + 1);
            let start = Instant::now();
            let reply = login_from(doorward, (name, password), &client).await;
            let took = start.elapsed();
            assert_eq!(reply.status, status, "{name}: {reply:?}");
            // Doorward learns the slowest hash only from attempts, so the first rounds do not count.
            if nth >= 5 {
                times[which].push(took.as_secs_f64() * 1000.0);
            }
        }
    }
    times
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The z of the Mann-Whitney test: the distance of the rank sum from its expectation, in standard deviations.
fn mann_whitney(one: &[f64], other: &[f64]) -> f64 {
    let count = |n: usize| f64::from(u32::try_from(n).unwrap());
    let above = one
        .iter()
        .map(|time| count(other.iter().filter(|other| time > other).count()))
        .sum::<f64>();
    let (n, m) = (count(one.len()), count(other.len()));
    (above - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

/// Compares every kind with the first one.
async fn take_the_same_time(doorward: &Doorward, kinds: &[Kind], status: u16) {
    // Repeats once, because the machine may have been busy.
    for last in [false, true] {
        let times = sampled(doorward, kinds, status).await;
        let first = &times[0];
        let mut differ = vec![];
        for (kind, times) in kinds.iter().zip(&times) {
            let z = mann_whitney(times, first);
            let apart = (median(times) - median(first)) / median(first);
            let line = format!(
                "{}: {:.2} ms, {:+.1} %, z {z:.2}",
                kind.what,
                median(times),
                apart * 100.0
            );
            eprintln!("{line}");
            if z.abs() > BY_CHANCE && apart.abs() > UNSEEN {
                differ.push(line);
            }
        }
        if differ.is_empty() {
            return;
        }
        assert!(!last, "distinguishable from {}: {differ:#?}", kinds[0].what);
        if status == 401 {
            doorward.run(&["throttle", "clear", "--all"], "").await.ok();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }
}

/// The whole answer without the date.
async fn bytes(doorward: &Doorward, kind: &Kind) -> String {
    let credentials = basic(kind.name, kind.password);
    let request = format!(
        "POST /login HTTP/1.1\r\nhost: x\r\nauthorization: {credentials}\r\nx-forwarded-for: 192.0.2.1\r\nconnection: close\r\n\r\n"
    );
    let answer = send_bytes(doorward.http, request.as_bytes()).await;
    let lines = answer.split("\r\n");
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("date: ")).collect();
    lines.join("\r\n")
}

async fn read_the_same(doorward: &Doorward, kinds: &[Kind], status: &str) {
    let first = bytes(doorward, &kinds[0]).await;
    assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{first}");
    for kind in kinds {
        assert_eq!(bytes(doorward, kind).await, first, "{}", kind.what);
    }
}

fn unthrottled(settings: &mut Settings) {
    settings
        .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1")
        .env("DOORWARD_THROTTLE__ACCOUNT_FAILURES", "100");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_do_not_reveal_their_reason() {
    let home = Doorward::prepare(unthrottled);
    home.add_user("eve", "a-password-of-hers", &[]).await;
    for name in ["leo", "lea"] {
        home.add_user(name, "a-password-of-theirs", &[]).await;
        home.run(&["user", "disable", name], "").await.ok();
    }
    let doorward = home.serve().await;
    let kinds = [
        kind("unknown", "nobody-at-all", WRONG),
        kind("wrong password", "eve", WRONG),
        kind("disabled", "leo", "a-password-of-theirs"),
        kind("disabled, and wrong", "lea", WRONG),
    ];
    read_the_same(&doorward, &kinds, "401").await;
    take_the_same_time(&doorward, &kinds, 401).await;

    // Hashes of the same scheme with another cost.
    let file = doorward.home().dir().join("data/doorward.db");
    for (name, begins) in [("lea", "m=64,t=1"), ("leo", "m=32768,t=2")] {
        let hash = vector(
            "argon2id",
            "$argon2id$v=19$m=64,t=2",
            &format!("$argon2id$v=19${begins}"),
        );
        let sql = format!("UPDATE users SET password_hash = '{hash}' WHERE username = '{name}'");
        sqlite(&file, &sql).await;
    }
    doorward.run(&["throttle", "clear", "--all"], "").await.ok();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let kinds = [
        kind("unknown", "somebody-else", WRONG),
        kind("cheap", "lea", WRONG),
        kind("dear", "leo", WRONG),
    ];
    take_the_same_time(&doorward, &kinds, 401).await;
}

/// A test vector, possibly at another cost; no test logs in with its password.
fn vector(scheme: &str, begins: &str, instead: &str) -> String {
    let vectors = std::fs::read(repository().join("tests/vectors/passwords.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_slice(&vectors).unwrap();
    let hash = vectors
        .iter()
        .filter(|vector| vector["scheme"] == scheme)
        .filter_map(|vector| vector["hash"].as_str()?.strip_prefix(begins));
    format!("{instead}{}", hash.into_iter().next().unwrap())
}

/// An existing table with hashes of several schemes.
async fn mixed(home: &Home) {
    let own = vector(
        "argon2id",
        "$argon2id$v=19$m=19456,t=2,p=1$",
        "$argon2id$v=19$m=19456,t=2,p=1$",
    );
    let bcrypt = vector("bcrypt", "$2b$04$", "$2b$09$");
    let md5 = vector("md5-crypt", "$1$", "$1$");
    let scrypt = vector("scrypt", "scrypt:128:8:1$", "scrypt:16384:8:1$");
    let file = file(home);
    sqlite(&file, "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL, active INTEGER NOT NULL); CREATE UNIQUE INDEX people_name ON people (name); CREATE TABLE jobs (person INTEGER NOT NULL, role TEXT NOT NULL)").await;
    for (name, hash, active) in [
        ("argon", &own, 1),
        ("bea", &bcrypt, 1),
        ("mia", &md5, 1),
        ("sue", &scrypt, 1),
    ] {
        sqlite(
            &file,
            &format!(
                "INSERT INTO people (name, hash, active) VALUES ('{name}', '{hash}', {active})"
            ),
        )
        .await;
    }
    sqlite(
        &file,
        "INSERT INTO jobs VALUES (1, 'editor'), (2, 'editor'), (3, 'editor'), (4, 'editor')",
    )
    .await;
}

fn file(home: &Home) -> std::path::PathBuf {
    home.dir().join("data/doorward.db")
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_do_not_reveal_the_hash_scheme() {
    let home = Doorward::prepare(|settings| {
        unthrottled(settings);
        settings.envs([
            ("DOORWARD_USERS__TABLE", "people"),
            ("DOORWARD_USERS__ID", "id"),
            ("DOORWARD_USERS__USERNAME", "name"),
            ("DOORWARD_USERS__PASSWORD", "hash"),
            ("DOORWARD_USERS__ACTIVE", "active"),
            (
                "DOORWARD_USERS__ROLES_QUERY",
                "SELECT role FROM jobs WHERE person = ?",
            ),
        ]);
    });
    home.run(&["migrate"], "").await.ok();
    mixed(&home).await;
    let doorward = home.serve().await;
    let kinds = [
        kind("unknown", "nobody-at-all", WRONG),
        kind("argon2id", "argon", WRONG),
        kind("bcrypt", "bea", WRONG),
        kind("md5-crypt", "mia", WRONG),
        kind("scrypt", "sue", WRONG),
    ];
    read_the_same(&doorward, &kinds, "401").await;
    take_the_same_time(&doorward, &kinds, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_guess_does_not_reveal_existing_users() {
    let home = Doorward::prepare(unthrottled);
    home.run(&["migrate"], "").await.ok();
    let file = file(&home);
    for (name, hash) in [
        ("ann", vector("phpass", "$P$5", "$P$B")),
        (
            "bea",
            vector("sha512-crypt", "$6$rounds=1000$", "$6$rounds=20000$"),
        ),
        ("mia", vector("md5-crypt", "$1$", "$1$")),
        (
            "own",
            vector(
                "argon2id",
                "$argon2id$v=19$m=19456,",
                "$argon2id$v=19$m=19456,",
            ),
        ),
    ] {
        sqlite(&file, &format!("INSERT INTO users (id, username, password_hash, roles, disabled, created_at, updated_at) VALUES ('{name}', '{name}', '{hash}', '', 0, 0, 0)")).await;
    }
    let doorward = home.serve().await;
    for length in [700, 1000] {
        let long: &'static str = "x".repeat(length).leak();
        let kinds = [
            kind("unknown", "nobody-at-all", long),
            kind("phpass", "ann", long),
            kind("sha512-crypt", "bea", long),
            kind("md5-crypt", "mia", long),
            kind("argon2id", "own", long),
        ];
        take_the_same_time(&doorward, &kinds, 401).await;
        doorward.run(&["throttle", "clear", "--all"], "").await.ok();
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_do_not_reveal_existing_users() {
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1");
    });
    home.add_user("eve", "a-password-of-hers", &[]).await;
    let file = file(&home);
    let doorward = home.serve().await;
    let kinds = [
        kind("unknown", "nobody-at-all", WRONG),
        kind("wrong password", "eve", WRONG),
        kind("right password", "eve", "a-password-of-hers"),
    ];
    for kind in &kinds[..2] {
        for _ in 0..5 {
            let reply = login_from(&doorward, (kind.name, WRONG), "192.0.2.1").await;
            assert_eq!(reply.status, 401, "{reply:?}");
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let home = doorward.kill();
    let long = "UPDATE doorward_tallies SET failures = 14, last_failure = (SELECT MAX(last_failure) FROM doorward_tallies)";
    sqlite(Path::new(&file), long).await;
    let doorward = home.serve().await;
    // The remaining wait, in seconds, changes between answers.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let answers = [
            bytes(&doorward, &kinds[0]).await,
            bytes(&doorward, &kinds[1]).await,
            bytes(&doorward, &kinds[2]).await,
        ];
        assert!(answers[0].starts_with("HTTP/1.1 429 "), "{}", answers[0]);
        if answers[0] == answers[1] && answers[1] == answers[2] {
            take_the_same_time(&doorward, &kinds, 429).await;
            return;
        }
    }
    panic!("the answers always differed");
}
