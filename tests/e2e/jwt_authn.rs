//! Envoy verifies tokens itself, with the keys that Doorward publishes, during a key rotation.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    front::{ADA, BOB, basic, check, header_of, log_in, refusal, tampered},
    harness::{Doorward, Envoy, EnvoyConfig, Reply, Service, send},
};

const ALGORITHMS: [&str; 7] = [
    "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA",
];

/// Two seconds until Doorward checks its files, one until Envoy fetches again, and one because times are cut to whole
/// seconds; the rest is for a busy machine.
const AFTER: &str = "12s";

async fn serving(algorithm: &str) -> Doorward {
    let home = Doorward::prepare(|_| {});
    home.run(&["keys", "generate", algorithm], "").await.ok();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(BOB.0, BOB.1, &[]).await;
    home.serve().await
}

fn fetching(doorward: &Doorward, service: &Service) -> EnvoyConfig {
    EnvoyConfig::file("envoy-jwt-authn.yaml")
        .replace("cache_duration: 60s", "cache_duration: 1s")
        .free_ports()
        .doorward_http(doorward.http)
        .service(service.address)
}

async fn get(envoy: &Envoy, bearer: &str) -> Reply {
    send(envoy.edge, "GET", "/echo", &[("authorization", bearer)], "").await
}

/// Asserts that Doorward's doors and every Envoy agree about a token.
async fn all_agree(doorward: &Doorward, envoys: &[Envoy], bearer: &str, good: bool) {
    let of = header_of(bearer, "kid");
    let refused = refusal(doorward.http, bearer).await;
    assert_eq!(refused.is_none(), good, "{of}: {refused:?}");
    let said = check(doorward.grpc, "GET", "/profile", bearer).await;
    assert_eq!(said.status.unwrap().code == 0, good, "{of}");
    for envoy in envoys {
        let reply = get(envoy, bearer).await;
        let status = if good { 200 } else { 401 };
        assert_eq!(reply.status, status, "{of}: {reply:?}\n{}", envoy.log());
    }
}

async fn start_all(config: &EnvoyConfig) -> Vec<Envoy> {
    join_all(Envoy::VERSIONS.map(|version| Envoy::start(version, config))).await
}

/// Every 300 ms, all tokens so far and a new one must be accepted everywhere, until a token of the new key has been
/// accepted for two seconds.
async fn through_a_rotation(algorithm: &str, service: &Service) {
    let doorward = serving(algorithm).await;
    let envoys = start_all(&fetching(&doorward, service)).await;
    let first = log_in(doorward.http, BOB).await;
    assert_eq!(header_of(&first, "alg"), algorithm);
    all_agree(&doorward, &envoys, &first, true).await;
    all_agree(&doorward, &envoys, &tampered(&first), false).await;

    let rotate = ["keys", "rotate", "--after", AFTER, "--id", "next"];
    doorward.run(&rotate, "").await.ok();
    let start = Instant::now();
    let mut newest = first.clone();
    let mut since = None;
    while since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(2)) {
        assert!(start.elapsed() < Duration::from_secs(45), "{algorithm}");
        newest = log_in(doorward.http, BOB).await;
        for bearer in [&first, &newest] {
            all_agree(&doorward, &envoys, bearer, true).await;
        }
        if since.is_none() && header_of(&newest, "kid") == "next" {
            since = Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(header_of(&newest, "alg"), algorithm);
    all_agree(&doorward, &envoys, &tampered(&newest), false).await;

    // A leaked key is retired; Doorward and Envoy refuse its tokens as soon as they learn of it.
    let old = header_of(&first, "kid");
    doorward
        .run(&["keys", "retire", &old, "--now"], "")
        .await
        .ok();
    crate::harness::until("a retired key", crate::harness::PATIENCE, async || {
        let refused = refusal(doorward.http, &first).await;
        let mut statuses = Vec::new();
        for envoy in &envoys {
            statuses.push(get(envoy, &first).await.status);
        }
        (refused.as_deref() == Some("token-unknown-key") && statuses == [401, 401]).then_some(())
    })
    .await;
    all_agree(&doorward, &envoys, &newest, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_follows_every_algorithm_through_a_rotation() {
    let service = Service::start().await;
    join_all(ALGORITHMS.map(|algorithm| through_a_rotation(algorithm, &service))).await;
}

/// One Envoy has the keys of all these Doorwards and tells them apart by key id.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_is_given_the_exported_keys() {
    let service = Service::start().await;
    let setups = join_all(ALGORITHMS.map(serving)).await;
    // Staged keys are exported too, so that verifiers can receive them before they sign.
    for doorward in &setups {
        let rotate = ["keys", "rotate", "--after", "3s", "--id", "next"];
        let mut rotate = rotate.map(str::to_owned);
        rotate[5] = format!("next-{}", doorward.http.port());
        let rotate: Vec<_> = rotate.iter().map(String::as_str).collect();
        doorward.run(&rotate, "").await.ok();
    }
    let mut keys = Vec::new();
    for doorward in &setups {
        let exported = doorward.run(&["keys", "export"], "").await.ok().stdout;
        let exported: Value = serde_json::from_str(&exported).unwrap();
        let own = exported["keys"].as_array().unwrap();
        assert_eq!(own.len(), 2, "{exported}");
        keys.extend(own.clone());
    }
    let config = fetching(&setups[0], &service).local_jwks(&json!({ "keys": keys }).to_string());
    let envoys = start_all(&config).await;
    for (doorward, algorithm) in setups.iter().zip(ALGORITHMS) {
        let bearer = log_in(doorward.http, BOB).await;
        assert_eq!(header_of(&bearer, "alg"), algorithm);
        all_agree(doorward, &envoys, &bearer, true).await;
        all_agree(doorward, &envoys, &tampered(&bearer), false).await;
    }
    for doorward in &setups {
        let next = crate::harness::until("the next key", crate::harness::PATIENCE, async || {
            let bearer = log_in(doorward.http, BOB).await;
            header_of(&bearer, "kid")
                .starts_with("next-")
                .then_some(bearer)
        })
        .await;
        all_agree(doorward, &envoys, &next, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_receives_only_verified_claims() {
    let service = Service::start().await;
    let doorward = serving("ES256").await;
    for envoy in start_all(&fetching(&doorward, &service)).await {
        let credentials = basic(ADA.0, ADA.1);
        let headers = [("authorization", &*credentials)];
        let reply = send(envoy.edge, "POST", "/login", &headers, "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let ada = reply.header("authorization").unwrap();
        for (bearer, name, admin) in [
            (ada, "ada", "true"),
            (&*log_in(doorward.http, BOB).await, "bob", "false"),
        ] {
            let headers = [
                ("authorization", bearer),
                ("x-jwt-username", "root"),
                ("x-jwt-admin", "true"),
                ("x-jwt-payload", "e30"),
            ];
            let reply = send(envoy.edge, "GET", "/echo", &headers, "").await;
            assert_eq!(reply.status, 200, "{reply:?}");
            let echo = reply.json();
            let values = |wanted: &str| -> Vec<String> {
                (echo["headers"].as_array().unwrap().iter())
                    .filter(|pair| pair[0] == wanted)
                    .map(|pair| pair[1].as_str().unwrap().to_owned())
                    .collect()
            };
            assert_eq!(values("x-jwt-username"), [name]);
            assert_eq!(values("x-jwt-admin"), [admin]);
            assert_eq!(values("authorization"), [bearer]);
            let [payload] = &*values("x-jwt-payload") else {
                panic!("{echo}");
            };
            let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
            let payload: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(payload["username"], name);
        }
        for headers in [
            &[][..],
            &[("x-jwt-username", "root")],
            &[("authorization", "Bearer a.b.c")],
            &[("authorization", &*credentials)],
        ] {
            let reply = send(envoy.edge, "GET", "/echo", headers, "").await;
            assert_eq!(reply.status, 401, "{headers:?} {reply:?}");
        }
        let query = format!("/echo?access_token={}", &ada["Bearer ".len()..]);
        assert_eq!(send(envoy.edge, "GET", &query, &[], "").await.status, 401);
        // Doorward answers this request and knows which users have logged out; Envoy does not know.
        let headers = [("authorization", ada)];
        let reply = send(envoy.edge, "POST", "/logout", &headers, "").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(
            refusal(doorward.http, ada).await.as_deref(),
            Some("token-ended")
        );
        assert_eq!(get(&envoy, ada).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_never_published() {
    let doorward = serving("HS256").await;
    let bearer = log_in(doorward.http, BOB).await;
    assert_eq!(header_of(&bearer, "alg"), "HS256");
    let reply = send(doorward.http, "GET", "/.well-known/jwks.json", &[], "").await;
    assert_eq!(reply.text(), r#"{"keys":[]}"#);
    assert_eq!(
        reply.header("content-type"),
        Some("application/jwk-set+json")
    );
    assert_eq!(reply.header("cache-control"), Some("public, max-age=60"));
    let rotate = ["keys", "rotate", "--algorithm", "ES256", "--after", "1s"];
    doorward.run(&rotate, "").await.ok();
    let published = crate::harness::until("a public key", crate::harness::PATIENCE, async || {
        let reply = send(doorward.http, "GET", "/.well-known/jwks.json", &[], "").await;
        let keys = reply.json()["keys"].as_array().unwrap().clone();
        (!keys.is_empty()).then_some(keys)
    })
    .await;
    assert_eq!(published.len(), 1);
    for secret in ["k", "d", "p", "q", "dp", "dq", "qi"] {
        assert!(published[0].get(secret).is_none(), "{secret}");
    }
    let exported = doorward.run(&["keys", "export"], "").await.ok().stdout;
    let exported: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(exported, json!({ "keys": published }));
    assert_eq!(refusal(doorward.http, &bearer).await, None);
}
