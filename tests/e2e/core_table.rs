//! The core table of the design: every row through every Envoy, with headers in either field of the check.

use crate::{
    direct::cookie,
    front::{ADA, BOB, Front, basic, tampered},
    harness::{Envoy, EnvoyConfig, PATIENCE, Reply, Settings, until},
    machine_keys::key,
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

/// With cookies and keys switched on, the rows for tokens are the same.
async fn every_row(version: &str, config: fn(EnvoyConfig) -> EnvoyConfig) {
    let on = |settings: &mut Settings| {
        settings
            .env("DOORWARD_SIGN_IN__ENABLED", "true")
            .env("DOORWARD_KEYS__ENABLED", "true")
            .env("DOORWARD_KEYS__HEADER", "x-api-key");
    };
    let front = Front::open(version, on, config).await;
    rows_of_tokens(version, &front).await;
    rows_of_cookies_and_keys(version, &front).await;
}

/// The table again: by a cookie, by a key as Bearer, and by a key in its own header.
async fn rows_of_cookies_and_keys(version: &str, front: &Front) {
    let [ada, bob] = [ADA, BOB].map(|who| cookie(&front.doorward, who));
    let (ada, bob) = (ada.await, bob.await);
    let add = async |owner: &str| key(&front.doorward, &["add", "ci", "--owner", owner]).await;
    let (ada_key, bob_key) = (add("ada").await, add("bob").await);
    let bearer = |key: &str| ("authorization", format!("Bearer {key}"));
    let header = |key: &str| ("x-api-key", key.to_owned());
    let cut = |key: &str| key[..92].to_owned();
    let credentials = [
        (
            "cookie",
            [
                ("cookie", ada),
                ("cookie", bob.clone()),
                ("cookie", format!("{bob}x")),
            ],
        ),
        (
            "key",
            [bearer(&ada_key), bearer(&bob_key), bearer(&cut(&bob_key))],
        ),
        (
            "key",
            [header(&ada_key), header(&bob_key), header(&cut(&bob_key))],
        ),
    ];
    // Doorward accepts a key that a command added within two seconds.
    until("the key", PATIENCE, async || {
        let (name, value) = &credentials[2].1[1];
        let reply = front.send("GET", "/profile", &[(name, value)]).await;
        (reply.status == 200).then_some(())
    })
    .await;
    let invalid = "Bearer realm=\"doorward\", error=\"invalid_token\"";
    let scope = "Bearer realm=\"doorward\", error=\"insufficient_scope\"";
    let please_log_in = "Basic realm=\"doorward\", charset=\"UTF-8\"";
    for (kind, [admin, plain, bad]) in &credentials {
        let refused = format!(
            "Invalid {}",
            if *kind == "cookie" { "token" } else { "key" }
        );
        for (method, path, shown, status, authenticate, body) in [
            (
                "GET",
                "/healthz",
                plain,
                200,
                NONE,
                "\"x-auth-user\",\"bob\"",
            ),
            ("GET", "/healthz", bad, 200, NONE, "\"path\":\"/healthz\""),
            (
                "POST",
                "/login",
                plain,
                401,
                please_log_in,
                "Missing credentials",
            ),
            (
                "POST",
                "/login",
                bad,
                401,
                please_log_in,
                "Missing credentials",
            ),
            ("GET", "/profile", plain, 200, NONE, "\"user\":\"bob\""),
            ("GET", "/profile", bad, 401, invalid, &refused),
            ("GET", "/admin/users", plain, 403, scope, "Not authorized"),
            ("GET", "/admin/users", admin, 200, NONE, "\"users\""),
            ("GET", "/admin/users", bad, 401, invalid, &refused),
        ] {
            let (name, value) = shown;
            let reply = front.send(method, path, &[(name, value)]).await;
            let row = format!("{version} {method} {path} with {name}: {value}: {reply:?}");
            assert_eq!(reply.status, status, "{row}");
            let challenge = reply.header("www-authenticate").unwrap_or(NONE);
            assert_eq!(challenge, authenticate, "{row}");
            assert!(reply.text().contains(body), "{row}");
            assert!(!reply.text().contains(&**value), "{row}");
            if status != 200 {
                assert_eq!(reply.header("cache-control"), Some("no-store"), "{row}");
            }
        }
        // On a public route, a refused credential is removed and gives no identity.
        let (name, value) = bad;
        let arrived = front.arrived("/healthz", &[(name, value)]).await;
        let names: Vec<_> = arrived.iter().map(|(name, _)| &**name).collect();
        assert!(!names.contains(name), "{arrived:?}");
        assert!(
            !names.iter().any(|name| name.starts_with("x-auth-")),
            "{arrived:?}"
        );
    }
}

async fn rows_of_tokens(version: &str, front: &Front) {
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
        let reply = ask(front, method, path, shown).await;
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

/// By default, neither a cookie nor a key is a credential.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_without_cookies_and_keys() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    rows_of_tokens(Envoy::NEWEST, &front).await;
    let token = front
        .bearer(BOB)
        .await
        .replace("Bearer ", "__Host-doorward=");
    let key = format!("dwk_{}_{}", "0".repeat(16), "0".repeat(72));
    let as_bearer = format!("Bearer {key}");
    for (shown, body) in [
        (("cookie", &*token), "Missing token"),
        (("x-api-key", &key), "Missing token"),
        (("authorization", &as_bearer), "Invalid token"),
    ] {
        let reply = front.send("GET", "/profile", &[shown]).await;
        assert_eq!((reply.status, reply.text()), (401, body), "{shown:?}");
        // A cookie or a header of this name belongs to the service.
        let reply = front.send("GET", "/healthz", &[shown]).await;
        let arrives = shown.0 == "authorization" || reply.text().contains(shown.1);
        assert!(reply.status == 200 && arrives, "{reply:?}");
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
            settings
                .toml(rules)
                .env("DOORWARD_SIGN_IN__ENABLED", "true")
                .env("DOORWARD_KEYS__ENABLED", "true");
        },
        |config| config,
    )
    .await;
    let admin = front.bearer(ADA).await;
    let own = cookie(&front.doorward, ADA).await;
    let key = key(&front.doorward, &["add", "ci", "--owner", "ada"]).await;
    let key = format!("Bearer {key}");
    assert_eq!(front.send("GET", "/open", &[]).await.status, 200);
    for path in ["/", "/opened", "/open/x", "/profile", "/login/x"] {
        for shown in [
            ("authorization", &*admin),
            ("authorization", &key),
            ("cookie", &own),
        ] {
            let reply = front.send("GET", path, &[shown]).await;
            assert_eq!((reply.status, reply.text()), (403, "Forbidden"), "{path}");
        }
    }
    assert_eq!(front.service.requests(), 1);
}
