//! The core table of the design: every row through every Envoy, with headers in either field of the check.

use crate::{
    front::{ADA, BOB, Front, basic, tampered},
    harness::{Envoy, EnvoyConfig, Reply},
};

const NONE: &str = "";

#[derive(Clone, Copy)]
enum Shown<'a> {
    Nothing,
    Value(&'a str),
}

async fn ask(front: &Front, method: &str, path: &str, shown: Shown<'_>) -> Reply {
    match shown {
        Shown::Nothing => front.send(method, path, &[]).await,
        Shown::Value(value) => front.send(method, path, &[("authorization", value)]).await,
    }
}

async fn every_row(version: &str, config: fn(EnvoyConfig) -> EnvoyConfig) {
    let front = Front::open(version, |_| {}, config).await;
    let (admin, plain) = (front.bearer(ADA).await, front.bearer(BOB).await);
    let bad = tampered(&plain);
    let (good_basic, wrong_basic) = (basic(BOB.0, BOB.1), basic(BOB.0, "wrong"));
    let challenge = "Bearer realm=\"doorward\"";
    let invalid = "Bearer realm=\"doorward\", error=\"invalid_token\"";
    let scope = "Bearer realm=\"doorward\", error=\"insufficient_scope\"";
    let please_log_in = "Basic realm=\"doorward\", charset=\"UTF-8\"";
    let nothing = Shown::Nothing;
    let value = Shown::Value;
    for (method, path, shown, status, authenticate, body) in [
        (
            "GET",
            "/healthz",
            nothing,
            200,
            NONE,
            "\"path\":\"/healthz\"",
        ),
        (
            "GET",
            "/healthz",
            value(&good_basic),
            200,
            NONE,
            "\"path\":\"/healthz\"",
        ),
        (
            "GET",
            "/healthz",
            value(&plain),
            200,
            NONE,
            "\"x-auth-user\",\"bob\"",
        ),
        (
            "GET",
            "/healthz",
            value(&bad),
            200,
            NONE,
            "\"path\":\"/healthz\"",
        ),
        (
            "POST",
            "/login",
            nothing,
            401,
            please_log_in,
            "Missing credentials",
        ),
        ("POST", "/login", value(&good_basic), 200, NONE, "eyJ"),
        (
            "POST",
            "/login",
            value(&wrong_basic),
            401,
            please_log_in,
            "Invalid credentials",
        ),
        (
            "POST",
            "/login",
            value(&plain),
            401,
            please_log_in,
            "Missing credentials",
        ),
        (
            "POST",
            "/login",
            value(&bad),
            401,
            please_log_in,
            "Missing credentials",
        ),
        ("GET", "/profile", nothing, 401, challenge, "Missing token"),
        (
            "GET",
            "/profile",
            value(&good_basic),
            401,
            challenge,
            "Missing token",
        ),
        (
            "GET",
            "/profile",
            value(&plain),
            200,
            NONE,
            "\"user\":\"bob\"",
        ),
        (
            "GET",
            "/profile",
            value(&bad),
            401,
            invalid,
            "Invalid token",
        ),
        (
            "GET",
            "/admin/users",
            nothing,
            401,
            challenge,
            "Missing token",
        ),
        (
            "GET",
            "/admin/users",
            value(&good_basic),
            401,
            challenge,
            "Missing token",
        ),
        (
            "GET",
            "/admin/users",
            value(&plain),
            403,
            scope,
            "Not authorized",
        ),
        ("GET", "/admin/users", value(&admin), 200, NONE, "\"users\""),
        (
            "GET",
            "/admin/users",
            value(&bad),
            401,
            invalid,
            "Invalid token",
        ),
    ] {
        let reply = ask(&front, method, path, shown).await;
        let shown = match shown {
            Shown::Nothing => "nothing",
            Shown::Value(value) => value,
        };
        let row = format!("{version} {method} {path} with {shown}: {reply:?}");
        assert_eq!(reply.status, status, "{row}");
        assert_eq!(
            reply.header("www-authenticate").unwrap_or(NONE),
            authenticate,
            "{row}"
        );
        assert!(reply.text().contains(body), "{row}");
        if status != 200 {
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{row}");
        }
    }
    // An anonymous request arrives without identity headers, and without a password or token that was refused.
    for shown in [None, Some(&*good_basic), Some(&*bad)] {
        let headers: Vec<_> = shown
            .map(|value| ("authorization", value))
            .into_iter()
            .collect();
        let arrived = front.arrived("/healthz", &headers).await;
        let names: Vec<_> = arrived.iter().map(|(name, _)| &**name).collect();
        assert!(
            !names.iter().any(|name| name.starts_with("x-auth-")),
            "{arrived:?}"
        );
        assert!(!names.contains(&"authorization"), "{arrived:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_through_the_oldest_envoy() {
    every_row(Envoy::OLDEST, |config| config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_through_the_newest_envoy() {
    every_row(Envoy::NEWEST, |config| config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_with_raw_headers_through_the_oldest_envoy() {
    every_row(Envoy::OLDEST, EnvoyConfig::raw_headers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_with_raw_headers_through_the_newest_envoy() {
    every_row(Envoy::NEWEST, EnvoyConfig::raw_headers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_through_the_module() {
    for version in Envoy::WITH_MODULES {
        every_row(version, |_| EnvoyConfig::module()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_rule_are_denied_for_everybody() {
    let rules = "[[route]]\npath = '/login'\nallow = 'login'\n[[route]]\npath = '/open'\nallow = 'public'\n";
    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings.toml(rules);
        },
        |config| config,
    )
    .await;
    let admin = front.bearer(ADA).await;
    assert_eq!(front.send("GET", "/open", &[]).await.status, 200);
    for path in ["/", "/opened", "/open/x", "/profile", "/login/x"] {
        let reply = front.send("GET", path, &[("authorization", &admin)]).await;
        assert_eq!((reply.status, reply.text()), (403, "Forbidden"), "{path}");
    }
    assert_eq!(front.service.requests(), 1);
}
