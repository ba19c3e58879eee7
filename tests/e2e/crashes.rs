//! Doorward is killed during its work: acknowledged changes are in force; other changes are complete or absent.

use std::{ops::Range, path::Path, time::Duration};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    direct::{EVERYTHING, Session, judged, login, login_with, post, sqlite, try_post},
    front::basic,
    harness::{Database, Doorward, Engine, Home, Reply, Settings, try_send},
};

const SECRET: &str = "c3d5e7f90a1b2c4d6e8f0a2b4c6d8e1f";

/// How many clients work in parallel.
const MANY: usize = 6;

/// How often each kind of work is interrupted.
const ROUNDS: usize = 3;

/// A bcrypt hash of [`FIRST`], at the lowest cost.
const OUTDATED: &str = "$2b$04$WdtKMduT.JSHbG9FedM0FuJ4DEWvKZZZza60Yf7T39JDEQmgZqm9i";

const FIRST: &str = "correct horse";

on_each_database!(a_database_server_keeps_acknowledged_changes);

async fn a_database_server_keeps_acknowledged_changes<E: Engine>() {
    let database = Database::<E>::start().await;
    let env = database.env();
    let home = Doorward::prepare(|settings| {
        settings
            .envs(env)
            .env("JWT_SECRET", SECRET)
            .envs(EVERYTHING);
    });
    home.run(&["migrate"], "").await.ok();
    rounds(home, async |_, sql| {
        database.sql(sql);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_file_keeps_acknowledged_changes() {
    let home = Doorward::prepare(|settings: &mut Settings| {
        settings.envs(EVERYTHING);
    });
    rounds(home, async |home, sql| {
        sqlite(&home.join("data/doorward.db"), sql).await;
    })
    .await;
}

async fn rounds(home: Home, sql: impl AsyncFn(&Path, &str)) {
    let mut doorward = home.serve().await;
    for nth in 0..MANY {
        let body = json!({"username": name(nth), "password": FIRST});
        let reply = post(&doorward, "/register", None, &body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
    let mut said = [0; 5];
    for round in 0..ROUNDS {
        (doorward, said[0]) = logouts(doorward, said[0]).await;
        (doorward, said[1]) = refreshes(doorward, said[1]).await;
        (doorward, said[2]) = registrations(doorward, round, said[2]).await;
        let outdate = format!("UPDATE users SET password_hash = '{OUTDATED}'");
        sql(doorward.home().dir(), &outdate).await;
        (doorward, said[3]) = upgrades(doorward, said[3]).await;
        sql(doorward.home().dir(), &outdate).await;
        (doorward, said[4]) = password_changes(doorward, said[4]).await;
    }
    eprintln!(
        "of {} each, said before the end: logouts {}, refreshes {}, registrations {}, logins {}, passwords {}",
        ROUNDS * MANY,
        said[0],
        said[1],
        said[2],
        said[3],
        said[4]
    );
}

/// Sends all requests, kills Doorward meanwhile, and starts it again. Gives the answers that arrived.
async fn broken_off(
    doorward: Doorward,
    after_millis: Range<u64>,
    asks: impl IntoIterator<Item = (&'static str, Option<String>, Value)>,
) -> (Doorward, Vec<Option<Reply>>) {
    let at = doorward.http;
    let mut under_way = JoinSet::new();
    for (nth, (path, authorization, body)) in asks.into_iter().enumerate() {
        under_way.spawn(async move {
            let reply = try_post(at, path, authorization.as_deref(), &body).await;
            (nth, reply.ok().filter(|reply| reply.status < 300))
        });
    }
    let within = after_millis.end - after_millis.start;
    let chance = u64::from_be_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap());
    tokio::time::sleep(Duration::from_millis(after_millis.start + chance % within)).await;
    let home = doorward.kill();
    let mut replies = under_way.join_all().await;
    replies.sort_by_key(|(nth, _)| *nth);
    let replies = replies.into_iter().map(|(_, reply)| reply).collect();
    (home.serve().await, replies)
}

fn name(nth: usize) -> String {
    format!("user-{nth}")
}

async fn sessions(doorward: &Doorward) -> Vec<Session> {
    let logins = (0..MANY).map(|nth| async move {
        let reply = login(doorward, (&name(nth), FIRST)).await;
        assert_eq!(reply.status, 200, "{reply:?}\n{}", doorward.output());
        Session::of(&reply)
    });
    futures_util::future::join_all(logins).await
}

fn token(refresh: &str) -> Value {
    json!({"refresh_token": refresh})
}

async fn refreshed(doorward: &Doorward, refresh: &str) -> Reply {
    post(doorward, "/refresh", None, &token(refresh)).await
}

async fn logouts(doorward: Doorward, said: usize) -> (Doorward, usize) {
    let sessions = sessions(&doorward).await;
    let asks = sessions
        .iter()
        .map(|session| ("/logout", Some(session.bearer.clone()), json!({})));
    let (doorward, replies) = broken_off(doorward, 1..25, asks).await;
    for (session, reply) in sessions.iter().zip(&replies) {
        let status = judged(&doorward, &session.bearer).await.status;
        assert!(
            status == 401 || (status == 200 && reply.is_none()),
            "{status} {reply:?}"
        );
        // The session ends together with its token, or both go on.
        assert_eq!(refreshed(&doorward, &session.refresh).await.status, status);
    }
    (doorward, said + replies.iter().flatten().count())
}

async fn refreshes(doorward: Doorward, said: usize) -> (Doorward, usize) {
    let sessions = sessions(&doorward).await;
    let asks = sessions
        .iter()
        .map(|session| ("/refresh", None, token(&session.refresh)));
    let (doorward, replies) = broken_off(doorward, 1..25, asks).await;
    for (session, reply) in sessions.iter().zip(&replies) {
        let again = refreshed(&doorward, &session.refresh).await;
        assert_eq!(again.status, 200, "{again:?}");
        let successor = Session::of(&again);
        if let Some(reply) = reply {
            let first = Session::of(reply);
            assert_eq!(
                first.refresh, successor.refresh,
                "within the grace period, the answer is repeated"
            );
            assert_eq!(judged(&doorward, &first.bearer).await.status, 200);
        }
        assert_eq!(judged(&doorward, &successor.bearer).await.status, 200);
        assert_eq!(refreshed(&doorward, &successor.refresh).await.status, 200);
    }
    (doorward, said + replies.iter().flatten().count())
}

async fn registrations(doorward: Doorward, round: usize, said: usize) -> (Doorward, usize) {
    let body = |nth: usize| json!({"username": format!("new-{round}-{nth}"), "password": FIRST});
    let asks = (0..MANY).map(|nth| ("/register", None, body(nth)));
    let (doorward, replies) = broken_off(doorward, 5..600, asks).await;
    for (nth, reply) in replies.iter().enumerate() {
        let there = login(&doorward, (&format!("new-{round}-{nth}"), FIRST))
            .await
            .status;
        assert!(
            there == 200 || (there == 401 && reply.is_none()),
            "{there} {reply:?}"
        );
        let again = post(&doorward, "/register", None, &body(nth)).await.status;
        assert_eq!(again, if there == 200 { 409 } else { 201 });
    }
    (doorward, said + replies.iter().flatten().count())
}

async fn upgrades(doorward: Doorward, said: usize) -> (Doorward, usize) {
    let at = doorward.http;
    let mut logins = JoinSet::new();
    for nth in 0..MANY {
        logins.spawn(async move {
            let credentials = basic(&name(nth), FIRST);
            let headers = [("authorization", &*credentials)];
            try_send(at, "POST", "/login", &headers, "").await.ok()
        });
    }
    let (doorward, _) = broken_off(doorward, 5..200, []).await;
    let replies = logins.join_all().await;
    let whole = async || {
        let hashes = doorward
            .run(&["user", "hashes", "--output", "json"], "")
            .await;
        let hashes: Value = serde_json::from_str(&hashes.ok().stdout).unwrap();
        for count in hashes.as_array().unwrap() {
            let scheme = count["scheme"].as_str().unwrap();
            assert!(["argon2id", "bcrypt"].contains(&scheme), "{hashes:#}");
        }
    };
    whole().await;
    for nth in 0..MANY {
        let headers = [("accept", "application/json")];
        let reply = login_with(&doorward, (&name(nth), FIRST), &headers).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    (doorward, said + replies.iter().flatten().count())
}

async fn password_changes(doorward: Doorward, said: usize) -> (Doorward, usize) {
    let new = "another-battery-staple";
    let sessions = sessions(&doorward).await;
    let body = json!({"current_password": FIRST, "new_password": new});
    let asks = sessions
        .iter()
        .map(|session| ("/password", Some(session.bearer.clone()), body.clone()));
    let (doorward, replies) = broken_off(doorward, 20..900, asks).await;
    for (nth, (session, reply)) in sessions.iter().zip(&replies).enumerate() {
        let old_token = judged(&doorward, &session.bearer).await.status;
        let is_new = match login(&doorward, (&name(nth), new)).await.status {
            200 => true,
            401 => false,
            other => panic!("{other}\n{}", doorward.output()),
        };
        assert!(is_new || reply.is_none(), "{reply:?}");
        let (old, token) = if is_new { (401, 401) } else { (200, 200) };
        assert_eq!(login(&doorward, (&name(nth), FIRST)).await.status, old);
        assert_eq!(
            old_token, token,
            "the old token is refused from the first answer on"
        );
        assert_eq!(refreshed(&doorward, &session.refresh).await.status, token);
        if let Some(reply) = reply {
            assert_eq!(
                judged(&doorward, &Session::of(reply).bearer).await.status,
                200
            );
        }
        if is_new {
            let name = name(nth);
            let back = doorward
                .run(&["user", "passwd", &name, "--weak"], FIRST)
                .await;
            back.ok();
        }
    }
    (doorward, said + replies.iter().flatten().count())
}
