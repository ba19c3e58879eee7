//! The commands, run as people and scripts run them.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::{
    front::{ADA, BOB},
    harness::{Doorward, Home, send},
};

async fn setup() -> Home {
    let rules =
        std::fs::read_to_string(crate::harness::repository().join("examples/doorward.toml"))
            .unwrap();
    let home = Doorward::prepare(|settings| {
        settings.toml(rules);
    });
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &["--role", "editor", "--role", "billing"])
        .await;
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_added_changed_and_listed() {
    let home = setup().await;
    let listed = home
        .run(&["user", "list", "--output", "json"], "")
        .await
        .ok();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0]["roles"], json!(["admin"]));
    assert_eq!(
        (
            &listed[1]["username"],
            &listed[1]["roles"],
            &listed[1]["disabled"]
        ),
        (&json!("bob"), &json!(["billing", "editor"]), &json!(false))
    );
    let table = home.run(&["user", "list"], "").await.ok().stdout;
    assert!(
        table.contains("NAME") && table.contains("billing,editor") && !table.contains("argon2"),
        "{table}"
    );

    let shown = home.run(&["user", "role", "bob"], "").await.ok().stdout;
    assert_eq!(shown, "bob is with the roles billing,editor.\n");
    let changed = home
        .run(
            &[
                "user", "role", "bob", "--grant", "admin", "--revoke", "billing",
            ],
            "",
        )
        .await
        .ok()
        .stdout;
    assert_eq!(
        changed,
        "bob is with the roles admin,editor; tokens with other roles are revoked.\n"
    );

    for (arguments, stdin, why) in [
        (
            &["user", "add", "bob"][..],
            "a-long-password\n",
            "a user of that name exists already",
        ),
        (
            &["user", "add", "a:b"],
            "a-long-password\n",
            "cannot be a name",
        ),
        (
            &["user", "add", " eve"],
            "a-long-password\n",
            "begins or ends with a blank",
        ),
        (
            &["user", "add", "eve", "--role", "a b"],
            "a-long-password\n",
            "is not a role",
        ),
        (&["user", "add", "eve"], "", "a password is one line"),
        (
            &["user", "add", "eve"],
            "two\nlines-of-it\n",
            "a password is one line",
        ),
        (
            &["user", "passwd", "eve"],
            "a-long-password\n",
            "there is no user of that name",
        ),
        (
            &["user", "role", "eve"],
            "",
            "there is no user of that name",
        ),
        (
            &["user", "disable", "BOB"],
            "",
            "there is no user of that name",
        ),
        (
            &["user", "remove", "eve"],
            "",
            "there is no user of that name",
        ),
    ] {
        let ran = home.run(arguments, stdin).await;
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(why), "{arguments:?}: {ran:?}");
    }
    let short = home.run(&["user", "add", "eve"], "short\n").await;
    assert!(
        short.stderr.contains("at least 12 characters") && short.stderr.contains("--weak"),
        "{short:?}"
    );
    let weak = home.run(&["user", "add", "eve", "--weak"], "short\n").await;
    assert!(weak.ok().stderr.contains("warning: password: too short"));
    let help = home.run(&["user", "add", "--help"], "").await.ok().stdout;
    assert!(!help.contains("--password"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_explained() {
    let home = setup().await;
    for (arguments, code, said) in [
        (
            &["GET", "/admin/users", "--user", "bob"][..],
            1,
            &["/admin/*", "role:admin", "403, missing-role"][..],
        ),
        (
            &["GET", "/admin/users", "--user", "ada"],
            0,
            &["passes, identity attached: 200"],
        ),
        (&["GET", "/admin/users"], 1, &["401, missing-token"]),
        (
            &["GET", "/healthz"],
            0,
            &["path = \"/healthz\"", "passes, anonymous"],
        ),
        (
            &["POST", "/healthz"],
            1,
            &["path = \"/*\"", "401, missing-token"],
        ),
        (
            &["GET", "/x", "--role", "anything"],
            0,
            &["signed-in", "passes"],
        ),
        (
            &["POST", "/login"],
            1,
            &["login", "401, missing-credentials"],
        ),
        (&["GET", "/login"], 1, &["405, endpoint-method"]),
        (
            &["GET", "//admin"],
            1,
            &["ambiguous: an empty segment", "400"],
        ),
        (
            &["GET", "/Admin/x"],
            1,
            &["ignores case", "400, two-readings"],
        ),
        (&["GET", "https://a?b=/admin/x"], 1, &["host is malformed"]),
    ] {
        let arguments = [&["policy", "check"], arguments].concat();
        let ran = home.run(&arguments, "").await;
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {ran:?}");
        for text in said {
            assert!(ran.stdout.contains(text), "{arguments:?}: {ran:?}");
        }
    }
    let ran = home
        .run(&["policy", "check", "GET", "/x", "--output", "json"], "")
        .await;
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&said["passes"], &said["status"], &said["reason"]),
        (&json!(false), &json!(401), &json!("missing-token"))
    );
    let unknown = home
        .run(&["policy", "check", "GET", "/x", "--user", "eve"], "")
        .await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_checked_all_at_once() {
    let fine = setup()
        .await
        .run(&["config", "check"], "")
        .await
        .ok()
        .stdout;
    assert!(fine.contains("hold together: 5 rules"), "{fine}");
    let home = Doorward::prepare(|settings| {
        settings
            .toml("[listen]\ngrcp = 'x'\n[jwt]\nlifetime = 'long'\n[[route]]\npath = 'x'\nallow = 'y'\n")
            .env("JWT_SECRET", "short")
            .env("DOORWARD_LOGN__REALM", "x");
    });
    for command in [&["config", "check"][..], &["serve"], &["user", "list"]] {
        let ran = home.run(command, "").await;
        assert_eq!(ran.status.code(), Some(2));
        for fault in [
            "6 faults in the settings",
            "doorward.toml:2: listen.grcp: is not a setting; did you mean listen.grpc?",
            "doorward.toml:4: jwt.lifetime: \"long\" is not a duration",
            "route[0]: path \"x\" cannot be matched",
            "route[0].allow: \"y\" is not a demand",
            "environment: JWT_SECRET: has 5 bytes; HS256 needs at least 32 (RFC 7518, 3.2); make one with: openssl rand -hex 32",
            "environment: DOORWARD_LOGN__REALM: is not a setting; did you mean DOORWARD_LOGIN__REALM?",
        ] {
            assert!(
                ran.stderr.contains(fault),
                "{command:?} {fault}\n{}",
                ran.stderr
            );
        }
    }
    let flag = setup()
        .await
        .run(&["--set", "listen.grpc=nowhere", "config", "check"], "")
        .await;
    assert!(
        flag.stderr
            .contains("--set listen.grpc: \"nowhere\" is not an address"),
        "{flag:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_decoded_and_judged() {
    let home = setup().await;
    let early = home.run(&["token", "inspect", "a.b.c"], "").await;
    assert!(early.stderr.contains("there is no secret"), "{early:?}");
    let doorward = home.serve().await;
    let login = doorward_login(&doorward).await;
    let good = doorward
        .run(&["token", "inspect"], format!("Bearer {login}\n"))
        .await;
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    for text in [
        "\"alg\"",
        "alg ",
        "username",
        "\"bob\"",
        "exp",
        "accepted: it speaks for bob",
    ] {
        assert!(
            good.stdout.contains(text) || text == "\"alg\"",
            "{text}: {good:?}"
        );
    }
    let (rest, _) = login.rsplit_once('.').unwrap();
    let forged = doorward
        .run(
            &[
                "token",
                "inspect",
                "--output",
                "json",
                &format!("{rest}.AAAA"),
            ],
            "",
        )
        .await;
    assert_eq!(forged.status.code(), Some(1));
    let said: Value = serde_json::from_str(&forged.stdout).unwrap();
    assert_eq!(
        (&said["accepted"], &said["why"], &said["claims"]["username"]),
        (
            &json!(false),
            &json!("its signature does not match the key"),
            &json!("bob")
        )
    );
    let (home, _) = doorward.stop().await;
    let elsewhere = home
        .run(
            &[
                "--set",
                "jwt.audience=elsewhere",
                "token",
                "inspect",
                &login,
            ],
            "",
        )
        .await;
    assert!(
        elsewhere.stdout.contains("refused: its audience differs"),
        "{elsewhere:?}"
    );
    let nothing = home.run(&["token", "inspect"], "").await;
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
}

async fn doorward_login(doorward: &Doorward) -> String {
    let front = crate::front::Front::login_directly(doorward, BOB).await;
    front.strip_prefix("Bearer ").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_with_defaults_prints_the_next_steps_and_stops_on_request() {
    let doorward = Doorward::start(|_| {}).await;
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/", 404)] {
        assert_eq!(
            send(doorward.ops, "GET", path, &[], "").await.status,
            status,
            "{path}"
        );
    }
    let data = doorward.home().dir().join("data");
    for file in ["jwt.secret", "doorward.db"] {
        let mode = std::fs::metadata(data.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(
        std::fs::metadata(&data).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let secret = std::fs::read(data.join("jwt.secret")).unwrap();
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let token = doorward_login(&doorward).await;
    let said = doorward.output();
    assert!(said.contains("ext_authz on 127.0.0.1:"), "{said}");
    assert!(
        said.contains("Next: add a user with `") && said.contains("doorward user add ada --admin`"),
        "{said}"
    );

    let (home, status) = doorward.stop().await;
    assert!(status.success(), "{status}");
    // The secret is made once, so a token stays valid after a restart.
    let doorward = home.serve().await;
    assert_eq!(std::fs::read(data.join("jwt.secret")).unwrap(), secret);
    doorward.run(&["token", "inspect"], token).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_starts_are_explained() {
    let other = Doorward::start(|_| {}).await;
    let taken = Doorward::prepare(|settings| {
        settings.env("DOORWARD_LISTEN__GRPC", other.grpc.to_string());
    });
    let ran = taken.run(&["serve"], "").await;
    assert_eq!(ran.status.code(), Some(2));
    assert!(
        ran.stderr.contains("listen.grpc: ") && ran.stderr.contains("cannot be listened on"),
        "{ran:?}"
    );

    let without = Doorward::prepare(|settings| {
        settings.env("DATABASE_URL", "mysql://a:b@127.0.0.1:1/c");
    });
    let ran = without.run(&["serve"], "").await;
    assert!(
        ran.stderr.contains("JWT_SECRET") && ran.stderr.contains("openssl rand -hex 32"),
        "{ran:?}"
    );

    let missing = Doorward::prepare(|_| {});
    let ran = missing
        .run(&["--config", "nowhere.toml", "config", "check"], "")
        .await;
    assert!(
        ran.stderr.contains("nowhere.toml cannot be read"),
        "{ran:?}"
    );
}

/// A server at the given address that reads a request and sends `answer`, or never answers.
async fn answering(answer: Option<&'static str>) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match answer {
                Some(answer) => {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                None => silent.push(stream),
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_checked_without_a_shell() {
    let doorward = Doorward::start(|_| {}).await;
    let ops = doorward.ops;
    let draining = answering(Some(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
    ))
    .await;
    let moved = "HTTP/1.1 302 Found\r\nlocation: /livez\r\ncontent-length: 0\r\n\r\n";
    let moved = answering(Some(moved)).await;
    let other = answering(Some("SSH-2.0-OpenSSH_9.2\r\n")).await;
    let slow = answering(None).await;
    let nobody = crate::harness::free_address();
    for (url, code, said) in [
        (format!("http://{ops}/readyz"), 0, "200 OK"),
        (
            format!("http://localhost:{}/livez", ops.port()),
            0,
            "200 OK",
        ),
        (format!("http://{ops}/nowhere"), 1, "404 Not Found"),
        (
            format!("http://{draining}/readyz"),
            1,
            "503 Service Unavailable",
        ),
        (format!("http://{moved}/readyz"), 1, "302 Found"),
        (format!("http://{other}/"), 1, "the answer is not HTTP"),
        (format!("http://{slow}/"), 1, "no answer within 300ms"),
        (
            format!("http://{nobody}/"),
            1,
            "nothing can be reached there: Connection refused",
        ),
        ("https://127.0.0.1/".into(), 2, "only http:// is supported"),
        ("readyz".into(), 2, "is not a URL"),
        (
            "http://u:hunter2@127.0.0.1/".into(),
            2,
            "is not a URL without user",
        ),
    ] {
        let timeout = if url.contains(&slow.to_string()) {
            "300ms"
        } else {
            "10s"
        };
        let ran = doorward
            .run(&["check", "--url", &url, "--timeout", timeout], "")
            .await;
        assert_eq!(ran.status.code(), Some(code), "{url}: {ran:?}");
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(
            all.contains(said) && !all.contains("hunter2"),
            "{url}: {all}"
        );
    }
    for timeout in ["soon", "0s"] {
        let url = format!("http://{ops}/readyz");
        let ran = doorward
            .run(&["check", "--url", &url, "--timeout", timeout], "")
            .await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    }

    // Without a URL, the settings give the address. With a URL, invalid settings do not matter.
    let listen = format!("listen.ops=0.0.0.0:{}", ops.port());
    let ran = doorward
        .run(&["--set", &listen, "check", "--output", "json"], "")
        .await
        .ok();
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    let url = format!("http://127.0.0.1:{}/readyz", ops.port());
    assert_eq!(
        said,
        json!({ "url": url, "ok": true, "status": 200, "why": null })
    );
    let unset = doorward.run(&["check"], "").await;
    assert_eq!(unset.status.code(), Some(2), "port 0: {unset:?}");
    let broken = ["--set", "jwt.secret=short", "check"];
    let ran = doorward.run(&broken, "").await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    doorward
        .run(&[&broken[..], &["--url", &url]].concat(), "")
        .await
        .ok();

    let (home, _) = doorward.stop().await;
    let ran = home.run(&["--set", &listen, "check"], "").await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(ran.stdout.contains("nothing can be reached"), "{ran:?}");
}
