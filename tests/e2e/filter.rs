//! The module inside Envoy: actions that Doorward answers, the module without a feed or with an old one, panics, shadow mode,
//! wrong configurations and stats. The core table, spoofing, paths, hosts, methods and the access log are tested together
//! with the other gateways.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    front::{ADA, BOB, Front, basic, tampered},
    harness::{
        Doorward, Envoy, EnvoyConfig, PATIENCE, Reply, Service, repository, send, try_send, until,
    },
    monitoring,
};

/// The committed configuration with more members in the module's part.
fn with(members: &str) -> impl Fn(EnvoyConfig) -> EnvoyConfig + use<> {
    let members = members.to_owned();
    move |_| {
        let line = "                          metadata: doorward\n";
        EnvoyConfig::module().replace(
            line,
            &format!("{line}                          {members}\n"),
        )
    }
}

async fn post(front: &Front, path: &str, bearer: Option<&str>, body: &Value) -> Reply {
    let headers: Vec<_> = [("content-type", "application/json")]
        .into_iter()
        .chain(bearer.map(|bearer| ("authorization", bearer)))
        .collect();
    send(front.envoy.edge, "POST", path, &headers, body.to_string()).await
}

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.header("authorization").unwrap().to_owned()
}

async fn status(front: &Front, bearer: &str) -> u16 {
    let headers = [("authorization", bearer)];
    front.send("GET", "/profile", &headers).await.status
}

const ENDPOINTS: &str = "
    [[route]]
    path = '/refresh'
    allow = 'refresh'
    [[route]]
    path = '/register'
    allow = 'register'
    [[route]]
    path = '/password'
    allow = 'password'
";

async fn with_endpoints(version: &str) -> Front {
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    Front::open(
        version,
        |settings| {
            settings
                .toml(format!("{rules}{ENDPOINTS}"))
                .env("DOORWARD_REFRESH__ENABLED", "true")
                .env("DOORWARD_SELF_SERVICE__REGISTER", "true")
                .env("DOORWARD_SELF_SERVICE__PASSWORD", "true");
        },
        |_| EnvoyConfig::module(),
    )
    .await
}

/// No route names these endpoints, and still no password reaches the service.
#[tokio::test(flavor = "multi_thread")]
async fn doorward_answers_requests_for_endpoints() {
    for version in Envoy::WITH_MODULES {
        let front = with_endpoints(version).await;
        let first = token(&front.login(BOB).await);
        let body = json!({ "username": BOB.0, "password": BOB.1 });
        let reply = post(&front, "/login", None, &body).await;
        let second = token(&reply);
        let refresh = reply.header("x-refresh-token").unwrap();
        let third = token(
            &post(
                &front,
                "/refresh",
                None,
                &json!({ "refresh_token": refresh }),
            )
            .await,
        );
        let new = json!({ "username": "carol", "password": "a-long-enough-pass-phrase" });
        let reply = post(&front, "/register", None, &new).await;
        assert_eq!(
            (reply.status, reply.text()),
            (201, "Registered"),
            "{version}"
        );
        token(&post(&front, "/login", None, &new).await);
        for (what, body, status) in [
            ("no body", String::new(), 401),
            ("half a body", "{\"username\":".into(), 400),
            ("a long body", "x".repeat(8193), 413),
        ] {
            let headers = [("content-type", "application/json")];
            let reply = send(front.envoy.edge, "POST", "/login", &headers, body).await;
            assert_eq!(reply.status, status, "{version} {what}: {reply:?}");
        }
        let wrong = front.login((BOB.0, "wrong")).await;
        assert_eq!(wrong.status, 401, "{version}");
        assert_eq!(front.service.requests(), 0, "{version}");
        for bearer in [&first, &second, &third] {
            assert_eq!(status(&front, bearer).await, 200, "{version}");
        }
    }
}

/// The module does not wait for the feed, which may take half a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_through_this_envoy_is_known_at_once() {
    for version in Envoy::WITH_MODULES {
        let front = with_endpoints(version).await;
        for round in 0..5 {
            let [one, other] = [
                token(&front.login(BOB).await),
                token(&front.login(BOB).await),
            ];
            let headers = [("authorization", &*one)];
            let reply = front.send("POST", "/logout", &headers).await;
            assert_eq!(
                (reply.status, reply.text()),
                (200, "Logged out"),
                "{version}"
            );
            assert_eq!(status(&front, &one).await, 401, "{version} {round}");
            assert_eq!(status(&front, &other).await, 200, "{version} {round}");
        }
        let [one, other] = [
            token(&front.login(BOB).await),
            token(&front.login(BOB).await),
        ];
        let headers = [("authorization", &*one)];
        let reply = front.send("POST", "/logout?all", &headers).await;
        assert_eq!(reply.status, 200, "{version}");
        for bearer in [&one, &other] {
            assert_eq!(status(&front, bearer).await, 401, "{version}");
        }
        let new = token(&front.login(BOB).await);
        assert_eq!(status(&front, &new).await, 200, "{version}");
        let change =
            json!({ "current_password": BOB.1, "new_password": "another-long-pass-phrase" });
        let changed = token(&post(&front, "/password", Some(&new), &change).await);
        assert_eq!(status(&front, &new).await, 401, "{version}");
        assert_eq!(status(&front, &changed).await, 200, "{version}");
        // Another user is not touched.
        let ada = token(&front.login(ADA).await);
        assert_eq!(status(&front, &ada).await, 200, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_elsewhere_is_known_within_two_seconds() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |_| EnvoyConfig::module()).await;
    let bob = front.bearer(BOB).await;
    assert_eq!(status(&front, &bob).await, 200);
    let headers = [("authorization", &*bob)];
    let reply = send(front.doorward.http, "POST", "/logout", &headers, "").await;
    assert_eq!(reply.status, 200);
    until("the logout is known", Duration::from_secs(2), async || {
        (status(&front, &bob).await == 401).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_can_pass_to_the_service_with_its_body() {
    for version in Envoy::WITH_MODULES {
        let front = Front::open(
            version,
            |settings| {
                settings.env("DOORWARD_LOGIN__REPLY", "through");
            },
            |_| {
                EnvoyConfig::module().replace("- match: { path: /login }", "- match: { path: /no }")
            },
        )
        .await;
        let body = json!({ "username": BOB.0, "password": BOB.1 });
        let headers = [("content-type", "application/json"), ("x-auth-user", "ada")];
        let reply = send(
            front.envoy.edge,
            "POST",
            "/login",
            &headers,
            body.to_string(),
        )
        .await;
        assert!(
            reply.text().contains("\"x-auth-user\",\"bob\""),
            "{version}: {reply:?}"
        );
        assert!(
            !reply.text().contains("\"x-auth-user\",\"ada\""),
            "{version}: {reply:?}"
        );
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{version}");
        assert_eq!(status(&front, &token(&reply)).await, 200, "{version}");
        assert_eq!(front.service.requests(), 2, "{version}");
        let refused = front.login((BOB.0, "wrong")).await;
        assert_eq!(refused.status, 401, "{version}");
        assert_eq!(front.service.requests(), 2, "{version}");
    }
}

/// Tokens pass until the feed is too old; then they get 503. Public routes always pass.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_pass_without_doorward_until_the_feed_is_stale() {
    for version in Envoy::WITH_MODULES {
        let address = [crate::harness::own_address(), crate::harness::own_address()];
        let front = Front::open(
            version,
            |settings| {
                settings
                    .env("DOORWARD_LISTEN__GRPC", address[0].to_string())
                    .env("DOORWARD_LISTEN__HTTP", address[1].to_string());
            },
            |_| {
                EnvoyConfig::module()
                    .replace("stale_after: 10s", "stale_after: 3s")
                    .replace(
                        "address: 127.0.0.1, port_value: 9001",
                        &at(address[0].ip(), 9001),
                    )
                    .replace(
                        "address: 127.0.0.1, port_value: 9002",
                        &at(address[1].ip(), 9002),
                    )
            },
        )
        .await;
        let bob = front.bearer(BOB).await;
        assert_eq!(status(&front, &bob).await, 200, "{version}");
        let Front {
            doorward,
            service,
            envoy,
        } = front;
        let home = doorward.kill();
        let ask = async |path: &str, bearer: &str| {
            let headers = [("authorization", bearer)];
            send(envoy.edge, "GET", path, &headers, "").await
        };
        assert_eq!(ask("/profile", &bob).await.status, 200, "{version}");
        let login = send(
            envoy.edge,
            "POST",
            "/login",
            &[("authorization", &*basic(BOB.0, BOB.1))],
            "",
        )
        .await;
        assert_eq!(
            (login.status, login.text()),
            (503, "Try again later"),
            "{version}"
        );
        let stale = until("it is too old", PATIENCE, async || {
            let reply = ask("/profile", &bob).await;
            (reply.status == 503).then_some(reply)
        })
        .await;
        assert_eq!(stale.header("retry-after"), Some("1"), "{version}");
        let public = send(envoy.edge, "GET", "/healthz", &[], "").await;
        assert_eq!(public.status, 200, "{version}");
        let _doorward = home.serve().await;
        until("tokens pass again", PATIENCE, async || {
            (ask("/profile", &bob).await.status == 200).then_some(())
        })
        .await;
        drop(service);
    }
}

fn at(address: std::net::IpAddr, port: u16) -> String {
    format!("address: {address}, port_value: {port}")
}

/// A feed that is switched off answers 404, as an unknown path does.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_passes_before_the_first_feed() {
    for version in Envoy::WITH_MODULES {
        let front = Front::open(
            version,
            |settings| {
                settings.env("DOORWARD_FEED__ENABLED", "false");
            },
            with("hold: 1s"),
        )
        .await;
        let bob = Front::login_directly(&front.doorward, BOB).await;
        for path in ["/healthz", "/profile", "/login"] {
            let headers = [("authorization", &*bob)];
            let reply = front.send("GET", path, &headers).await;
            assert_eq!(
                (reply.status, reply.text()),
                (503, "Try again later"),
                "{version} {path}"
            );
        }
        assert_eq!(front.service.requests(), 0, "{version}");
        let log = front.envoy.log();
        assert!(
            log.contains("feed.enabled is off there"),
            "{version}: {log}"
        );
        assert!(log.contains("Envoy starts without it"), "{version}: {log}");
        assert!(!log.contains(&bob[7..]), "{version}");
    }
}

/// Only a file in the configuration can give the module an HS256 secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_hs256_comes_from_a_file() {
    let secret = "7d3c0f1e9a8b4c2d6e5f00112233445566778899aabbccddeeff";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, secret).unwrap();
    let named = format!("secret_files: [{}]", file.display());
    for (members, status) in [(&*named, 200), ("hold: 1s", 503)] {
        let doorward = Doorward::prepare(|settings| {
            let rules = repository().join("examples/doorward.toml");
            settings
                .toml(fs::read_to_string(rules).unwrap())
                .env("DOORWARD_JWT__SECRET", secret)
                .env("DOORWARD_FEED__ENABLED", "true");
        });
        doorward.run(&["migrate"], "").await.ok();
        doorward.add_user(BOB.0, BOB.1, &[]).await;
        let front = Front::before(Envoy::NEWEST, doorward.serve().await, with(members)).await;
        let bob = Front::login_directly(&front.doorward, BOB).await;
        assert_eq!(self::status(&front, &bob).await, status, "{members}");
        assert!(!front.envoy.log().contains(secret));
    }
}

/// Envoy opens its listener only when the first feed is complete.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_does_not_listen_before_the_first_feed() {
    let address = crate::harness::own_address();
    let edge = crate::harness::free_address();
    let config = EnvoyConfig::module()
        .replace(
            "address: 127.0.0.1, port_value: 9002",
            &format!("address: {}, port_value: {}", address.ip(), address.port()),
        )
        .replace(
            "port_value: 8080 }",
            &format!("port_value: {} }}", edge.port()),
        )
        .replace("port_value: 9901 }", "port_value: 0 }");
    let service = Service::start().await;
    let mut envoy = Envoy::begin(Envoy::NEWEST, &config.service(service.address), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(envoy.exited().is_none(), "{}", envoy.log());
    assert!(try_send(edge, "GET", "/healthz", &[], "").await.is_err());
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let home = Doorward::prepare(|settings| {
        settings
            .toml(rules)
            .env("DOORWARD_FEED__ENABLED", "true")
            .env("DOORWARD_LISTEN__HTTP", address.to_string());
    });
    home.run(&["keys", "generate", "ES256"], "").await.ok();
    let _doorward = home.serve().await;
    // The first request that is answered at all is answered correctly.
    let reply = until("Envoy listens", PATIENCE, async || {
        try_send(edge, "GET", "/healthz", &[], "").await.ok()
    })
    .await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

/// In each hook: the request gets 503, and Envoy keeps running.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_one_request_with_503() {
    for hook in [
        "request_headers",
        "request_body",
        "response_headers",
        "callout_done",
    ] {
        let front = Front::open(Envoy::NEWEST, |_| {}, with(&format!("panic_in: {hook}"))).await;
        let bob = Front::login_directly(&front.doorward, BOB).await;
        for _ in 0..3 {
            let reply = match hook {
                "request_body" | "callout_done" => {
                    let body = json!({ "username": BOB.0, "password": BOB.1 });
                    post(&front, "/login", None, &body).await.status
                }
                _ => status(&front, &bob).await,
            };
            assert_eq!(reply, 503, "{hook}");
        }
        let log = front.envoy.log();
        assert!(log.contains("doorward: panicked at"), "{hook}: {log}");
        assert_eq!(front.envoy.ask("/ready").await.status, 200, "{hook}");
    }
    // Panics on the main thread: no answer of the feed is taken, so nobody passes.
    for hook in ["scheduled", "config_callout_done"] {
        let config = with(&format!("panic_in: {hook}"));
        let alone = move |own| config(own).without_bootstrap();
        let front = Front::open(Envoy::NEWEST, |_| {}, alone).await;
        until("the panic is logged", PATIENCE, async || {
            front
                .envoy
                .log()
                .contains("doorward: panicked at")
                .then_some(())
        })
        .await;
        let reply = front.send("GET", "/healthz", &[]).await;
        assert_eq!(reply.status, 503, "{hook}");
    }
}

/// It counts, writes metadata for the access log, and changes nothing; ext_authz behind it decides.
#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_judges_and_changes_nothing() {
    let filter = EnvoyConfig::committed().filters().to_owned();
    let both = move |own| {
        with("shadow: true")(own).replace(
            "                  - name: envoy.filters.http.router\n",
            &format!("{filter}                  - name: envoy.filters.http.router\n"),
        )
    };
    let front = Front::open(Envoy::NEWEST, |_| {}, both).await;
    let bob = front.bearer(BOB).await;
    let bad = tampered(&bob);
    for (shown, status, reason) in [
        (None, 401, "missing-token"),
        (Some(&bob), 200, "token"),
        (Some(&bad), 401, "token-signature"),
    ] {
        let headers: Vec<_> = shown
            .map(|value| ("authorization", &**value))
            .into_iter()
            .collect();
        let path = format!("/profile/{reason}");
        let reply = front.send("GET", &path, &headers).await;
        assert_eq!(reply.status, status, "{reply:?}");
        let line = front
            .envoy
            .accessed(reason, |line| line["path"] == *path)
            .await;
        assert_eq!(line["reason"], reason, "{line}");
    }
    let stats = front.envoy.ask("/stats?filter=doorward_decisions").await;
    assert!(stats.text().contains("deny"), "{}", stats.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_not_understood_is_refused() {
    for (from, to, fault) in [
        (
            "metadata: doorward",
            "metadatum: doorward",
            "unknown field `metadatum`",
        ),
        (
            "stale_after: 10s",
            "stale_after: soon",
            "the configuration is not understood",
        ),
        (
            "stale_after: 10s",
            "stale_after: 1ms",
            "a time from 50ms to a year is needed",
        ),
        (
            "feed: { cluster: doorward_http, stale_after: 10s }",
            "shadow: false",
            "neither \"feed\" nor \"content\"",
        ),
    ] {
        let config = EnvoyConfig::module().replace(from, to).free_ports();
        for version in Envoy::WITH_MODULES {
            let mut envoy = Envoy::begin(version, &config, 1);
            until("it has ended", PATIENCE, async || envoy.exited()).await;
            assert!(
                envoy.log().contains(fault),
                "{version} {to}: {}",
                envoy.log()
            );
        }
    }
}

/// 1.36 has no bootstrap extensions of modules; with the filter alone, the module says what it needs.
#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_is_too_old_logs_the_reason() {
    let config = EnvoyConfig::module().free_ports().without_bootstrap();
    let mut envoy = Envoy::begin(Envoy::OLDEST, &config, 1);
    until("it has ended", PATIENCE, async || envoy.exited()).await;
    let log = envoy.log();
    assert!(
        log.contains("the module needs Envoy 1.38, 1.39 or 1.40"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_stats_show_decisions_and_the_feed() {
    for version in Envoy::WITH_MODULES {
        let front = Front::open(version, |_| {}, |_| EnvoyConfig::module()).await;
        let bob = front.bearer(BOB).await;
        for _ in 0..7 {
            assert_eq!(status(&front, &bob).await, 200);
        }
        assert_eq!(front.send("GET", "/profile", &[]).await.status, 401);
        let metrics = until("all are counted", PATIENCE, async || {
            // A request adds passes to Envoy's counter once a second.
            front.send("GET", "/healthz", &[]).await;
            let reply = front.envoy.ask("/stats/prometheus?filter=doorward_").await;
            let text = reply.text().to_owned();
            let passed = sum(&text, "decisions{", &["reason=\"token\""]);
            // Envoy adds to histograms when it flushes its stats, every five seconds.
            let asked = sum(&text, "asked_milliseconds_count{", &[]);
            (text.contains("missing-token") && passed == 7 && asked == 1).then_some(text)
        })
        .await;
        let by_rule = |rule: &str, verdict: &str| {
            let labels = [format!("rule=\"{rule}\""), format!("verdict=\"{verdict}\"")];
            sum(
                &metrics,
                "rule_decisions{",
                &labels.each_ref().map(|label| &**label),
            )
        };
        assert_eq!(by_rule("/*", "allow"), 7, "{version}: {metrics}");
        assert_eq!(by_rule("/*", "deny"), 1, "{version}: {metrics}");
        assert_eq!(by_rule("POST /login", "ask"), 1, "{version}: {metrics}");
        let remembered = sum(&metrics, "remembered_tokens{", &[]);
        assert_eq!(remembered, 1, "{version}: {metrics}");
        let asked = monitoring::asked_of_the_module();
        assert!(asked.len() >= 7, "{asked:?}");
        for name in asked {
            let starts = |line: &str| line.starts_with(&format!("{name}{{"));
            assert!(metrics.lines().any(starts), "{version} {name}: {metrics}");
        }
        assert!(sum(&metrics, "memory_bytes{", &[]) > 0);
    }
}

/// The sum of a metric of the module over all series with these labels, in Envoy's text for Prometheus.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let name = format!("envoy_dynamicmodulescustom_doorward_{name}");
    let lines = metrics.lines().filter(|line| line.starts_with(&name));
    lines
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// Rules of a file next to Envoy are in force instead of those of the feed, and a wrong file is refused.
#[tokio::test(flavor = "multi_thread")]
async fn rules_can_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.toml");
    let named = format!("rules_file: {}", file.display());
    let rules = "[[route]]\npath = \"/*\"\nallow = \"signed-in\"\n\n[[route]]\npath = \"/profile\"\nallow = \"nobody\"\n";
    fs::write(&file, rules).unwrap();
    let front = Front::open(Envoy::NEWEST, |_| {}, with(&named)).await;
    let bob = Front::login_directly(&front.doorward, BOB).await;
    assert_eq!(status(&front, &bob).await, 403);
    let headers = [("authorization", &*bob)];
    assert_eq!(front.send("GET", "/other", &headers).await.status, 200);
    // Public by Doorward's own rules.
    assert_eq!(front.send("GET", "/healthz", &[]).await.status, 401);

    let refused = async |members: &str, fault: &str| {
        let config = with(members)(EnvoyConfig::module()).free_ports();
        let mut envoy = Envoy::begin(Envoy::NEWEST, &config, 1);
        until("it has ended", PATIENCE, async || envoy.exited()).await;
        assert!(envoy.log().contains(fault), "{members}: {}", envoy.log());
    };
    let rule = "rules: [{ path: \"/*\", allow: public }]";
    let both = format!("{named}\n                          content: {{ {rule} }}");
    refused(&both, "both say which rules").await;
    refused("rules_file: /nowhere/rules.toml", "/nowhere/rules.toml: ").await;
    fs::write(&file, "[[route]]\npath = \"/a\"\nallow = \"everybody\"\n").unwrap();
    refused(&named, "rules.toml:3: route[0].allow: ").await;
    fs::write(&file, "").unwrap();
    refused(&named, "has no [[route]]").await;
}
