//! Spellings of a path that a service could read as another path, sent through an Envoy that changes nothing and
//! through the committed one.

use crate::{
    front::{ADA, BOB, Front},
    harness::{Envoy, EnvoyConfig, Reply, send_bytes},
};

/// Everything is public except one host and its subdomains, which are for administrators.
pub const HOST_RULES: &str = "
    [[route]]
    path = '/login'
    allow = 'login'
    [[route]]
    path = '/*'
    allow = 'public'
    [[route]]
    path = '/*'
    hosts = ['internal.example', '*.internal.example']
    allow = 'role:admin'
";

pub const TRICKS: [&str; 23] = [
    "//admin/users",
    "/%61dmin/users",
    "/%2561dmin/users",
    "/x/../admin/users",
    "/x/%2e%2e/admin/users",
    "/x/.%2e/admin/users",
    "/./admin/users",
    "/admin;x/users",
    "/;x/admin/users",
    "/..;/admin/users",
    "/admin%2fusers",
    "/admin%2f..",
    "/admin%5cusers",
    "/admin\\users",
    "/Admin/users",
    "/ADMIN/USERS",
    "/admin%00/users",
    "/admin%/users",
    "/healthz/../admin/users",
    "/healthz%3f/../admin/users",
    "/healthz%2f..%2fadmin/users",
    "/healthz;/../admin/users",
    "/admin#/users",
];

async fn get(front: &Front, path: &str, bearer: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\nconnection: close\r\n\r\n"
    );
    send_bytes(front.envoy.edge, request.as_bytes()).await
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_paths_are_refused_as_they_are_sent() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, EnvoyConfig::untouched).await;
        let bob = front.bearer(BOB).await;
        for path in TRICKS {
            let answer = get(&front, path, &bob).await;
            assert_eq!(status(&answer), 400, "{version} {path}: {answer}");
        }
        assert_eq!(front.service.requests(), 0, "{version}");
        // The log shows the path, and no character of it ends the line.
        front
            .doorward
            .logged("an ambiguous path", |line| {
                line["fields"]["reason"] == "ambiguous-path"
                    && line["fields"]["path"] == r"/admin\\users"
            })
            .await;
        for path in [
            "/profile",
            "/profile?x=//../%2f;",
            "/a%20b",
            "/caf%C3%A9",
            "/Profile",
            "/a.b/...",
        ] {
            let answer = get(&front, path, &bob).await;
            assert_eq!(status(&answer), 200, "{version} {path}: {answer}");
        }
    }
}

/// Envoy normalizes some of these paths first; Doorward then judges the path that the service receives.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_bypasses_the_rule_behind_the_committed_envoy() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, |config| config).await;
        let bob = front.bearer(BOB).await;
        for path in TRICKS {
            let answer = get(&front, path, &bob).await;
            assert!(
                matches!(status(&answer), 400 | 403),
                "{version} {path}: {answer}"
            );
        }
        assert_eq!(front.service.requests(), 0, "{version}");
        let ada = front.bearer(ADA).await;
        let answer = get(&front, "/x/../admin/users", &ada).await;
        assert!(answer.contains("\"users\""), "{version}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tolerated_paths_are_judged_in_both_readings() {
    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings.env(
                "DOORWARD_PATHS__TOLERATE",
                "encoded-slash,semicolon,double-slash",
            );
        },
        EnvoyConfig::untouched,
    )
    .await;
    let (ada, bob) = (front.bearer(ADA).await, front.bearer(BOB).await);
    for path in ["/projects/group%2Fname", "/things;v=1/x", "/a//b"] {
        assert_eq!(status(&get(&front, path, &bob).await), 200, "{path}");
    }
    let before = front.service.requests();
    for path in [
        "//admin/users",
        "/admin%2fusers",
        "/admin;x/users",
        "/x%2f..%2fadmin/users",
        "/..;/admin/users",
    ] {
        assert_eq!(status(&get(&front, path, &bob).await), 400, "{path}");
        assert_eq!(status(&get(&front, path, &ada).await), 400, "{path}");
    }
    assert_eq!(front.service.requests(), before);
    assert_eq!(status(&get(&front, "/admin//users", &ada).await), 200);
    assert_eq!(status(&get(&front, "/admin//users", &bob).await), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_part_of_the_rules() {
    let front = Front::open(
        Envoy::NEWEST,
        |settings| {
            settings.toml(HOST_RULES);
        },
        EnvoyConfig::untouched,
    )
    .await;
    let ask = async |host: &str| -> Reply { front.send("GET", "/x", &[("host", host)]).await };
    for (host, status) in [
        ("www.example", 200),
        ("internal.example", 401),
        ("INTERNAL.example:8080", 401),
        ("internal.example.", 401),
        ("a.b.internal.example", 401),
        ("notinternal.example", 200),
        ("a?b=", 400),
        ("a#", 400),
        ("a@internal.example", 400),
    ] {
        assert_eq!(ask(host).await.status, status, "{host}");
    }
}
