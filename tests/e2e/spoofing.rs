//! Identity headers that a client sends never reach the service as if the gateway had sent them.

use crate::{
    front::{ADA, BOB, Front},
    harness::{Envoy, EnvoyConfig, send_bytes},
};

const FORGED: [(&str, &str); 4] = [
    ("x-auth-user", "ada"),
    ("x-auth-user", "root"),
    ("X-Auth-Roles", "admin"),
    ("x-auth-admin", "true"),
];

const ALIASES: [(&str, &str); 8] = [
    ("x_auth_user", "ada"),
    ("x.auth.user", "ada"),
    ("x-auth_user", "ada"),
    ("X_Auth-Roles", "admin"),
    ("x.auth_roles", "admin"),
    ("x_auth_admin", "true"),
    ("x.auth.admin", "true"),
    ("x-auth.admin", "true"),
];

async fn forged_headers_do_not_arrive(version: &str, config: fn(EnvoyConfig) -> EnvoyConfig) {
    let front = Front::open(version, |_| {}, config).await;
    let bob = front.bearer(BOB).await;
    for alias in ALIASES {
        for path in ["/healthz", "/echo", "/nowhere"] {
            let headers = [("authorization", &*bob), alias];
            let reply = front.send("GET", path, &headers).await;
            assert_eq!(reply.status, 400, "{version} {path} {alias:?}");
        }
    }
    assert_eq!(front.service.requests(), 0, "{version}");
    nothing_forged_arrives(version, &front, &bob, &FORGED).await;
}

async fn nothing_forged_arrives(version: &str, front: &Front, bob: &str, forged: &[(&str, &str)]) {
    let identity = |arrived: Vec<(String, String)>| -> Vec<(String, String)> {
        let mut identity: Vec<_> = arrived
            .into_iter()
            .filter(|(name, _)| name.replace(['_', '.'], "-").starts_with("x-auth-"))
            .collect();
        identity.sort();
        identity
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    };

    let mut headers = forged.to_vec();
    headers.push(("authorization", bob));
    let known = identity(front.arrived("/echo", &headers).await);
    let expected = pairs(&[
        ("x-auth-admin", "false"),
        ("x-auth-roles", "editor"),
        ("x-auth-user", "bob"),
    ]);
    assert_eq!(known, expected, "{version}");

    let anonymous = identity(front.arrived("/healthz", forged).await);
    assert_eq!(anonymous, [], "{version}");

    let refused = front.send("GET", "/admin/users", &headers).await;
    assert_eq!(refused.status, 403, "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_do_not_pass_the_oldest_envoy() {
    forged_headers_do_not_arrive(Envoy::OLDEST, EnvoyConfig::untouched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_do_not_pass_the_newest_envoy() {
    forged_headers_do_not_arrive(Envoy::NEWEST, EnvoyConfig::untouched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_raw_headers_do_not_arrive() {
    forged_headers_do_not_arrive(Envoy::NEWEST, |config| config.untouched().raw_headers()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_do_not_pass_the_module() {
    for version in Envoy::WITH_MODULES {
        forged_headers_do_not_arrive(version, |_| EnvoyConfig::module().untouched()).await;
    }
}

/// A filter with `allowed_headers` hides headers from Doorward that the service still receives. Doorward then removes
/// the common aliases, in case the filter does not show them as its page requires.
#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_do_not_arrive_if_the_filter_shows_only_some_headers() {
    for version in Envoy::VERSIONS {
        let config = |config: EnvoyConfig| {
            config.untouched().replace(
                "failure_mode_allow: false",
                "failure_mode_allow: false\n                      allowed_headers: { patterns: [{ exact: authorization }] }",
            )
        };
        let front = Front::open(version, |_| {}, config).await;
        let bob = front.bearer(BOB).await;
        let forged: Vec<_> = FORGED.into_iter().chain(ALIASES).collect();
        nothing_forged_arrives(version, &front, &bob, &forged).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_envoy_refuses_names_with_underscores() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    let bob = front.bearer(BOB).await;
    let reply = front
        .send(
            "GET",
            "/profile",
            &[("authorization", &bob), ("x_auth_user", "ada")],
        )
        .await;
    assert_eq!(reply.status, 400);
    assert_eq!(front.service.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authorization_values_are_refused() {
    let ways: [fn(EnvoyConfig) -> EnvoyConfig; 3] = [
        |config| config,
        EnvoyConfig::raw_headers,
        |_| EnvoyConfig::module(),
    ];
    for version in Envoy::VERSIONS {
        for config in ways {
            if version == Envoy::OLDEST && config(EnvoyConfig::committed()).has_module() {
                continue;
            }
            let front = Front::open(version, |_| {}, config).await;
            let (ada, bob) = (front.bearer(ADA).await, front.bearer(BOB).await);
            let joined = format!("{ada},{bob}");
            for headers in [
                &[("authorization", &*ada), ("authorization", &*bob)][..],
                &[("authorization", &*ada), ("Authorization", &*ada)],
                &[("authorization", &*joined)],
            ] {
                let reply = front.send("GET", "/profile", headers).await;
                assert_eq!(reply.status, 400, "{version} {headers:?}");
                let challenge = reply.header("www-authenticate").unwrap();
                assert!(
                    challenge.contains("error=\"invalid_request\""),
                    "{challenge}"
                );
                let login = front.send("POST", "/login", headers).await;
                assert_ne!(login.status, 200, "{version} {headers:?}");
            }
            assert_eq!(front.service.requests(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_only_in_the_header() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    let bob = front.bearer(BOB).await;
    let token = bob.strip_prefix("Bearer ").unwrap();
    for (path, headers) in [
        (format!("/profile?access_token={token}"), vec![]),
        (
            "/profile".into(),
            vec![("cookie", format!("token={token}"))],
        ),
        (
            "/profile".into(),
            vec![("proxy-authorization", bob.clone())],
        ),
        ("/profile".into(), vec![("x-authorization", bob.clone())]),
    ] {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        assert_eq!(
            front.send("GET", &path, &headers).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(front.service.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_sees_the_token_unless_configured_otherwise() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    let bob = front.bearer(BOB).await;
    let seen =
        |arrived: Vec<(String, String)>| arrived.iter().any(|(name, _)| name == "authorization");
    assert!(seen(
        front.arrived("/echo", &[("authorization", &bob)]).await
    ));

    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings.env("DOORWARD_IDENTITY__FORWARD_BEARER", "false");
        },
        |config| config,
    )
    .await;
    let bob = front.bearer(BOB).await;
    let arrived = front.arrived("/echo", &[("authorization", &bob)]).await;
    assert!(
        arrived
            .iter()
            .any(|(name, value)| name == "x-auth-user" && value == "bob")
    );
    assert!(!seen(arrived));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_ascii_arrive_encoded() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    front
        .doorward
        .add_user("Jos\u{e9}, Dr. 100%", "a-long-password", &[])
        .await;
    let bearer = front
        .bearer(("Jos\u{e9}, Dr. 100%", "a-long-password"))
        .await;
    let profile = front
        .send("GET", "/profile", &[("authorization", &bearer)])
        .await
        .json();
    assert_eq!(profile["user"], "Jos%C3%A9%2C%20Dr.%20100%25");
    assert_eq!(
        (&profile["roles"], &profile["admin"]),
        (&"-".into(), &"false".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_utf8_are_refused_without_a_grpc_error() {
    for config in [
        EnvoyConfig::untouched,
        |config: EnvoyConfig| config.untouched().raw_headers(),
        |_| EnvoyConfig::module().untouched(),
    ] {
        let front = Front::open(Envoy::NEWEST, |_| {}, config).await;
        let answer = send_bytes(
            front.envoy.edge,
            b"GET /profile HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\xfe\r\nx-\x61: \xff\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("invalid_request"), "{answer}");
        assert_eq!(front.service.requests(), 0);
    }
}
