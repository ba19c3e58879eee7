//! Logins through Envoy: both kinds of reply, both forms of credentials, and every refusal.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    front::{ADA, BOB, Front, basic},
    harness::{Envoy, Reply, send},
};

async fn post_json(front: &Front, body: impl ToString) -> Reply {
    let headers = [("content-type", "application/json")];
    send(
        front.envoy.edge,
        "POST",
        "/login",
        &headers,
        body.to_string(),
    )
    .await
}

fn claims(bearer: &str) -> Value {
    let part = bearer.split('.').nth(1).unwrap();
    serde_json::from_slice(
        &base64::prelude::BASE64_URL_SAFE_NO_PAD
            .decode(part)
            .unwrap(),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn doorward_answers_a_login_itself() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, |config| config).await;
        let reply = front.login(ADA).await;
        assert_eq!(reply.status, 200, "{version}");
        let bearer = reply.header("authorization").unwrap().to_owned();
        assert_eq!(bearer, format!("Bearer {}", reply.text()));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        let claims = claims(&bearer);
        assert_eq!(
            (&claims["username"], &claims["admin"]),
            (&json!("ada"), &json!(true))
        );
        assert_eq!(
            (&claims["iss"], &claims["aud"]),
            (&json!("doorward"), &json!("doorward"))
        );
        let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lifetime, 24 * 60 * 60);
        assert!(claims["sub"].as_str().unwrap().len() > 30 && claims["jti"].is_string());

        let credentials = basic(BOB.0, BOB.1);
        let headers = [
            ("authorization", &*credentials),
            ("accept", "application/json"),
        ];
        let reply = front.send("POST", "/login", &headers).await;
        let body = reply.json();
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(
            (&body["token_type"], &body["expires_in"]),
            (&json!("Bearer"), &json!(86400))
        );
        let token = format!("Bearer {}", body["access_token"].as_str().unwrap());
        assert_eq!(reply.header("authorization"), Some(&*token));
        assert_eq!(front.service.requests(), 0, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_route_answers_a_login() {
    for version in Envoy::VERSIONS {
        let front = Front::open(
            version,
            |settings| {
                settings.env("DOORWARD_LOGIN__REPLY", "through");
            },
            |config| config,
        )
        .await;
        let reply = front.login(BOB).await;
        assert_eq!(
            (reply.status, reply.text()),
            (200, "Logged in\n"),
            "{version}"
        );
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let bearer = reply.header("authorization").unwrap().to_owned();
        let profile = front
            .send("GET", "/profile", &[("authorization", &bearer)])
            .await;
        assert_eq!(profile.json()["user"], "bob");
        let wrong = front.login((BOB.0, "wrong")).await;
        assert_eq!((wrong.status, wrong.text()), (401, "Invalid credentials"));
        assert_eq!(wrong.header("authorization"), None);
    }
}

/// If the login route leads to a service, the service learns the user but not the credentials.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_the_login_sees_the_user_and_no_credentials() {
    for version in Envoy::VERSIONS {
        let front = Front::open(
            version,
            |settings| {
                settings.env("DOORWARD_LOGIN__REPLY", "through");
            },
            |config| {
                config.replace(
                    "direct_response:\n                            status: 200\n                            body: { inline_string: \"Logged in\\n\" }",
                    "route: { cluster: service }",
                )
            },
        )
        .await;
        let credentials = basic(BOB.0, BOB.1);
        let reply = front
            .send(
                "POST",
                "/login",
                &[("authorization", &credentials), ("x-auth-user", "ada")],
            )
            .await;
        let arrived = reply.json()["headers"].to_string();
        assert!(
            arrived.contains("[\"x-auth-user\",\"bob\"]"),
            "{version} {arrived}"
        );
        assert!(
            !arrived.contains("authorization") && !arrived.contains("ada"),
            "{version} {arrived}"
        );
        assert!(
            reply
                .header("authorization")
                .unwrap()
                .starts_with("Bearer eyJ")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_no_login_are_refused() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    front.doorward.add_user("eve", "a-good-password", &[]).await;
    front
        .doorward
        .run(&["user", "disable", "eve"], "")
        .await
        .ok();
    let encode = |pair: &[u8]| format!("Basic {}", BASE64_STANDARD.encode(pair));
    let mut answers = Vec::new();
    for credentials in [
        basic("bob", "wrong"),
        basic("nobody", "wrong"),
        basic("eve", "a-good-password"),
        basic("Bob", BOB.1),
        basic("bob ", BOB.1),
        basic("b\u{f3}b", BOB.1),
        basic("bob\u{200b}", BOB.1),
        basic("", BOB.1),
        basic("bob", ""),
        basic("bob' OR '1'='1", "x"),
        encode(b"bob"),
        encode(b"\xff:\xff"),
        encode(b"bob:a\0b"),
        encode(&[&b"bob:"[..], &[b'x'; 2000]].concat()),
        format!("{}=", basic("bob", BOB.1)),
        basic("bob", BOB.1).replace("Basic ", "Basic !"),
        "Basic".into(),
    ] {
        let reply = front
            .send("POST", "/login", &[("authorization", &credentials)])
            .await;
        assert_eq!(reply.status, 401, "{credentials}");
        let mut headers = reply.headers.clone();
        headers.remove("date");
        answers.push((headers, reply.body));
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:#?}"
    );
    assert_eq!(answers[0].1, "Invalid credentials");

    for method in ["GET", "HEAD", "PUT", "OPTIONS"] {
        let credentials = basic(BOB.0, BOB.1);
        let reply = front
            .send(method, "/login", &[("authorization", &credentials)])
            .await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
    assert_eq!(front.service.requests(), 0);
    let reasons: Vec<_> = front
        .doorward
        .log()
        .iter()
        .map(|line| line["fields"]["reason"].clone())
        .collect();
    for reason in [
        "wrong-password",
        "unknown-user",
        "disabled",
        "malformed-basic",
        "endpoint-method",
    ] {
        assert!(reasons.contains(&json!(reason)), "{reason}: {reasons:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_hold_colons_and_any_script() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    for (name, password) in [
        ("c", "a:b:c:d-e-f-g-h"),
        (
            "\u{540d}\u{524d}",
            "\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c} \u{1f511} \u{43a}\u{43b}\u{44e}\u{447}",
        ),
    ] {
        front.doorward.add_user(name, password, &[]).await;
        assert_eq!(front.login((name, password)).await.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_body_logs_in_too() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, |config| config).await;
        let reply = post_json(&front, json!({"username": BOB.0, "password": BOB.1})).await;
        assert_eq!(reply.status, 200, "{version}: {reply:?}");
        let bearer = reply.header("authorization").unwrap().to_owned();
        assert_eq!(
            front
                .send("GET", "/profile", &[("authorization", &bearer)])
                .await
                .status,
            200
        );
        for (body, status, text) in [
            (
                json!({"username": "bob", "password": "wrong"}).to_string(),
                401,
                "Invalid credentials",
            ),
            (
                json!({"password": "x"}).to_string(),
                400,
                "username: missing",
            ),
            (
                json!({"username": "bob"}).to_string(),
                400,
                "password: missing",
            ),
            (
                json!({"username": 5, "password": "x"}).to_string(),
                400,
                "username: must be a string",
            ),
            (
                json!({"username": "bob", "password": 12345}).to_string(),
                400,
                "password: must be a string",
            ),
            (
                json!({"username": "bob", "password": ""}).to_string(),
                400,
                "password: empty",
            ),
            ("{".into(), 400, "The body must be a JSON object"),
            ("[1]".into(), 400, "The body must be a JSON object"),
            (String::new(), 401, "Missing credentials"),
            (
                format!("{{\"username\":\"{}\"}}", "x".repeat(5000)),
                413,
                "The body is too long",
            ),
        ] {
            let reply = post_json(&front, &body).await;
            assert_eq!(reply.status, status, "{version} {body}: {reply:?}");
            assert!(
                reply.text().starts_with(text),
                "{version} {body}: {reply:?}"
            );
        }
        // Without the content type, Doorward does not read the body.
        let body = json!({"username": BOB.0, "password": BOB.1}).to_string();
        let reply = send(front.envoy.edge, "POST", "/login", &[], body).await;
        assert_eq!(reply.text(), "Missing credentials", "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_pass_if_configured() {
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "GET"),
    ];
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    assert_eq!(
        front.send("OPTIONS", "/profile", &preflight).await.status,
        401
    );

    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings.env("DOORWARD_CORS__ALLOW_PREFLIGHT", "true");
        },
        |config| config,
    )
    .await;
    let reply = front
        .send(
            "OPTIONS",
            "/echo",
            &[&preflight[..], &[("x-auth-user", "ada")]].concat(),
        )
        .await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("x-auth-user"), "{reply:?}");
    assert_eq!(
        front.send("OPTIONS", "/echo", &preflight[..1]).await.status,
        401
    );
    assert_eq!(front.send("GET", "/echo", &preflight).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings.env("DOORWARD_LOG__LEVEL", "debug");
        },
        |config| config,
    )
    .await;
    let bearer = front.bearer(BOB).await;
    front
        .send(
            "GET",
            "/profile?password=in-the-query",
            &[("authorization", &bearer)],
        )
        .await;
    front
        .login(("typed-into-the-name-field", "wrong-but-secret"))
        .await;
    front.login((BOB.0, "wrong-but-secret")).await;
    post_json(
        &front,
        json!({"username": "bob", "password": ["secret-in-a-list"]}),
    )
    .await;
    front
        .doorward
        .logged("the body", |line| {
            line["fields"]["reason"] == "malformed-body"
        })
        .await;
    let output = front.doorward.output();
    let (_, signature) = bearer.rsplit_once('.').unwrap();
    let credentials = basic(BOB.0, BOB.1);
    for secret in [
        signature,
        &credentials[6..],
        BOB.1,
        "wrong-but-secret",
        "typed-into-the-name-field",
        "in-the-query",
        "secret-in-a-list",
    ] {
        assert!(!output.contains(secret), "{secret} in\n{output}");
    }
    let line = front
        .doorward
        .logged("a good token", |line| line["fields"]["reason"] == "token")
        .await;
    for field in [
        "method",
        "host",
        "path",
        "sub",
        "request_id",
        "micros",
        "door",
    ] {
        assert!(!line["fields"][field].is_null(), "{field}: {line}");
    }
}
