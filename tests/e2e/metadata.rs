//! What a decision tells Envoy itself: its access log, and filters after ext_authz.

use serde_json::{Value, json};

use crate::{
    docs::blocks,
    front::{ADA, BOB, Front, basic, tampered},
    harness::{Envoy, EnvoyConfig},
};

/// The id of a user, taken from a token.
async fn id_of(front: &Front, who: (&str, &str)) -> String {
    let bearer = front.bearer(who).await;
    let claims = bearer.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

async fn the_access_log_shows_user_and_reason(
    version: &str,
    config: fn(EnvoyConfig) -> EnvoyConfig,
) {
    let front = Front::open(version, |_| {}, config).await;
    let (ada, bob) = (id_of(&front, ADA).await, id_of(&front, BOB).await);
    let bearer = front.bearer(BOB).await;
    let wrong = basic(BOB.0, "a-wrong-password");
    let bad = tampered(&bearer);
    // Every way in which a client could forge these values.
    let forged = [
        ("x-envoy-filters-http-ext-authz", "sub=root"),
        ("x-ext-authz-sub", "root"),
        ("sub", "root"),
        ("rule", "root"),
        ("x-auth-user", "root"),
        ("x-envoy-dynamic-metadata", "root"),
    ];
    let line = async |method: &str, path: &str, authorization: Option<&str>, status| {
        let mut headers = forged.to_vec();
        headers.extend(authorization.map(|value| ("authorization", value)));
        let path = format!("{path}?sub=root&decision=allow");
        let reply = front.send(method, &path, &headers).await;
        assert_eq!(reply.status, status, "{version} {path} {reply:?}");
        let path = path.split('?').next().unwrap().to_owned();
        let found = front
            .envoy
            .accessed(&format!("{method} {path}"), |line| {
                line["path"] == *path && line["method"] == *method && line["status"] == status
            })
            .await;
        let text = found.to_string();
        for never in ["root", "?", &bearer[7..], BOB.1, "a-wrong-password"] {
            assert!(!text.contains(never), "{version} {never} in {text}");
        }
        found
    };
    let said =
        |line: &Value| ["decision", "reason", "rule", "sub", "roles"].map(|key| line[key].clone());

    let pass = line("GET", "/profile", Some(&bearer), 200).await;
    let expected = [
        json!("allow"),
        json!("token"),
        json!("/*"),
        json!(bob),
        json!(["editor"]),
    ];
    assert_eq!(said(&pass), expected, "{version}");

    let denied = line("GET", "/admin/users", Some(&bearer), 403).await;
    let [decision, reason, rule, sub, roles] = said(&denied);
    assert_eq!(
        (decision, reason, sub, roles),
        (
            json!("deny"),
            json!("missing-role"),
            json!(bob),
            json!(["editor"])
        )
    );
    assert!(rule.as_str().unwrap().contains("/admin/*"), "{rule}");

    let nobody = line("GET", "/somewhere", Some(&bad), 401).await;
    let [decision, reason, _, sub, roles] = said(&nobody);
    assert_eq!(
        (decision, reason, sub, roles),
        (
            json!("deny"),
            json!("token-signature"),
            Value::Null,
            Value::Null
        )
    );

    let open = line("GET", "/healthz", None, 200).await;
    let [decision, reason, _, sub, roles] = said(&open);
    assert_eq!(
        (decision, reason, sub, roles),
        (json!("allow"), json!("anonymous"), Value::Null, Value::Null)
    );

    let refused = line("POST", "/login", Some(&wrong), 401).await;
    let [decision, reason, _, sub, _] = said(&refused);
    assert_eq!(
        (decision, reason, sub),
        (json!("deny"), json!("wrong-password"), json!(bob))
    );
    // ada's login, from whose token her id is taken.
    let of_ada = |line: &Value| line["path"] == "/login" && line["sub"] == *ada;
    let login = front.envoy.accessed("a login", of_ada).await;
    let [decision, reason, rule, sub, roles] = said(&login);
    assert_eq!(
        (decision, reason, sub, roles),
        (json!("issue"), json!("login"), json!(ada), json!(["admin"]))
    );
    assert!(rule.as_str().unwrap().contains("/login"), "{rule}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_of_the_oldest_envoy_shows_user_and_reason() {
    the_access_log_shows_user_and_reason(Envoy::OLDEST, |config| config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_of_the_newest_envoy_shows_user_and_reason() {
    the_access_log_shows_user_and_reason(Envoy::NEWEST, |config| config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_of_the_module_shows_user_and_reason() {
    for version in Envoy::WITH_MODULES {
        the_access_log_shows_user_and_reason(version, |_| EnvoyConfig::module()).await;
    }
}

/// Adds the filter of the guide before the router.
fn limited(config: EnvoyConfig) -> EnvoyConfig {
    let yaml = blocks("docs/metadata.md", "yaml");
    let filter = yaml
        .iter()
        .find(|block| block.contains("local_ratelimit"))
        .expect("an example in docs/metadata.md");
    let indented: Vec<_> = filter
        .lines()
        .map(|line| format!("                  {line}").trim_end().to_owned())
        .collect();
    let router = "                  - name: envoy.filters.http.router\n";
    config.replace(router, &format!("{}\n{router}", indented.join("\n")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_by_user_limits_that_user_alone() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, limited).await;
        let (ada, bob) = (front.bearer(ADA).await, front.bearer(BOB).await);
        let ask = async |bearer: &str, forged: &str| {
            let headers = [
                ("authorization", bearer),
                ("sub", forged),
                ("x-auth-user", forged),
            ];
            front.send("GET", "/profile", &headers).await.status
        };
        let mut statuses = vec![];
        for nth in 0..12 {
            // The request is counted by its token, whatever the client claims to be.
            statuses.push(ask(&bob, &format!("somebody-{nth}")).await);
        }
        assert_eq!(statuses[..10], [200; 10], "{version}");
        assert_eq!(statuses[10..], [429; 2], "{version}");
        assert_eq!(ask(&ada, "bob").await, 200, "{version}");
        assert_eq!(ask(&bob, "ada").await, 429, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_can_be_turned_off() {
    let choose = |settings: &mut crate::harness::Settings| {
        settings.env("DOORWARD_ENVOY__METADATA", "false");
    };
    let front = Front::open(Envoy::NEWEST, choose, |config| config).await;
    let bearer = front.bearer(BOB).await;
    let headers = [("authorization", &*bearer)];
    assert_eq!(front.send("GET", "/profile", &headers).await.status, 200);
    let line = front
        .envoy
        .accessed("GET /profile", |line| line["path"] == "/profile")
        .await;
    for key in ["decision", "reason", "rule", "sub", "roles"] {
        assert_eq!(line[key], Value::Null, "{line}");
    }
}
