//! What `/validate` returns for tokens of another issuer: the identity that Doorward judges, whatever the token claims.

use std::{
    fs,
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    front::{ADA, BOB, log_in},
    harness::{Doorward, Envoy, EnvoyConfig, Gateway, Home, send},
    issuers::{NAME, Pair},
};

/// Rules under which clients reach `/validate` through a gateway, and an issuer whose tokens may contain any claims.
fn settings() -> String {
    format!(
        "[[route]]
path = '/login'
allow = 'login'
[[route]]
path = '/validate'
allow = 'public'
[[issuer]]
issuer = '{NAME}'
audience = 'my-api'
jwks = 'jwks.json'
prefix = 'partner.'
username = 'username'
roles = 'roles'
accept_roles = ['editor']
grant = ['guest']
"
    )
}

async fn prepared(pair: &Pair) -> Home {
    let home = Doorward::prepare(|chosen| {
        chosen.toml(settings());
    });
    fs::write(home.dir().join("jwks.json"), &pair.document).unwrap();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &[]).await;
    home
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Claims that try to pass for a local administrator with this id.
fn hostile(local_id: &Value) -> Value {
    json!({
        "iss": NAME, "aud": ["other", "my-api"], "sub": local_id, "iat": now(), "exp": now() + 600,
        "username": ADA.0, "admin": true, "roles": ["admin", "editor", "owner"],
        "name": ADA.0, "preferred_username": ADA.0, "email": "ada@example.com", "user_id": local_id,
        "uid": local_id, "scope": "admin", "groups": ["admin"], "is_admin": true, "jti": "x",
        "gen": 9, "sid": "y", "issuer_claims": {"admin": true},
    })
}

async fn ask(http: SocketAddr, bearer: &str) -> Value {
    let headers = [("authorization", bearer)];
    let reply = send(http, "GET", "/validate", &headers, "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn is_judged(shown: &Value, claims: &Value) {
    let judged = json!({
        "sub": format!("{NAME}|{}", claims["sub"].as_str().unwrap()),
        "username": "partner.ada", "admin": false, "roles": ["editor", "guest"],
        "iss": NAME, "aud": "my-api", "iat": claims["iat"], "exp": claims["exp"],
        "issuer_claims": claims,
    });
    assert_eq!(*shown, judged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_issuer_makes_nobody_an_administrator_or_a_local_user() {
    let pair = Pair::new("k-1");
    let doorward = prepared(&pair).await.serve().await;
    let own = log_in(doorward.http, ADA).await;
    let ours = ask(doorward.http, &own).await;
    assert_eq!(
        (&ours["username"], &ours["admin"], ours.get("issuer_claims")),
        (&json!("ada"), &json!(true), None)
    );
    let claims = hostile(&ours["sub"]);
    // The second time, the token is in the cache.
    for _ in 0..2 {
        let shown = ask(doorward.http, &pair.bearer_by("k-1", &claims)).await;
        is_judged(&shown, &claims);
        // A service that reads Doorward's own tokens finds every member.
        for member in [
            "sub", "username", "admin", "roles", "iss", "aud", "iat", "exp",
        ] {
            assert!(shown.get(member).is_some(), "{member}");
        }
    }

    // A duplicate claim is refused; a duplicate member inside a claim appears once, with the value that Doorward read.
    let text = claims.to_string();
    for member in [r#""admin":false"#, r#""username":"eve""#, r#""x":1,"x":2"#] {
        let doubled = text.replacen('{', &format!("{{{member},"), 1);
        let headers = [("authorization", &*pair.bearer_of_text(&doubled))];
        let reply = send(doorward.http, "GET", "/validate", &headers, "").await;
        assert_eq!(
            (reply.status, reply.header("x-auth-reason")),
            (403, Some("token-claims")),
            "{member}"
        );
    }
    let nested = text.replace(r#"{"admin":true}"#, r#"{"admin":true,"admin":false}"#);
    assert_ne!(nested, text);
    let headers = [("authorization", &*pair.bearer_of_text(&nested))];
    let reply = send(doorward.http, "GET", "/validate", &headers, "").await;
    let shown = reply.json();
    assert_eq!(
        shown["issuer_claims"]["issuer_claims"],
        json!({"admin": false})
    );
    assert_eq!(reply.text().matches(r#""admin":"#).count(), 3, "{reply:?}");
}

/// `/validate` behind each gateway: Doorward first checks the request and then answers it as the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_issuer_gains_nothing_through_any_gateway() {
    let pair = Pair::new("k-1");
    let doorward = prepared(&pair).await.serve().await;
    let own = log_in(doorward.http, BOB).await;
    let claims = hostile(&ask(doorward.http, &own).await["sub"]);
    let bearer = pair.bearer_by("k-1", &claims);
    for gateway in Gateway::ALL {
        let proxy = gateway
            .start(doorward.http, doorward.http, |text| text)
            .await;
        is_judged(&ask(proxy.edge, &bearer).await, &claims);
        assert_eq!(
            ask(proxy.edge, &own).await["username"],
            "bob",
            "{gateway:?}"
        );
    }
    for version in [Envoy::OLDEST, Envoy::NEWEST] {
        let config = EnvoyConfig::file("envoy.yaml")
            .free_ports()
            .doorward(doorward.grpc)
            .service(doorward.http);
        let envoy = Envoy::start(version, &config).await;
        is_judged(&ask(envoy.edge, &bearer).await, &claims);
    }
}
