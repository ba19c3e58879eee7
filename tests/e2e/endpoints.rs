//! Doorward's own endpoints other than the login, through Envoy.

use serde_json::{Value, json};

use crate::{
    front::{ADA, BOB, Front},
    harness::{Envoy, Reply, send},
};

const RULES: &str = r#"
[[route]]
path = "/login"
allow = "login"
[[route]]
path = "/logout"
allow = "logout"
[[route]]
path = "/refresh"
allow = "refresh"
[[route]]
path = "/register"
allow = "register"
[[route]]
path = "/password"
allow = "password"
[[route]]
path = "/*"
allow = "signed-in"
"#;

async fn open(version: &str) -> Front {
    Front::open(
        version,
        |settings| {
            settings
                .toml(RULES)
                .env("DOORWARD_REFRESH__ENABLED", "true")
                .env("DOORWARD_SELF_SERVICE__REGISTER", "true")
                .env("DOORWARD_SELF_SERVICE__PASSWORD", "true");
        },
        |config| config,
    )
    .await
}

async fn post(front: &Front, path: &str, bearer: Option<&str>, body: Value) -> Reply {
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json"),
    ];
    headers.extend(bearer.map(|bearer| ("authorization", bearer)));
    send(front.envoy.edge, "POST", path, &headers, body.to_string()).await
}

fn text(reply: &Reply, member: &str) -> String {
    reply.json()[member].as_str().unwrap_or_default().to_owned()
}

async fn profile(front: &Front, bearer: &str) -> u16 {
    let headers = [("authorization", bearer)];
    front.send("GET", "/profile", &headers).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_refreshed_and_ended() {
    for version in Envoy::VERSIONS {
        let front = open(version).await;
        let login = json!({"username": BOB.0, "password": BOB.1});
        let reply = post(&front, "/login", None, login).await;
        assert_eq!(reply.status, 200, "{version} {reply:?}");
        let first = text(&reply, "refresh_token");
        assert_eq!(reply.header("x-refresh-token"), Some(&*first));
        assert_eq!(reply.json()["refresh_expires_in"], 30 * 24 * 60 * 60);

        let reply = post(&front, "/refresh", None, json!({"refresh_token": first})).await;
        assert_eq!(reply.status, 200, "{version} {reply:?}");
        let second = text(&reply, "refresh_token");
        assert_ne!(first, second);
        let bearer = reply.header("authorization").unwrap().to_owned();
        assert_eq!(profile(&front, &bearer).await, 200);
        // An answer may be lost; within the grace period, Doorward repeats it.
        let again = post(&front, "/refresh", None, json!({"refresh_token": first})).await;
        assert_eq!(text(&again, "refresh_token"), second);

        let reply = post(&front, "/logout", Some(&bearer), json!({})).await;
        assert_eq!((reply.status, reply.text()), (200, "Logged out"));
        assert_eq!(profile(&front, &bearer).await, 401, "{version}");
        let other = format!("Bearer {}", text(&again, "access_token"));
        assert_eq!(profile(&front, &other).await, 401, "the session has ended");
        for token in [&*second, "dwr_x", ""] {
            let body = json!({"refresh_token": token});
            let reply = post(&front, "/refresh", None, body).await;
            assert_eq!(
                (reply.status, reply.text()),
                (401, "Invalid refresh token"),
                "{version} {token}"
            );
        }
        let reply = post(&front, "/refresh", None, json!({})).await;
        assert_eq!(
            (reply.status, reply.text()),
            (400, "refresh_token: missing")
        );
        assert_eq!(front.service.requests(), 1, "{version}: one profile");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_manage_their_own_accounts() {
    for version in Envoy::VERSIONS {
        let front = open(version).await;
        let eve = ("eve", "a-quite-good-password");
        for (name, password, status, said) in [
            (eve.0, eve.1, 201, "Registered"),
            (eve.0, eve.1, 409, "username: taken"),
            ("Eve", eve.1, 400, "username: must be"),
            ("mallory", "short", 400, "password: too short"),
            ("mallory", "password1234", 400, "password: too common"),
        ] {
            let body = json!({"username": name, "password": password});
            let reply = post(&front, "/register", None, body).await;
            assert_eq!(reply.status, status, "{version} {reply:?}");
            assert!(reply.text().starts_with(said), "{version} {reply:?}");
        }
        let (bearer, other) = (front.bearer(eve).await, front.bearer(eve).await);
        for (current, new, status) in [
            ("not-the-current-one", "another-good-password", 401),
            (eve.1, "short", 400),
            (eve.1, "another-good-password", 200),
        ] {
            let body = json!({"current_password": current, "new_password": new});
            let reply = post(&front, "/password", Some(&bearer), body).await;
            assert_eq!(reply.status, status, "{version} {reply:?}");
            if status == 200 {
                let new = reply.header("authorization").unwrap();
                assert_eq!(profile(&front, new).await, 200);
            }
        }
        assert_eq!(profile(&front, &bearer).await, 401);
        assert_eq!(profile(&front, &other).await, 401);
        assert_eq!(front.login(eve).await.status, 401);
        front.bearer(("eve", "another-good-password")).await;
        let body = json!({"current_password": "x", "new_password": "y"});
        assert_eq!(post(&front, "/password", None, body).await.status, 401);
        front.bearer(ADA).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_for_disabled_endpoints_are_faults() {
    let home = crate::harness::Doorward::prepare(|settings| {
        settings.toml(RULES);
    });
    let ran = home.run(&["config", "check"], "").await;
    assert_eq!(ran.status.code(), Some(2));
    for key in [
        "refresh.enabled",
        "self_service.register",
        "self_service.password",
    ] {
        assert!(ran.stderr.contains(key), "{}", ran.stderr);
    }
}
