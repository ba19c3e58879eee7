//! `Authorization` on public routes: what a service behind CGI receives, behind every gateway.

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    cgi::{Setup, Way, behind_each_gateway, request},
    front::{ADA, BOB, basic, header_of, log_in, tampered},
    harness::{ask_bytes, try_send_http2},
};

const SECRET: &str = "b6a1c9d2e8f3047561a2b3c4d5e6f708";

const NOBODY: [(&str, &str); 0] = [];

async fn open(way: Way) -> Setup {
    let settings = |settings: &mut crate::harness::Settings| {
        settings.env("DOORWARD_JWT__SECRET", SECRET);
    };
    Setup::with(way, settings, |text| text).await
}

/// What the service receives in `Authorization`, as one CGI variable; `None` if the request is refused.
fn shown(body: &str) -> Option<&str> {
    let mut values = body
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP_AUTHORIZATION="));
    let first = values.next();
    assert_eq!(values.next(), None, "{body}");
    first
}

async fn refused_values_do_not_reach_the_service(way: Way) {
    let setup = open(way).await;
    let (bob, ended) = tokio::join!(
        log_in(setup.doorward.http, BOB),
        log_in(setup.doorward.http, BOB)
    );
    let logout = request("POST", "/logout", &[("authorization", &ended)]);
    let (status, body) = ask_bytes(setup.edge(), logout.as_bytes()).await;
    assert_eq!(status, 200, "{way:?} {body}");

    let claims: Value = {
        let payload = bob.split('.').nth(1).unwrap();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    };
    let kid = header_of(&bob, "kid");
    let with = |changes: Value| {
        let mut claims = claims.clone();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let signed = |kid: Option<&str>, claims: &Value, secret: &str| {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        let [header, claims] =
            [&header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("Bearer {signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    };
    let unsigned = |header: &Value, claims: &str| {
        let [header, claims] =
            [&*header.to_string(), claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        format!("Bearer {header}.{claims}.AAAA")
    };
    let foreign = json!({"iss": "https://service.example", "sub": "7"});
    let past = with(json!({"iat": 1_700_000_000, "exp": 1_700_003_600}));
    let none = json!({"alg": "none"});
    for (token, stays) in [
        // Valid tokens, and tokens of other issuers.
        (bob.clone(), true),
        ("Bearer opaque".into(), true),
        ("bearer an.opaque.token".into(), true),
        (
            signed(None, &foreign, "a secret of the service's own"),
            true,
        ),
        (
            signed(Some("service-1"), &foreign, "a secret of the service's own"),
            true,
        ),
        (
            signed(
                Some("service-1"),
                &with(json!({"iss": "https://service.example"})),
                SECRET,
            ),
            true,
        ),
        (unsigned(&none, &foreign.to_string()), true),
        // Doorward's own tokens, and tokens that claim to be.
        (tampered(&bob), false),
        (ended, false),
        (signed(Some(&kid), &past, SECRET), false),
        (signed(None, &past, SECRET), false),
        (
            signed(Some(&kid), &with(json!({"aud": "another"})), SECRET),
            false,
        ),
        (
            signed(Some(&kid), &foreign, "a secret of the service's own"),
            false,
        ),
        (signed(Some("service-1"), &claims, SECRET), false),
        (
            signed(None, &claims, "a secret of the service's own"),
            false,
        ),
        (unsigned(&none, &claims.to_string()), false),
        (
            unsigned(
                &json!({"alg": "HS256", "kid": kid, "jku": "https://x"}),
                &foreign.to_string(),
            ),
            false,
        ),
        (
            unsigned(
                &json!({"alg": "HS256"}),
                r#"{"iss":"doorward","iss":"other"}"#,
            ),
            false,
        ),
        // Values that are not tokens.
        (basic(BOB.0, BOB.1), false),
        ("Digest username=\"bob\", realm=\"x\"".into(), false),
        ("Bearer a b".into(), false),
    ] {
        let (status, body) = setup.get("/healthz", &[("authorization", &token)]).await;
        let expected = stays.then_some(&*token);
        assert_eq!(
            (status, shown(&body)),
            (200, expected),
            "{way:?} {token} {body}"
        );
        let is_known = body.contains("HTTP_X_AUTH_USER=bob");
        assert_eq!(is_known, token == bob, "{way:?} {token} {body}");
    }
    let (status, body) = setup.get("/healthz", &NOBODY).await;
    assert_eq!((status, shown(&body)), (200, None), "{way:?} {body}");
    // A long token, as issuers with many roles make it.
    let long = format!("Bearer {}", "a".repeat(7_000));
    let (status, body) = setup.get("/healthz", &[("authorization", &long)]).await;
    assert_eq!((status, shown(&body)), (200, Some(&*long)), "{way:?}");
}

behind_each_gateway!(refused_values_do_not_reach_the_service);

async fn two_values_do_not_reach_the_service(way: Way) {
    let setup = open(way).await;
    let bob = log_in(setup.doorward.http, BOB).await;
    let password = basic(ADA.0, ADA.1);
    let secret = password.strip_prefix("Basic ").unwrap();
    assert!(BASE64_STANDARD.decode(secret).is_ok());
    let bearers = ["Bearer a", "bEARER  a", &*bob];
    let passwords = ["Basic", "bASIC", "BASIC "].map(|scheme| format!("{scheme} {secret}"));
    let mut rows: Vec<Vec<(&str, String)>> = Vec::new();
    for bearer in bearers {
        for password in &passwords {
            for [first, second] in [[bearer, password], [password, bearer]] {
                let pair = |name, value: &str| (name, value.to_owned());
                rows.push(vec![
                    pair("authorization", first),
                    pair("authorization", second),
                ]);
                rows.push(vec![
                    pair("Authorization", first),
                    pair("AUTHORIZATION", second),
                ]);
                for comma in [",", ", ", " , ", ",,"] {
                    rows.push(vec![pair(
                        "authorization",
                        &format!("{first}{comma}{second}"),
                    )]);
                }
                rows.push(vec![
                    pair("authorization", "Bearer a"),
                    pair("authorization", first),
                    pair("authorization", second),
                ]);
                rows.push(vec![
                    pair("authorization", &format!("Bearer a,{first}")),
                    pair("authorization", second),
                ]);
            }
        }
    }
    rows.push(vec![
        ("authorization", bob.clone()),
        ("authorization", bob.clone()),
    ]);
    for path in ["/healthz", "/echo"] {
        for some in rows.chunks(32) {
            let ask = async |row: &Vec<(&str, String)>| {
                let headers: Vec<_> = row.iter().map(|(name, value)| (*name, &**value)).collect();
                setup.get(path, &headers).await
            };
            for (row, (status, body)) in some.iter().zip(join_all(some.iter().map(ask)).await) {
                let refusals = [400, setup.refusal()];
                assert!(
                    refusals.contains(&status),
                    "{way:?} {path} {row:?} {status} {body}"
                );
            }
        }
    }
    if setup.is_envoy() {
        for [first, second] in [["Bearer a", &*password], [&*password, "Bearer a"]] {
            let headers = [("authorization", first), ("authorization", second)];
            let url = "http://www.example.com/healthz";
            let reply = try_send_http2(setup.edge(), "GET", url, &headers).await;
            assert_eq!(reply.unwrap().status, 400, "{way:?} {headers:?}");
        }
    }
    // Envoy removes an empty value.
    let headers = [("authorization", &*bob), ("authorization", "")];
    let (status, body) = setup.get("/healthz", &headers).await;
    match status {
        200 => assert_eq!(shown(&body), Some(&*bob), "{way:?} {body}"),
        _ => assert!(status == 400 || status == setup.refusal(), "{way:?} {body}"),
    }
    // A value of another scheme may contain commas; Doorward removes it completely.
    let foreign = format!("Digest username=\"x\", {password}");
    let (status, body) = setup.get("/healthz", &[("authorization", &foreign)]).await;
    assert_eq!((status, shown(&body)), (200, None), "{way:?} {body}");
}

behind_each_gateway!(two_values_do_not_reach_the_service);
