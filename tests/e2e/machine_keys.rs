//! Keys for machines: through the commands, both replicas, every database and real programs behind Envoy.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use crate::{
    direct::{bearer, post},
    front::{ADA, BOB, Front, basic},
    harness::{Database, Doorward, Engine, Envoy, EnvoyConfig, Reply, Settings, send, until},
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
async fn key(doorward: &Doorward, arguments: &[&str]) -> String {
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
    let next = key(&other, &["rotate", id(&deploy), "--overlap", "3s"]).await;
    let since = Instant::now();
    soon(&both, "/x", &next, 200).await;
    assert_eq!(status(&one, "/x", &deploy).await, 200);
    until("the old key has expired", 5 * SOON, async || {
        (status(&one, "/x", &deploy).await == 401).then_some(())
    })
    .await;
    assert!(since.elapsed() > Duration::from_secs(2));
    one.logged("why", |line| {
        line["fields"]["reason"] == "key-expired" && line["fields"]["key"] == id(&deploy)
    })
    .await;

    // The last use is written for both.
    until(
        "the last use is written",
        Duration::from_secs(20),
        async || {
            let keys = listed(&one, &["--owner", "bob", "--all"]).await;
            let all = keys.len() == 2 && keys.iter().all(|key| key["used_at"].is_u64());
            all.then_some(())
        },
    )
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
    database.sql("UPDATE users SET disabled = 1 WHERE username = 'robot'");
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

/// Serves a git repository as plain files, which `git clone` can read.
async fn files(dir: &Path) -> std::net::SocketAddr {
    let dir = dir.to_owned();
    let serve = move |request: Request| {
        let dir = dir.clone();
        async move {
            let headers = request.headers();
            // The service must never see the key.
            let leaks = headers.values().any(|value| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                value.contains("dwk_") || value.starts_with("Basic")
            });
            let is_named = headers.get("x-auth-key").is_some_and(|name| name == "git");
            if leaks || !is_named {
                return StatusCode::IM_A_TEAPOT.into_response();
            }
            let path = request.uri().path().trim_start_matches('/');
            match fs::read(dir.join(path)) {
                Ok(content) => Response::new(content.into()),
                Err(_) => StatusCode::NOT_FOUND.into_response(),
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let router = Router::new().fallback(serve);
        axum::serve(listener, router).await.unwrap();
    });
    address
}

fn run(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success(), "{command:?}\n{stdout}{stderr}");
    stdout
}

fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn git_and_curl_show_a_key_as_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let bare = dir.path().join("repo/project.git");
    fs::create_dir_all(&bare).unwrap();
    run(git(&bare).args(["init", "-q", "--bare", "-b", "main"]));
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    run(git(&work).args(["init", "-q", "-b", "main"]));
    fs::write(work.join("README"), "hello\n").unwrap();
    run(git(&work).args(["add", "README"]));
    run(git(&work).args([
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b.c",
        "commit",
        "-q",
        "-m",
        "one",
    ]));
    run(git(&work).args(["push", "-q", bare.to_str().unwrap(), "main"]));
    run(git(&bare).args(["update-server-info"]));

    let home = Doorward::prepare(with_keys);
    home.run(&["migrate"], "").await.ok();
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    let key = key(
        &doorward,
        &["add", "git", "--owner", "bob", "--path", "/repo/*"],
    )
    .await;
    soon(&[&doorward], "/repo/x", &key, 200).await;
    let config = EnvoyConfig::committed()
        .free_ports()
        .doorward(doorward.grpc)
        .service(files(dir.path()).await);
    let envoy = Envoy::start(Envoy::NEWEST, &config).await;
    let url = |password: &str| format!("http://any:{password}@{}/repo/project.git", envoy.edge);
    let clone = dir.path().join("clone");
    let cloned = tokio::task::spawn_blocking({
        let (dir, url) = (dir.path().to_owned(), url(&key));
        move || run(git(&dir).args(["clone", "-q", &url, "clone"]))
    });
    cloned.await.unwrap();
    assert_eq!(fs::read_to_string(clone.join("README")).unwrap(), "hello\n");

    let curl = async |path: &str, arguments: &[&str]| {
        let mut command = Command::new("curl");
        command
            .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(arguments)
            .arg(format!("http://{}{path}", envoy.edge));
        let ran = tokio::task::spawn_blocking(move || run(&mut command));
        ran.await.unwrap()
    };
    let by_password = format!("any:{key}");
    let (by_token, by_header) = (
        format!("Authorization: Bearer {key}"),
        format!("X-API-Key: {key}"),
    );
    let head = "/repo/project.git/HEAD";
    for (arguments, expected) in [
        (&["-u", &*by_password][..], "200"),
        (&["-H", &*by_token], "200"),
        (&["-H", &*by_header], "200"),
        (&[], "401"),
        // This rule accepts no password of a user.
        (&["-u", "bob:builder-of-things"], "401"),
        (&["-H", &*by_header, "-u", &*by_password], "400"),
        (&["-H", &*by_header, "-H", &*by_token], "400"),
        (&["-H", "X-Auth-Key: git", "-u", &*by_password], "400"),
    ] {
        assert_eq!(curl(head, arguments).await, expected, "{arguments:?}");
    }
    // A key counts as a password only if the rule says so, and this key is limited to other paths.
    assert_eq!(curl("/x", &["-u", &by_password]).await, "401");
    assert_eq!(curl("/x", &["-H", &by_token]).await, "403");
    // A token beside the header of a key is one credential too many.
    let bob = bearer(&doorward, BOB).await;
    let bob = format!("Authorization: {bob}");
    assert_eq!(curl(head, &["-H", &bob, "-H", &by_header]).await, "400");
    assert!(!doorward.output().contains(&key[21..]));
}

/// Without `keys.enabled`, keys are no credentials, and their headers reach the service.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_off_by_default() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    let key = key(&front.doorward, &["add", "a", "--owner", "ada"]).await;
    for shown in [("authorization", &*token(&key)), ("x-api-key", &key)] {
        let reply = front.send("GET", "/profile", &[shown]).await;
        assert_eq!(reply.status, 401, "{reply:?}");
        assert!(matches!(reply.text(), "Invalid token" | "Missing token"));
    }
    let arrived = front
        .arrived("/healthz", &[("x-api-key", "other"), ("x-auth-key", "b")])
        .await;
    for name in ["x-api-key", "x-auth-key"] {
        assert!(arrived.iter().any(|(own, _)| own == name), "{arrived:?}");
    }
    let metrics = send(front.doorward.ops, "GET", "/metrics", &[], "").await;
    assert!(!metrics.text().contains("machine_key"));
    assert!(!metrics.text().contains("reason=\"key\""));
    let admin = front.bearer(ADA).await;
    let reply = front
        .send("GET", "/profile", &[("authorization", &admin)])
        .await;
    assert_eq!(reply.status, 200);
}

/// The module in Envoy knows no keys: Doorward decides each request that shows one.
#[tokio::test(flavor = "multi_thread")]
async fn keys_through_the_module_in_envoy() {
    let on = |settings: &mut Settings| {
        settings
            .env("DOORWARD_KEYS__ENABLED", "true")
            .env("DOORWARD_KEYS__HEADER", "X-API-Key");
    };
    let front = Front::open(Envoy::NEWEST, on, |_| EnvoyConfig::module()).await;
    let key = key(&front.doorward, &["add", "deploy", "--owner", "bob"]).await;
    let bearer = token(&key);
    let shown = [("authorization", &*bearer)];
    until("the key is known", 3 * SOON, async || {
        let reply = front.send("GET", "/profile", &shown).await;
        (reply.status == 200).then_some(())
    })
    .await;
    for shown in [shown, [("x-api-key", &*key)]] {
        let arrived = front.arrived("/healthz", &shown).await;
        let value = |name: &str| {
            let found = arrived.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("x-auth-user"), Some("bob"), "{arrived:?}");
        assert_eq!(value("x-auth-key"), Some("deploy"), "{arrived:?}");
        assert_eq!(value("authorization"), None, "{arrived:?}");
        assert_eq!(value("x-api-key"), None, "{arrived:?}");
    }
    let anonymous = front.arrived("/healthz", &[]).await;
    assert!(
        anonymous
            .iter()
            .all(|(name, _)| !name.starts_with("x-auth"))
    );
    for (shown, status) in [
        (&[("x-auth-key", "deploy")][..], 400),
        (&[("authorization", &*bearer), ("x-api-key", &*key)], 400),
        (&[("x-api-key", &key[..90])], 401),
    ] {
        let reply = front.send("GET", "/profile", shown).await;
        assert_eq!(reply.status, status, "{shown:?}");
    }
    let bob = front.bearer(BOB).await;
    let by_token = [("authorization", &*bob)];
    front.doorward.run(&["key", "end", id(&key)], "").await.ok();
    until("the key is ended", 3 * SOON, async || {
        let reply = front.send("GET", "/profile", &shown).await;
        (reply.status == 401).then_some(())
    })
    .await;
    let Front {
        doorward,
        service,
        envoy,
    } = front;
    let _home = doorward.kill();
    // Without Doorward, keys are refused, while tokens pass.
    let reply = send(envoy.edge, "GET", "/profile", &shown, "").await;
    assert_eq!(reply.status, 503, "{reply:?}");
    let reply = send(envoy.edge, "GET", "/profile", &by_token, "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    drop(service);
}
