//! The first refusal after a start takes as long as later ones, because Doorward samples the hashes of the table before
//! it serves.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use doorward::{
    domain::password::Password,
    login::password::{Hasher, PasswordHash},
};
use serde_json::Value;

use crate::{
    direct::{login, sqlite},
    harness::{Database, Doorward, Home, MariaDb, PATIENCE, Settings, repository, until},
};

/// A test vector whose cost differs clearly from the others; no test logs in with its password.
fn hash(begins: &str, instead: &str) -> String {
    let vectors = std::fs::read(repository().join("tests/vectors/passwords.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_slice(&vectors).unwrap();
    let mut rest = vectors
        .iter()
        .filter_map(|vector| vector["hash"].as_str()?.strip_prefix(begins));
    format!("{instead}{}", rest.next().unwrap())
}

fn bcrypt() -> String {
    hash("$2b$04$", "$2b$12$")
}

/// The shortest time that verification takes in this process.
fn least(hash: &str, password: &str) -> Duration {
    let (hasher, hash) = (Hasher::new().unwrap(), PasswordHash::new(hash.to_owned()));
    let password = Password::parse(password).unwrap();
    let times = (0..3).map(|_| {
        let start = Instant::now();
        let _ = hasher.verify(&password, Some(&hash));
        start.elapsed()
    });
    times.min().unwrap()
}

/// How long the refusal of a user who does not exist takes.
async fn refused(doorward: &Doorward, password: &str) -> Duration {
    let start = Instant::now();
    let reply = login(doorward, ("nobody-at-all", password)).await;
    assert_eq!(reply.status, 401, "{reply:?}");
    start.elapsed()
}

const INSERT: &str = "INSERT INTO users (id, username, password_hash, roles, disabled, created_at, updated_at) VALUES";

/// A home whose table contains many of Doorward's own hashes and one of another kind.
async fn home(hash: &str, choose: impl FnOnce(&mut Settings)) -> Home {
    let home = Doorward::prepare(choose);
    home.run(&["migrate"], "").await.ok();
    let file = home.dir().join("data/doorward.db");
    fill(&file, hash).await;
    home
}

async fn fill(file: &Path, hash: &str) {
    let own = self::hash(
        "$argon2id$v=19$m=19456,t=2,p=1$",
        "$argon2id$v=19$m=19456,t=2,p=1$",
    );
    let rows =
        (0..500).map(|number| format!("('{number}', 'user-{number}', '{own}', '', 0, 0, 0)"));
    let rows: Vec<_> = rows.collect();
    sqlite(file, &format!("{INSERT} {}", rows.join(", "))).await;
    sqlite(
        file,
        &format!("{INSERT} ('bea', 'bea', '{hash}', '', 0, 0, 0)"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refusal_after_a_start_takes_as_long_as_the_slowest_scheme() {
    let bcrypt = bcrypt();
    let least = least(&bcrypt, "guess");
    let mut home = home(&bcrypt, |_| {}).await;
    for _ in 0..3 {
        let doorward = home.serve().await;
        let took = refused(&doorward, "guess").await;
        assert!(took >= least, "{took:?}, and bcrypt takes {least:?}");
        home = doorward.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_guess_takes_as_long_as_the_slowest_scheme_takes_for_it() {
    let long = "x".repeat(1000);
    for hash in [
        hash("$P$5", "$P$E"),
        hash("$6$rounds=1000$", "$6$rounds=60000$"),
        hash("$5$rounds=1000$", "$5$rounds=60000$"),
    ] {
        let (least, short) = (least(&hash, &long), least(&hash, "guess"));
        assert!(least > short * 2, "{hash}: {least:?}, {short:?}");
        let doorward = home(&hash, |_| {}).await.serve().await;
        let took = refused(&doorward, &long).await;
        assert!(
            took >= least,
            "{hash}: {took:?}, and a guess takes {least:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_user_query_is_sampled_by_the_hashes_query() {
    let bcrypt = bcrypt();
    let least = least(&bcrypt, "guess");
    let query = "SELECT id, username, password_hash AS password FROM users WHERE username = ?";
    let home = home(&bcrypt, |_| {}).await.with(|settings| {
        settings.env("DOORWARD_USERS__QUERY", query).env(
            "DOORWARD_USERS__HASHES_QUERY",
            "SELECT password_hash FROM users ORDER BY id DESC",
        );
    });
    let doorward = home.serve().await;
    let took = refused(&doorward, "guess").await;
    assert!(took >= least, "{took:?}, and bcrypt takes {least:?}");
    let ran = doorward
        .run(&["user", "hashes", "--output", "json"], "")
        .await;
    assert!(ran.ok().stdout.contains("bcrypt"));
    // Without the query, Doorward reports that it cannot sample.
    let home = doorward.kill().with(|settings| {
        settings.without("DOORWARD_USERS__HASHES_QUERY");
    });
    let doorward = home.serve().await;
    doorward
        .logged("a warning", |line| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            message.contains("set users.hashes_query")
        })
        .await;
    refused(&doorward, "guess").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_sampled_when_it_returns() {
    let bcrypt = bcrypt();
    let least = least(&bcrypt, "guess");
    let mut database = Database::<MariaDb>::start().await;
    let home = Doorward::prepare(|settings| {
        settings
            .envs(database.env())
            .env("JWT_SECRET", "9f2c0d1e4b7a68530c9d8e7f6a5b4c3d");
    });
    home.run(&["migrate"], "").await.ok();
    database.sql(&format!("{INSERT} ('bea', 'bea', '{bcrypt}', '', 0, 0, 0)"));
    database.kill();
    let doorward = home.serve().await;
    let away = login(&doorward, ("nobody-at-all", "guess")).await;
    assert_eq!(away.status, 503, "{away:?}");
    database.restart().await;
    // The first login that is answered.
    let took = until("an answer", PATIENCE, async || {
        let start = Instant::now();
        let reply = login(&doorward, ("nobody-at-all", "guess")).await;
        (reply.status == 401).then(|| start.elapsed())
    })
    .await;
    assert!(took >= least, "{took:?}, and bcrypt takes {least:?}");
}
