//! `doorward policy replay`: other rules, and logs that real gateways and Doorward wrote.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    direct,
    front::{ADA, BOB, Front, basic},
    harness::{Doorward, Envoy, EnvoyConfig, Gateway, Home, PATIENCE, Ran, Service, send, until},
};

const RULES: &str = r#"
[[route]]
path = "/login"
allow = "login"

[[route]]
path = "/open/*"
allow = "public"

[[route]]
path = "/admin/*"
allow = "role:admin"

[[route]]
path = "/*"
allow = "signed-in"
"#;

const NEXT: &str = r#"
[[route]]
path = "/login"
allow = "login"

[[route]]
path = "/open/*"
allow = "public"

[[route]]
path = "/open/secret"
allow = "nobody"

[[route]]
path = "/admin/*"
allow = "public"

[[route]]
path = "/*"
allow = "role:editor"
"#;

async fn prepared() -> Home {
    let home = Doorward::prepare(|settings| {
        settings
            .toml(RULES)
            .env("DOORWARD_LOG__LEVEL", "debug")
            .env("DOORWARD_CLIENT_ADDRESS", "peer");
    });
    fs::write(home.dir().join("next.toml"), NEXT).unwrap();
    home.run(&["migrate"], "").await.ok();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
    home
}

/// Requests of every kind, and how often each is sent.
async fn traffic(edge: std::net::SocketAddr, ada: &str, bob: &str) {
    for (path, bearer, times) in [
        ("/open/a", None, 3),
        ("/open/secret?token=hidden", None, 4),
        ("/admin/x", None, 5),
        ("/admin/x", Some(ada), 2),
        ("/admin/x", Some(bob), 1),
        ("/profile", Some(bob), 2),
        ("/profile", None, 1),
    ] {
        for _ in 0..times {
            let headers: Vec<_> = bearer
                .map(|value| ("authorization", value))
                .into_iter()
                .collect();
            let reply = send(edge, "GET", path, &headers, "").await;
            assert!([200, 401, 403].contains(&reply.status), "{path} {reply:?}");
        }
    }
}

async fn replayed(home: &Home, log: &str, more: &[&str]) -> (Ran, Value) {
    fs::write(home.dir().join("access.log"), log).unwrap();
    let arguments = [
        "policy",
        "replay",
        "access.log",
        "--rules",
        "next.toml",
        "--output",
        "json",
    ];
    let arguments: Vec<_> = arguments.iter().chain(more).copied().collect();
    let ran = home.run(&arguments, "").await;
    let json = serde_json::from_str(&ran.stdout).unwrap_or_else(|fault| panic!("{fault}: {ran:?}"));
    (ran, json)
}

/// The changes as `rule -> next rule direction certain possible`, sorted.
fn changes(json: &Value) -> Vec<String> {
    let changed = json["changed"].as_array().unwrap().iter();
    let mut changed: Vec<_> = changed
        .map(|one| {
            format!(
                "{} -> {} {} {} {}",
                one["rule"].as_str().unwrap(),
                one["next_rule"].as_str().unwrap(),
                one["direction"].as_str().unwrap(),
                one["certain"],
                one["possible"]
            )
        })
        .collect();
    changed.sort();
    changed
}

/// The changes if the log has only the status of each request, not who asked; `secret` requests were for `/open/secret`.
fn as_a_gateway_logs(what: &str, ran: &Ran, json: &Value, secret: u64) {
    assert_eq!(ran.status.code(), Some(1), "{what}: {ran:?}");
    assert_eq!(
        changes(json),
        [
            // Whoever passed may or may not be an editor.
            "/* -> /* would-be-denied 0 2".to_owned(),
            // Refused before, public with the next rules: five without a token, and bob.
            "/admin/* -> /admin/* would-pass 6 0".to_owned(),
            format!("/open/* -> /open/secret would-be-denied {secret} 0"),
        ],
        "{what}: {json:#}"
    );
    let top = &json["top"][0];
    assert!(
        top["request"].as_str().unwrap().ends_with("/admin/x"),
        "{what}: {json:#}"
    );
    assert_eq!(top["count"], 6, "{what}: {json:#}");
    assert!(!json.to_string().contains("hidden"), "{what}: {json:#}");
}

async fn through_envoy(what: &str, config: impl FnOnce(EnvoyConfig) -> EnvoyConfig) {
    let home = prepared().await;
    let front = Front::before(Envoy::NEWEST, home.serve().await, config).await;
    let (ada, bob) = (
        direct::bearer(&front.doorward, ADA).await,
        direct::bearer(&front.doorward, BOB).await,
    );
    traffic(front.envoy.edge, &ada, &bob).await;
    let log = until("all lines", PATIENCE, async || {
        let text = front.envoy.access_text();
        (text.lines().count() == 18).then_some(text)
    })
    .await;
    let (ran, json) = replayed(front.doorward.home(), &log, &[]).await;
    assert_eq!(
        (&json["lines"], &json["requests"], &json["unreadable"]),
        (&json!(18), &json!(18), &json!(0))
    );
    as_a_gateway_logs(what, &ran, &json, 4);
}

/// Cuts the format out of the access log, so that Envoy writes its default.
fn default_format(config: EnvoyConfig) -> EnvoyConfig {
    config.change(|text| {
        let (before, rest) = text
            .split_once("                      log_format:\n")
            .unwrap();
        let end = rest.find("\n                #").unwrap();
        format!("{before}{}", &rest[end + 1..])
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_log_of_envoy() {
    through_envoy("Envoy's text", default_format).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_log_of_envoy() {
    // As Istio and others write it, without Doorward's decision.
    through_envoy("Envoy's JSON", |config| {
        config.change(|text| {
            let kept = text.lines().filter(|line| !line.contains("%DYNAMIC_METADATA("));
            let kept = kept.map(|line| line.replace("status: \"%RESPONSE_CODE%\"", "response_code: \"%RESPONSE_CODE%\"\n                          authority: \"%REQ(:AUTHORITY)%\""));
            kept.collect::<Vec<_>>().join("\n") + "\n"
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_nginx() {
    for format in ["combined", "common"] {
        let home = prepared().await;
        let doorward = home.serve().await;
        let service = Service::start().await;
        let nginx = Gateway::Nginx
            .start(doorward.http, service.address, |text| {
                let common = "log_format common '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent';";
                text.replace("    access_log off;", &format!("    {common}\n    access_log /dev/stdout {format};"))
            })
            .await;
        let (ada, bob) = (
            direct::bearer(&doorward, ADA).await,
            direct::bearer(&doorward, BOB).await,
        );
        traffic(nginx.edge, &ada, &bob).await;
        let named = basic("carol", "secret");
        send(
            nginx.edge,
            "GET",
            "/open/secret",
            &[("authorization", &named)],
            "",
        )
        .await;
        let log = until("all lines", PATIENCE, async || {
            let text = nginx.log();
            let requests = text
                .lines()
                .filter(|line| line.contains("HTTP/1.1\" ") && !line.contains("\"GET / "));
            let lines: Vec<_> = requests.map(str::to_owned).collect();
            (lines.len() == 19).then(|| lines.join("\n"))
        })
        .await;
        let (ran, json) = replayed(doorward.home(), &log, &[]).await;
        assert_eq!(
            (&json["requests"], &json["unreadable"]),
            (&json!(19), &json!(0)),
            "{log}"
        );
        // Users are shown where the log has them.
        assert_eq!(
            json["users"],
            json!([{"user": "carol", "count": 1}]),
            "{format}"
        );
        as_a_gateway_logs(format, &ran, &json, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_doorward_knows_who_asked() {
    for format in ["json", "text"] {
        let home = prepared().await.with(|settings| {
            settings.env("DOORWARD_LOG__FORMAT", format);
        });
        let (ran, json) = match format {
            "json" => {
                let front = Front::before(Envoy::NEWEST, home.serve().await, |config| config).await;
                let (ada, bob) = (
                    direct::bearer(&front.doorward, ADA).await,
                    direct::bearer(&front.doorward, BOB).await,
                );
                traffic(front.envoy.edge, &ada, &bob).await;
                let output = front.doorward.output();
                // Without what the program prints for people.
                let log: Vec<_> = output
                    .lines()
                    .filter(|line| line.starts_with('{'))
                    .collect();
                let log = log.join("\n");
                replayed(front.doorward.home(), &log, &[]).await
            }
            // The harness reads JSON; these lines are those of a Doorward that writes text.
            _ => {
                let line = |path: &str, verdict: &str, reason: &str, sub: &str| {
                    format!(
                        "2026-11-30T06:00:00.000001Z  INFO {verdict} door=\"grpc\" client=127.0.0.1 method=GET host=a path={path} rule=\"x\" reason=\"{reason}\"{sub} request_id=\"r\" micros=5\n"
                    )
                };
                let mut log =
                    "2026-11-30T06:00:00.000001Z  INFO serving grpc=127.0.0.1:1\n".to_owned();
                for (path, verdict, reason, sub, times) in [
                    ("/open/a", "allow", "anonymous", "", 3),
                    ("/open/secret", "allow", "anonymous", "", 4),
                    ("/admin/x", "deny", "missing-token", "", 5),
                    ("/admin/x", "allow", "token", " sub=\"1\"", 2),
                    ("/admin/x", "deny", "missing-role", " sub=\"2\"", 1),
                    ("/profile", "allow", "token", " sub=\"2\"", 2),
                    ("/profile", "deny", "missing-token", "", 1),
                ] {
                    for _ in 0..times {
                        log += &line(path, verdict, reason, sub);
                    }
                }
                replayed(&home, &log, &[]).await
            }
        };
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert_eq!(json["unreadable"], 0, "{format}: {json:#}");
        assert_eq!(
            changes(&json),
            [
                "/* -> /* would-be-denied 0 2",
                "/admin/* -> /admin/* would-pass 6 0",
                "/open/* -> /open/secret would-be-denied 4 0",
            ],
            "{format}: {json:#}"
        );
        // bob: two passes that may end, and one refusal.
        assert_eq!(
            json["users"].as_array().unwrap().len(),
            1,
            "{format}: {json:#}"
        );
        assert_eq!(json["users"][0]["count"], 3, "{format}: {json:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lines_are_counted_and_the_same_rules_change_nothing() {
    const LINES: usize = 100_000;
    let home = Doorward::prepare(|settings| {
        settings.toml(RULES);
    });
    fs::write(home.dir().join("next.toml"), NEXT).unwrap();
    fs::write(home.dir().join("same.toml"), RULES).unwrap();
    let mut log = String::new();
    for number in 0..LINES {
        let (path, status) = match number % 4 {
            0 => ("/open/secret", 200),
            1 => ("/admin/x", 401),
            2 => ("/open/a\\x1b[31m", 200),
            _ => ("/profile", 401),
        };
        writeln!(log, "127.0.0.1 - - [30/Nov/2026:06:00:00 +0000] \"GET {path} HTTP/1.1\" {status} 12 \"-\" \"agent\"").unwrap();
    }
    log += "nonsense\n";
    let started = Instant::now();
    let (_, json) = replayed(&home, &log, &[]).await;
    // A build without optimisations, beside other tests.
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
    eprintln!("{LINES} lines in {:?}", started.elapsed());
    assert_eq!(
        (&json["lines"], &json["unreadable"]),
        (&json!(LINES + 1), &json!(1))
    );
    assert_eq!(json["ambiguous"], LINES / 4);
    assert_eq!(
        changes(&json),
        [
            format!("/admin/* -> /admin/* would-pass {} 0", LINES / 4),
            format!("/open/* -> /open/secret would-be-denied {} 0", LINES / 4),
        ]
    );
    let text = home
        .run(
            &["policy", "replay", "access.log", "--rules", "next.toml"],
            "",
        )
        .await;
    assert!(
        text.stdout.contains("would-be-denied") && !text.stdout.contains('\x1b'),
        "{text:?}"
    );
    let same = home
        .run(&["policy", "replay", "-", "--rules", "same.toml"], &log)
        .await
        .ok();
    assert!(same.stdout.contains("No verdict changes."), "{same:?}");
    let none = home.run(&["policy", "replay", "access.log"], "").await;
    assert_eq!(none.status.code(), Some(2));
    assert!(none.stderr.contains("--rules"), "{none:?}");

    // Rules for hosts, and a log without hosts.
    fs::write(
        home.dir().join("next.toml"),
        format!(
            "{NEXT}\n[[route]]\npath = \"/*\"\nhosts = [\"shop.example\"]\nallow = \"public\"\n"
        ),
    )
    .unwrap();
    let (_, without) = replayed(&home, &log, &[]).await;
    assert_eq!(without["without_host"], LINES * 3 / 4);
    let (_, with) = replayed(&home, &log, &["--host", "shop.example"]).await;
    assert_eq!(with["without_host"], 0);
    assert!(
        changes(&with).contains(&format!("/* -> shop.example/* would-pass {} 0", LINES / 4)),
        "{with:#}"
    );
}
