//! docs/openapi.yaml, compared with the answers of a running server.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    direct::bearer,
    front::{ADA, BOB, basic, tampered},
    harness::{Doorward, Reply, fed, repository, send, tool},
};

/// What was asked and answered.
#[derive(Default)]
struct Exchanges(Vec<Value>);

impl Exchanges {
    async fn ask(
        &mut self,
        doorward: &Doorward,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Reply {
        let reply = send(doorward.http, method, path, headers, body.into()).await;
        let told: serde_json::Map<_, _> = reply
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
            .collect();
        self.0.push(json!({
            "method": method, "path": path, "status": reply.status, "headers": told, "body": reply.text(),
        }));
        reply
    }

    /// What the document says about them: `Err` with the faults.
    fn judged(&self, document: &str) -> Result<String, String> {
        let mut check = Command::new("python3");
        check
            .arg(repository().join("tests/openapi/check.py"))
            .arg(document)
            .env("PYTHONPATH", tool("manifests"));
        let ran = fed(&mut check, &serde_json::to_vec(&self.0).unwrap());
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        match ran.status.code() {
            Some(0) => Ok(said),
            Some(1) if said.contains(" faults\n") => Err(said),
            _ => panic!("{said}{}", String::from_utf8_lossy(&ran.stderr)),
        }
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const FIRST: &str = "builder-of-things-and-more";
const SECOND: &str = "another-battery-staple";

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_as_the_document_says() {
    let rules = std::fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let doorward = Doorward::start(|settings| {
        settings
            .toml(rules)
            .env("DOORWARD_REFRESH__ENABLED", "true")
            .env("DOORWARD_KEYS__ENABLED", "true")
            .env("DOORWARD_KEYS__MOST", "1")
            .env("DOORWARD_SELF_SERVICE__REGISTER", "true")
            .env("DOORWARD_SELF_SERVICE__PASSWORD", "true");
    })
    .await;
    doorward.add_user(ADA.0, ADA.1, &["--admin"]).await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let mut all = Exchanges::default();
    people(&mut all, &doorward).await;
    keys(&mut all, &doorward).await;
    services(&mut all, &doorward).await;
    gateways(&mut all, &doorward).await;

    let document = repository().join("docs/openapi.yaml");
    let said = all
        .judged(document.to_str().unwrap())
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert!(said.ends_with(" 0 faults\n\n"), "{said}");

    // The check finds faults: in a document that says something else.
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(&document).unwrap();
    for (right, wrong, named) in [
        ("  /validate:", "  /valid:", "is not in the document"),
        (
            "        username: { type: string }\n        admin: { type: boolean }",
            "        username: { type: integer }\n        admin: { type: boolean }",
            "body",
        ),
        (
            "schema: { const: no-store }",
            "schema: { const: store }",
            "cache-control",
        ),
        ("        x-auth-reason:", "        x-reason:", "x-reason"),
        (
            "application/jwk-set+json:",
            "application/json:",
            "does not have the type",
        ),
        ("        \"409\":", "        \"418\":", "418"),
    ] {
        assert!(text.contains(right), "{right}");
        let path = dir.path().join("other.yaml");
        std::fs::write(&path, text.replacen(right, wrong, 1)).unwrap();
        let faults = all.judged(path.to_str().unwrap()).expect_err(wrong);
        assert!(faults.contains(named), "{wrong}: {faults}");
    }
}

async fn people(all: &mut Exchanges, doorward: &Doorward) {
    let right = basic(BOB.0, BOB.1);
    let login = ("POST", "/login");
    all.ask(doorward, login, &[("authorization", &right)], "")
        .await;
    let accept = ("accept", "application/json");
    let tokens = all
        .ask(doorward, login, &[("authorization", &right), accept], "")
        .await
        .json();
    let body = json!({"username": BOB.0, "password": BOB.1}).to_string();
    all.ask(doorward, login, &[JSON], body).await;
    all.ask(doorward, login, &[JSON], "{}").await;
    all.ask(doorward, login, &[], "").await;
    all.ask(doorward, login, &[FORM], "x".repeat(5000)).await;
    let mut status = 401;
    for _ in 0..20 {
        let body = "username=nobody-at-all&password=wrong";
        status = all.ask(doorward, login, &[FORM], body).await.status;
        if status == 429 {
            break;
        }
    }
    assert_eq!(status, 429);

    let refresh = ("POST", "/refresh");
    let body = json!({"refresh_token": tokens["refresh_token"]}).to_string();
    all.ask(doorward, refresh, &[JSON, accept], body).await;
    all.ask(doorward, refresh, &[JSON], "{}").await;
    all.ask(
        doorward,
        refresh,
        &[JSON],
        json!({"refresh_token": "x"}).to_string(),
    )
    .await;

    let register = ("POST", "/register");
    let body = json!({"username": "carol", "password": FIRST}).to_string();
    all.ask(doorward, register, &[JSON], body.clone()).await;
    all.ask(doorward, register, &[JSON], body).await;
    all.ask(
        doorward,
        register,
        &[JSON],
        json!({"username": "c", "password": "x"}).to_string(),
    )
    .await;

    let carol = basic("carol", FIRST);
    let bearer = all
        .ask(doorward, login, &[("authorization", &carol)], "")
        .await;
    let bearer = bearer.header("authorization").unwrap().to_owned();
    let change = ("POST", "/password");
    let body = |current: &str, new: &str| {
        json!({"current_password": current, "new_password": new}).to_string()
    };
    let shown = ("authorization", &*bearer);
    all.ask(doorward, change, &[JSON, shown], body("wrong", SECOND))
        .await;
    all.ask(doorward, change, &[JSON, shown], body(FIRST, "x"))
        .await;
    all.ask(doorward, change, &[JSON], body(FIRST, SECOND))
        .await;
    let changed = all
        .ask(doorward, change, &[JSON, shown], body(FIRST, SECOND))
        .await;
    let bearer = changed.header("authorization").unwrap().to_owned();

    let shown = ("authorization", &*bearer);
    all.ask(doorward, ("POST", "/logout"), &[shown], "").await;
    all.ask(doorward, ("POST", "/logout?all"), &[shown], "")
        .await;
}

async fn keys(all: &mut Exchanges, doorward: &Doorward) {
    let bob = bearer(doorward, BOB).await;
    let shown = ("authorization", &*bob);
    let new = || json!({"name": "ci", "roles": "", "paths": "/x"}).to_string();
    let (list, add) = (("GET", "/keys"), ("POST", "/keys"));
    let made = all.ask(doorward, add, &[JSON, shown], new()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let key = format!("Bearer {}", made["key"].as_str().unwrap());
    let path = format!("/keys/{}", made["id"].as_str().unwrap());
    let end = ("DELETE", &*path);
    for (who, status) in [(Some(&bob), 409), (Some(&key), 403), (None, 401)] {
        let headers = who.map(|who| ("authorization", &**who));
        let headers: Vec<_> = headers.into_iter().chain([JSON]).collect();
        let refused = all.ask(doorward, add, &headers, new()).await;
        assert_eq!(refused.status, status, "{refused:?}");
        if status != 409 {
            all.ask(doorward, list, &headers, "").await;
            all.ask(doorward, end, &headers, "").await;
        }
    }
    all.ask(doorward, add, &[JSON, shown], "{}").await;
    all.ask(doorward, list, &[shown], "").await;
    all.ask(doorward, end, &[shown], "").await;
    all.ask(doorward, ("DELETE", "/keys/none"), &[shown], "")
        .await;
    all.ask(doorward, list, &[shown], "").await;
}

async fn services(all: &mut Exchanges, doorward: &Doorward) {
    let good = bearer(doorward, BOB).await;
    let bad = tampered(&good);
    for method in ["GET", "POST"] {
        let validate = (method, "/validate");
        all.ask(doorward, validate, &[("authorization", &good)], "")
            .await;
        all.ask(doorward, validate, &[("authorization", &bad)], "")
            .await;
        all.ask(doorward, validate, &[], "").await;
    }
    all.ask(doorward, ("GET", "/.well-known/jwks.json"), &[], "")
        .await;
}

async fn gateways(all: &mut Exchanges, doorward: &Doorward) {
    let good = bearer(doorward, BOB).await;
    let good = ("authorization", &*good);
    let nginx = |uri| [("x-original-method", "GET"), ("x-original-uri", uri)];
    let [method, uri] = nginx("/profile");
    let path = ("GET", "/auth/nginx");
    all.ask(doorward, path, &[method, uri, good], "").await;
    all.ask(doorward, path, &[method, uri], "").await;
    all.ask(doorward, path, &[method], "").await;

    let forward = |uri| {
        [
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "www.example.com"),
            ("x-forwarded-uri", uri),
        ]
    };
    let path = ("GET", "/auth/forward");
    let admin = forward("/admin/users");
    all.ask(
        doorward,
        path,
        &[&forward("/profile")[..], &[good]].concat(),
        "",
    )
    .await;
    all.ask(doorward, path, &forward("/profile"), "").await;
    all.ask(doorward, path, &[&admin[..], &[good]].concat(), "")
        .await;
    all.ask(doorward, path, &forward("//profile"), "").await;

    all.ask(doorward, ("GET", "/auth/envoy/profile"), &[good], "")
        .await;
    all.ask(doorward, ("GET", "/auth/envoy/profile"), &[], "")
        .await;
    all.ask(doorward, ("GET", "/auth/envoy/admin/users"), &[good], "")
        .await;
    all.ask(doorward, ("GET", "/auth/envoy//profile"), &[good], "")
        .await;
}
