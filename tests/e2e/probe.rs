//! `doorward probe` through real gateways: it passes if Doorward decides every request, and fails if it does not.

mod questions;

use std::{collections::BTreeMap, fs, net::SocketAddr};

use serde_json::Value;

use crate::{
    front::{ADA, Front},
    harness::{
        Doorward, Envoy, EnvoyConfig, Gateway, Home, START, Service, Settings, repository, until,
    },
};

const KEY: &str = "9d2f61c07b3e48a5bc10d7f2e6549831a7c0be524f6d8139";
const ANOTHER: &str = "1c7e09b4d8f25a63e90b7d1f4a2c8e5637f0d9b1c4a8e265";

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
path = "/closed"
allow = "nobody"

[[route]]
path = "/*"
allow = "signed-in"
"#;

fn settings(settings: &mut Settings) {
    settings.toml(RULES).env("DOORWARD_PROBE__KEY", KEY);
}

/// What a probe found.
struct Found {
    status: Option<i32>,
    json: Value,
}

impl Found {
    /// The findings of the rule's checks, by check.
    fn of(&self, rule: &str) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let checks = self.json["checks"].as_array().unwrap().iter();
        let own = checks.filter(|check| check["rule"] == rule);
        own.map(|check| (text(&check["check"]), text(&check["finding"])))
            .collect()
    }

    fn is_good(&self, what: &str) {
        assert_eq!(self.status, Some(0), "{what}: {:#}", self.json);
        assert_eq!(self.json["ok"], true, "{what}");
        assert_eq!(self.json["checks"].as_array().unwrap().len(), 32, "{what}");
        assert_eq!(self.json["skipped"][0]["rule"], "POST /login", "{what}");
    }

    fn is_bad(&self, what: &str) {
        assert_eq!(self.status, Some(1), "{what}: {:#}", self.json);
        assert_eq!(self.json["ok"], false, "{what}");
    }
}

async fn probe(home: &Home, edge: SocketAddr, more: &[&str]) -> Found {
    let url = format!("http://{edge}");
    let arguments = ["probe", &url, "--rate", "200", "--output", "json"];
    let arguments: Vec<_> = arguments.iter().chain(more).copied().collect();
    let ran = home.run(&arguments, "").await;
    let json = serde_json::from_str(&ran.stdout).unwrap_or_else(|fault| panic!("{fault}: {ran:?}"));
    Found {
        status: ran.status.code(),
        json,
    }
}

async fn envoy(version: &str, config: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Front {
    let home = Doorward::prepare(settings);
    home.run(&["migrate"], "").await.ok();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    Front::before(version, home.serve().await, config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn doorward_is_found_behind_every_gateway() {
    for version in Envoy::VERSIONS {
        let front = envoy(version, |config| config).await;
        let found = probe(front.doorward.home(), front.envoy.edge, &[]).await;
        found.is_good(version);
        assert_eq!(front.service.requests(), 0, "a probe reached the service");
    }
    for gateway in Gateway::ALL {
        let doorward = Doorward::prepare(settings).serve().await;
        let service = Service::start().await;
        let proxy = gateway
            .start(doorward.http, service.address, |text| text)
            .await;
        let before = service.requests();
        let found = probe(doorward.home(), proxy.edge, &[]).await;
        found.is_good(&format!("{gateway:?}"));
        assert_eq!(
            service.requests(),
            before,
            "{gateway:?}: a probe reached the service"
        );
    }
}

fn all_open(found: &BTreeMap<String, String>) -> bool {
    ["anonymous", "forged-identity"]
        .iter()
        .all(|check| found[*check] == "open")
}

fn all_guarded(found: &BTreeMap<String, String>) -> bool {
    let good = |finding: &String| finding == "guarded" || finding == "gateway";
    found["anonymous"] == "guarded" && found.values().all(good)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_on_which_the_filter_is_disabled_is_found() {
    for version in Envoy::VERSIONS {
        let front = envoy(version, |config| {
            let route = "                        - match: { prefix: / }\n";
            let disabled = "                        - match: { prefix: /admin }\n                          route: { cluster: service }\n                          typed_per_filter_config:\n                            envoy.filters.http.ext_authz:\n                              \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n                              disabled: true\n";
            config.replace(route, &format!("{disabled}{route}"))
        })
        .await;
        let found = probe(front.doorward.home(), front.envoy.edge, &[]).await;
        found.is_bad(version);
        assert!(
            all_open(&found.of("/admin/*")),
            "{version}: {:#}",
            found.json
        );
        for rule in ["/open/*", "/closed", "/*"] {
            assert!(
                all_guarded(&found.of(rule)),
                "{version} {rule}: {:#}",
                found.json
            );
        }
    }
}

/// What the probe finds behind an nginx with a changed configuration.
async fn through_nginx(change: impl Fn(String) -> String) -> Found {
    let doorward = Doorward::prepare(settings).serve().await;
    let service = Service::start().await;
    let proxy = Gateway::Nginx
        .start(doorward.http, service.address, change)
        .await;
    probe(doorward.home(), proxy.edge, &[]).await
}

fn before_everything(text: String, location: &str) -> String {
    let everything = "        location / {\n";
    assert!(text.contains(everything));
    text.replace(everything, &format!("{location}\n{everything}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_the_filter_is_found() {
    let found = through_nginx(|text| {
        before_everything(
            text,
            "        location /admin { proxy_pass http://service; }",
        )
    })
    .await;
    found.is_bad("nginx");
    assert!(all_open(&found.of("/admin/*")), "{:#}", found.json);
    assert!(all_guarded(&found.of("/closed")), "{:#}", found.json);
}

/// nginx runs `return` before auth_request, so it answers before it asks Doorward.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_comes_too_late_is_found() {
    let found = through_nginx(|text| {
        let late = "        location /admin { auth_request /.doorward; return 200 served; }";
        before_everything(text, late)
    })
    .await;
    found.is_bad("nginx");
    assert!(all_open(&found.of("/admin/*")), "{:#}", found.json);
    assert!(all_guarded(&found.of("/closed")), "{:#}", found.json);
}

/// Envoy refuses a chain in which a filter follows the router, so the listener keeps the chain from before.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_behind_the_router_is_found() {
    let behind = |config: EnvoyConfig| {
        config.change(|text| {
            let name = "                  - name: envoy.filters.http.ext_authz\n";
            let router = "                  - name: envoy.filters.http.router\n                    typed_config:\n                      \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n";
            assert!(text.contains(name) && text.contains(router));
            text.replacen(router, "", 1).replacen(name, &format!("{router}{name}"), 1)
        })
    };
    let front = envoy(Envoy::NEWEST, |config| config).await;
    let config = behind(EnvoyConfig::committed())
        .free_ports()
        .doorward(front.doorward.grpc)
        .service(front.service.address);
    let mut refused = Envoy::begin(Envoy::NEWEST, &config, 1);
    until("Envoy refuses the chain", START, async || refused.exited()).await;
    assert!(refused.log().contains("terminal"), "{}", refused.log());
    // The chain from before has no filter.
    let without = envoy(Envoy::NEWEST, |config| {
        config.change(|text| {
            let (before, rest) = text
                .split_once("                  - name: envoy.filters.http.ext_authz\n")
                .unwrap();
            let router = rest
                .find("                  - name: envoy.filters.http.router\n")
                .unwrap();
            let text = format!("{before}{}", &rest[router..]);
            // Routes without the filter cannot configure it.
            without_per_route(&text)
        })
    })
    .await;
    let found = probe(without.doorward.home(), without.envoy.edge, &[]).await;
    found.is_bad("without");
    for rule in ["/open/*", "/admin/*", "/closed", "/*"] {
        assert!(all_open(&found.of(rule)), "{rule}: {:#}", found.json);
    }
}

/// Drops every `typed_per_filter_config` with what belongs to it.
fn without_per_route(text: &str) -> String {
    let mut kept = Vec::new();
    let mut within = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if within.is_some_and(|outer| indent > outer && !line.trim().is_empty()) {
            continue;
        }
        within = None;
        if line.trim_start().starts_with("typed_per_filter_config:") {
            within = Some(indent);
            continue;
        }
        kept.push(line);
    }
    kept.join("\n") + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_lets_requests_pass_without_doorward_is_found() {
    for version in Envoy::VERSIONS {
        let open = envoy(version, |config| {
            config.replace("failure_mode_allow: false", "failure_mode_allow: true")
        })
        .await;
        let Front {
            doorward,
            service,
            envoy,
        } = open;
        let home = doorward.kill();
        let found = probe(&home, envoy.edge, &[]).await;
        found.is_bad(version);
        assert!(
            all_open(&found.of("/closed")),
            "{version}: {:#}",
            found.json
        );
        drop(service);
    }
    // Without Doorward, a gateway that fails closed lets nothing pass; the probe says that nothing is proven.
    let closed = envoy(Envoy::NEWEST, |config| config).await;
    let Front {
        doorward,
        service: _service,
        envoy,
    } = closed;
    let home = doorward.kill();
    let found = probe(&home, envoy.edge, &[]).await;
    found.is_bad("closed");
    assert_eq!(
        found.of("/closed")["anonymous"],
        "unproven",
        "{:#}",
        found.json
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_401_and_other_rules_are_told_apart() {
    let front = envoy(Envoy::NEWEST, |config| config).await;
    let edge = front.envoy.edge;
    // A Doorward with another key refuses as usual.
    let stranger = Doorward::prepare(|settings| {
        settings.toml(RULES).env("DOORWARD_PROBE__KEY", ANOTHER);
    });
    let found = probe(&stranger, edge, &[]).await;
    found.is_bad("another key");
    assert_eq!(
        found.of("/admin/*")["anonymous"],
        "unproven",
        "{:#}",
        found.json
    );
    assert_eq!(found.json["checks"][0]["decided_by"], Value::Null);
    // Rules that are not in force.
    let changed = Doorward::prepare(|settings| {
        let rules = RULES.replace(
            "path = \"/closed\"\nallow = \"nobody\"",
            "path = \"/closed\"\nallow = \"public\"",
        );
        settings.toml(rules).env("DOORWARD_PROBE__KEY", KEY);
    });
    let found = probe(&changed, edge, &[]).await;
    found.is_bad("other rules");
    assert_eq!(
        found.of("/closed")["anonymous"],
        "differs",
        "{:#}",
        found.json
    );
    assert!(all_guarded(&found.of("/admin/*")), "{:#}", found.json);
    // Without a key the probe sends nothing.
    let without = Doorward::prepare(|settings| {
        settings.toml(RULES);
    });
    let ran = without.run(&["probe", &format!("http://{edge}")], "").await;
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stderr.contains("probe.key is not set"), "{ran:?}");
    for url in [
        "gateway",
        "ftp://gateway",
        "http://u:hunter2@gateway",
        "http://gateway/path",
    ] {
        let ran = stranger.run(&["probe", url], "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_has_the_result_and_the_skipped_rules_and_the_rate_is_kept() {
    let front = envoy(Envoy::NEWEST, |config| config).await;
    let url = format!("http://{}", front.envoy.edge);
    let started = std::time::Instant::now();
    let ran = front
        .doorward
        .home()
        .run(&["probe", &url, "--rate", "40"], "")
        .await
        .ok();
    // 32 requests with 31 pauses of 25 ms.
    assert!(
        started.elapsed() >= std::time::Duration::from_millis(775),
        "{:?}",
        started.elapsed()
    );
    assert!(
        ran.stdout
            .contains("Doorward is in the way of all 32 requests."),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout
            .contains("not asked: POST /login: it is for methods"),
        "{}",
        ran.stdout
    );
    let all = probe(
        front.doorward.home(),
        front.envoy.edge,
        &["--unsafe-methods"],
    )
    .await;
    assert_eq!(all.status, Some(0), "{:#}", all.json);
    assert_eq!(
        all.of("POST /login")["anonymous"],
        "guarded",
        "{:#}",
        all.json
    );
    let text = fs::read_to_string(repository().join("envoy/envoy-http.yaml")).unwrap();
    assert!(text.contains("x-doorward-probe"));
}
