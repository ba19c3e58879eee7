//! Keys for machines behind Envoy: git, curl, and the module.

use std::{fs, path::Path, process::Command};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use super::{SOON, id, key, soon, token, with_keys};
use crate::{
    direct::bearer,
    front::{ADA, BOB, Front},
    harness::{Doorward, Envoy, EnvoyConfig, Settings, send, until},
};

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
