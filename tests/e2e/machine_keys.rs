//! Keys for machines: the commands, both replicas and every database; real programs behind Envoy in a file of their own.

mod envoy;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    direct::{bearer, post},
    front::{ADA, BOB, basic},
    harness::{Clock, Database, Doorward, Engine, PATIENCE, Reply, Settings, send, until},
};

const SECRET: &str = "4c1d8e7f90a1b2c3d4e5f60718293a4b";

/// A change takes effect at every replica within this time.
const SOON: Duration = Duration::from_secs(2);

const RULES: &str = r#"
[[route]]
path = "/login"
allow = "login"

[[route]]
path = "/logout"
allow = "logout"

[[route]]
path = "/open"
allow = "public"

[[route]]
path = "/*"
allow = "signed-in"

[[route]]
path = "/repo/*"
allow = "signed-in"
basic-keys = true

[[route]]
path = "/ops/*"
allow = "role:editor"
"#;

on_each_database!(
    a_key_lives_and_ends_at_both_replicas,
    owners_decide_what_their_keys_may_do,
    a_person_makes_and_ends_keys,
    every_added_key_is_whole_and_every_ended_key_stays_ended,
);

fn with_keys(settings: &mut Settings) {
    settings
        .toml(RULES)
        .env("DOORWARD_KEYS__ENABLED", "true")
        .env("DOORWARD_KEYS__HEADER", "X-API-Key");
}

fn on<E: Engine>(database: &Database<E>) -> impl FnOnce(&mut Settings) {
    let env = database.env();
    move |settings: &mut Settings| {
        settings.envs(env).env("JWT_SECRET", SECRET);
        with_keys(settings);
    }
}

async fn replica<E: Engine>(database: &Database<E>) -> Doorward {
    let home = Doorward::prepare(on(database));
    home.run(&["migrate"], "").await.ok();
    home.serve().await
}

/// Runs a command that prints a key, and returns the key.
pub async fn key(doorward: &Doorward, arguments: &[&str]) -> String {
    let arguments = [&["key"], arguments].concat();
    let ran = doorward.run(&arguments, "").await.ok();
    let key = ran.stdout.strip_suffix('\n').expect("one line");
    assert!(key.starts_with("dwk_") && key.len() == 93, "{ran:?}");
    assert!(!ran.stderr.contains(key), "{ran:?}");
    key.to_owned()
}

fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn token(key: &str) -> String {
    format!("Bearer {key}")
}

async fn ask(doorward: &Doorward, path: &str, shown: &[(&str, &str)]) -> Reply {
    let line = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-uri", path),
    ];
    let headers = [&line[..], shown].concat();
    send(doorward.http, "GET", "/auth/forward", &headers, "").await
}

async fn status(doorward: &Doorward, path: &str, key: &str) -> u16 {
    let bearer = token(key);
    ask(doorward, path, &[("authorization", &bearer)])
        .await
        .status
}

/// Waits until every replica answers with this status. Longer than [`SOON`], because builds and other tests may run meanwhile.
async fn soon(replicas: &[&Doorward], path: &str, key: &str, expected: u16) {
    for replica in replicas {
        until(&format!("{expected} for {path}"), 3 * SOON, async || {
            (status(replica, path, key).await == expected).then_some(())
        })
        .await;
    }
}

async fn listed(doorward: &Doorward, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["key", "list", "--output", "json"], arguments].concat();
    let ran = doorward.run(&arguments, "").await.ok();
    serde_json::from_str(&ran.stdout).unwrap()
}

async fn a_key_lives_and_ends_at_both_replicas<E: Engine>() {
    let database = Database::<E>::start().await;
    let (one, other) = (replica(&database).await, replica(&database).await);
    let both = [&one, &other];
    one.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
    let deploy = key(&one, &["add", "deploy", "--owner", "bob"]).await;
    soon(&both, "/x", &deploy, 200).await;
    let reply = ask(&other, "/x", &[("x-api-key", &deploy)]).await;
    assert_eq!(reply.header("x-auth-user"), Some("bob"));
    assert_eq!(reply.header("x-auth-roles"), Some("editor"));
    assert_eq!(reply.header("x-auth-key"), Some("deploy"));
    assert_eq!(reply.header("authorization"), None);

    // The old key ends when the overlap is over.
    let since = Instant::now();
    let next = key(&other, &["rotate", id(&deploy), "--overlap", "10s"]).await;
    soon(&both, "/x", &next, 200).await;
    assert_eq!(status(&one, "/x", &deploy).await, 200);
    until("the old key has expired", PATIENCE, async || {
        (status(&one, "/x", &deploy).await == 401).then_some(())
    })
    .await;
    assert!(since.elapsed() > Duration::from_secs(9));
    one.logged("why", |line| {
        line["fields"]["reason"] == "key-expired" && line["fields"]["key"] == id(&deploy)
    })
    .await;

    // The last use is written for both.
    until("the last use is written", PATIENCE, async || {
        let keys = listed(&one, &["--owner", "bob", "--all"]).await;
        let all = keys.len() == 2 && keys.iter().all(|key| key["used_at"].is_u64());
        all.then_some(())
    })
    .await;

    one.run(&["key", "end", id(&next)], "").await.ok();
    soon(&both, "/x", &next, 401).await;
    let again = one.run(&["key", "end", id(&next)], "").await;
    assert!(!again.status.success(), "{again:?}");
    let (home, _) = one.stop().await;
    let one = home.serve().await;
    assert_eq!(status(&one, "/x", &next).await, 401);
    assert_eq!(listed(&one, &[]).await, Vec::<Value>::new());
    for doorward in [&one, &other] {
        let output = doorward.output();
        for key in [&deploy, &next] {
            assert!(!output.contains(&key[21..]), "a key is in the log");
        }
    }
}

async fn owners_decide_what_their_keys_may_do<E: Engine>() {
    let database = Database::<E>::start().await;
    let (one, other) = (replica(&database).await, replica(&database).await);
    let both = [&one, &other];
    one.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
    one.run(
        &["user", "add", "robot", "--role", "editor", "--no-password"],
        "",
    )
    .await
    .ok();
    let plain = key(&one, &["add", "plain", "--owner", "bob", "--no-roles"]).await;
    let whole = key(&one, &["add", "whole", "--owner", "robot"]).await;
    let admin = key(
        &one,
        &[
            "add", "admin", "--owner", "robot", "--role", "admin", "--path", "/ops/*",
        ],
    )
    .await;
    soon(&both, "/ops/x", &whole, 200).await;
    soon(&[&one], "/x", &plain, 200).await;
    // A role that the owner lacks.
    soon(&[&one], "/ops/x", &admin, 403).await;
    assert_eq!(status(&one, "/ops/x", &plain).await, 403);
    assert_eq!(status(&one, "/x", &admin).await, 403, "another path");

    // Roles and owners are judged at use.
    one.run(&["user", "role", "robot", "--revoke", "editor"], "")
        .await
        .ok();
    soon(&both, "/ops/x", &whole, 403).await;
    assert_eq!(status(&one, "/x", &whole).await, 200);
    one.run(&["user", "disable", "robot"], "").await.ok();
    soon(&both, "/x", &whole, 401).await;
    one.run(&["user", "enable", "robot"], "").await.ok();
    soon(&both, "/x", &whole, 200).await;
    // As another program would do it, without telling Doorward.
    database.sql("UPDATE users SET disabled = TRUE WHERE username = 'robot'");
    soon(&both, "/x", &whole, 401).await;
    one.run(&["user", "remove", "bob"], "").await.ok();
    soon(&both, "/x", &plain, 401).await;

    // No login without a password or with a key, and no logout with a key.
    for password in ["", &*whole] {
        let credentials = basic("robot", password);
        let headers = [("authorization", &*credentials)];
        let login = send(one.http, "POST", "/login", &headers, "").await;
        assert_eq!(login.status, 401, "{login:?}");
    }
    let logout = post(&one, "/logout", Some(&token(&whole)), &Value::Null).await;
    assert_eq!(logout.status, 403, "{logout:?}");
}

async fn a_person_makes_and_ends_keys<E: Engine>() {
    let database = Database::<E>::start().await;
    let env = database.env();
    let home = Doorward::prepare(|settings| {
        settings.envs(env).env("JWT_SECRET", SECRET);
        with_keys(settings);
        settings.env("DOORWARD_KEYS__MOST", "2");
    });
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    let doorward = home.serve().await;
    let (bob, ada) = (bearer(&doorward, BOB).await, bearer(&doorward, ADA).await);
    let ask = async |method: &str, path: &str, who: &str, body: Value| {
        let headers = [("authorization", who), ("content-type", "application/json")];
        send(doorward.http, method, path, &headers, body.to_string()).await
    };
    let wish = json!({"name": "ci", "roles": "", "paths": "/x /ops/*", "expires_in": "3600"});
    let made = ask("POST", "/keys", &bob, wish).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(made["id"], id(&key));
    let lasts = made["expires_at"].as_u64().unwrap() - made["created_at"].as_u64().unwrap();
    assert_eq!(lasts, 3600);
    // At once, and with its limits.
    assert_eq!(status(&doorward, "/x", &key).await, 200);
    assert_eq!(status(&doorward, "/ops/x", &key).await, 403);
    assert_eq!(status(&doorward, "/y", &key).await, 403);

    let listed = ask("GET", "/keys", &bob, Value::Null).await.json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!(listed["keys"][0]["name"], "ci");
    assert!(!listed.to_string().contains(&key[21..]));
    let others = ask("GET", "/keys", &ada, Value::Null).await.json();
    assert_eq!(others, json!({"keys": []}));

    // Nobody longer than the usual lifetime, and nobody without a limit.
    let long = json!({"name": "long", "expires_in": "99999999999"});
    let long = ask("POST", "/keys", &bob, long).await.json();
    let lasts = long["expires_at"].as_u64().unwrap() - long["created_at"].as_u64().unwrap();
    assert_eq!(lasts, 90 * 24 * 3600);
    let third = ask("POST", "/keys", &bob, json!({"name": "third"})).await;
    assert_eq!(third.status, 409, "{third:?}");
    for wrong in [
        json!({}),
        json!({"name": "a b"}),
        json!({"name": "a", "paths": "x"}),
        json!({"name": "a", "expires_in": "0"}),
        json!({"name": "a", "expires_in": "never"}),
        json!({"name": "a", "roles": "a b"}),
    ] {
        let reply = ask("POST", "/keys", &ada, wrong.clone()).await;
        assert_eq!(reply.status, 400, "{wrong}");
    }

    // A key manages no keys, and nobody ends those of others.
    let path = format!("/keys/{}", id(&key));
    for method in ["GET", "POST", "DELETE"] {
        let reply = ask(method, &path, &token(&key), json!({"name": "a"})).await;
        assert_eq!(reply.status, 403, "{method}: {reply:?}");
    }
    assert_eq!(ask("DELETE", &path, &ada, Value::Null).await.status, 404);
    assert_eq!(
        ask("DELETE", "/keys/x", &bob, Value::Null).await.status,
        404
    );
    assert_eq!(ask("PUT", &path, &bob, Value::Null).await.status, 405);
    assert_eq!(status(&doorward, "/x", &key).await, 200);
    let ended = ask("DELETE", &path, &bob, Value::Null).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    assert_eq!(status(&doorward, "/x", &key).await, 401);
    doorward.run(&["user", "disable", "bob"], "").await.ok();
    until("bob is refused", 3 * SOON, async || {
        let reply = ask("POST", "/keys", &bob, json!({"name": "late"})).await;
        (reply.status == 401).then_some(())
    })
    .await;
    assert!(!doorward.output().contains(&key[21..]));
}

/// The clock moves past the end of one key, and then of the other.
#[tokio::test(flavor = "multi_thread")]
async fn keys_expire_by_the_clock() {
    const HOUR: i64 = 3600;
    let home = Doorward::prepare(|settings| {
        settings.env("JWT_SECRET", SECRET);
        with_keys(settings);
    });
    let (home, clock) = Clock::under(home);
    home.run(&["migrate"], "").await.ok();
    let doorward = home.serve().await;
    doorward.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
    let add = async |name, expires| {
        key(
            &doorward,
            &["add", name, "--owner", "bob", "--expires", expires],
        )
        .await
    };
    let (short, long) = (add("short", "1hour").await, add("long", "90days").await);
    for (ahead, of_short, of_long) in [
        (0, 200, 200),
        (HOUR - 120, 200, 200),
        (HOUR + 1, 401, 200),
        (90 * 24 * HOUR - 120, 401, 200),
        (90 * 24 * HOUR + 1, 401, 401),
    ] {
        clock.set(ahead);
        // Until the next read, what Doorward knows is old by this clock.
        soon(&[&doorward], "/x", &long, of_long).await;
        soon(&[&doorward], "/x", &short, of_short).await;
    }
    for key in [&short, &long] {
        doorward
            .logged("why", |line| {
                line["fields"]["reason"] == "key-expired" && line["fields"]["key"] == id(key)
            })
            .await;
    }
}

/// Keys are added and ended while Doorward's commands are killed.
async fn every_added_key_is_whole_and_every_ended_key_stays_ended<E: Engine>() {
    let database = Database::<E>::start().await;
    let doorward = replica(&database).await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let mut keys = Vec::new();
    for round in 0..4_u64 {
        let name = format!("key-{round}");
        // The key is printed after it is stored.
        keys.push(key(&doorward, &["add", &name, "--owner", "bob"]).await);
        doorward
            .home()
            .killed_after(&["key", "add", "half", "--owner", "bob"], round * 15)
            .await;
        doorward
            .home()
            .killed_after(&["key", "rotate", id(&keys[0])], round * 15)
            .await;
    }
    doorward.run(&["key", "end", id(&keys[1])], "").await.ok();
    let home = doorward.kill();
    let doorward = home.serve().await;
    for (nth, key) in keys.iter().enumerate() {
        let expected = if nth == 1 { 401 } else { 200 };
        assert_eq!(status(&doorward, "/x", key).await, expected, "{nth}");
    }
    // A rotation stores both of its writes or none.
    let all = listed(&doorward, &["--all"]).await;
    let named = |name: &str| all.iter().filter(|key| key["name"] == name).count();
    let rotated = named("key-0") > 1;
    let old = all.iter().find(|key| key["id"] == id(&keys[0])).unwrap();
    let lasts = old["expires_at"].as_u64().unwrap() - old["created_at"].as_u64().unwrap();
    assert_eq!(lasts < 2 * 24 * 3600, rotated, "{all:#?}");
}
