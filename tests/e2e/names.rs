//! Names that could be confused with others: users of another issuer, and names with authority.

use std::fs;

use serde_json::json;

use crate::{
    direct::{Session, login, post},
    front::Front,
    harness::{Doorward, Envoy, Reply, Settings, send},
};

const RULES: &str = r#"
[[route]]
path = "/login"
allow = "login"
[[route]]
path = "/register"
allow = "register"
[[route]]
path = "/*"
allow = "signed-in"
"#;

const ISSUER: &str = r#"
[[issuer]]
issuer = "https://partner.example/"
audience = "api"
jwks = "keys.json"
prefix = "partner."
"#;

fn choose(settings: &mut Settings, toml: &str) {
    settings
        .toml(toml)
        .env("DOORWARD_REFRESH__ENABLED", "true")
        .env("DOORWARD_SELF_SERVICE__REGISTER", "true");
}

const PASSWORD: &str = "a-quite-good-password";

/// Registers a user.
async fn register(at: std::net::SocketAddr, name: &str) -> Reply {
    let body = json!({"username": name, "password": PASSWORD}).to_string();
    let headers = [("content-type", "application/json")];
    send(at, "POST", "/register", &headers, body).await
}

async fn they_cannot_be_registered(at: std::net::SocketAddr, doorward: &Doorward) {
    for name in [
        "partner.bob",
        "partner.",
        "partner.x@example.com",
        "admin",
        "root",
        "r00t",
        "ad-min",
        "administrator",
        "support",
        "postmaster@example.com",
    ] {
        let reply = register(at, name).await;
        assert_eq!(
            (reply.status, reply.text()),
            (400, "username: reserved"),
            "{name}"
        );
        let who = (name, PASSWORD);
        assert_eq!(login(doorward, who).await.status, 401, "{name}");
    }
    for name in [
        "Partner.bob",
        "p\u{e1}rtner.bob",
        "partner.b\u{f6}b",
        "par\u{200b}tner.bob",
        "Admin",
    ] {
        let reply = register(at, name).await;
        assert!(
            reply.text().starts_with("username: must be"),
            "{name}: {reply:?}"
        );
    }
    for name in ["bob", "partnerbob", "bob.partner.", "administer"] {
        let reply = register(at, name).await;
        assert_eq!(reply.status, 201, "{name}: {reply:?}");
    }
    for reason in ["foreign-name", "reserved-name", "new-name"] {
        let is = |line: &serde_json::Value| line["fields"]["reason"] == reason;
        doorward.logged(reason, is).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_and_foreign_names_cannot_be_registered() {
    let toml = format!("{RULES}{ISSUER}");
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |settings| choose(settings, &toml), |config| config);
        let front = front.await;
        // Bob exists already.
        front
            .doorward
            .run(&["user", "remove", "bob"], "")
            .await
            .ok();
        they_cannot_be_registered(front.envoy.edge, &front.doorward).await;
    }
    let doorward = Doorward::start(|settings| choose(settings, &toml)).await;
    they_cannot_be_registered(doorward.http, &doorward).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_reserved_names_is_a_setting() {
    let toml = format!("{RULES}\n[self_service]\nregister = true\nreserved = ['Boss']\n");
    let doorward = Doorward::start(|settings| {
        settings.toml(&toml);
    })
    .await;
    assert_eq!(register(doorward.http, "boss").await.status, 400);
    assert_eq!(register(doorward.http, "admin").await.status, 201);
    // Without other issuers, no prefix is reserved.
    assert_eq!(register(doorward.http, "partner.bob").await.status, 201);
    let file = doorward.home().dir().join("doorward.toml");
    fs::write(file, toml.replace("Boss", "a:b")).unwrap();
    let ran = doorward.run(&["config", "check"], "").await;
    assert_eq!(ran.status.code(), Some(2));
    assert!(
        ran.stderr.contains("self_service.reserved") && ran.stderr.contains("cannot be a name"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_adds_reserved_names_and_no_foreign_ones() {
    let home = Doorward::prepare(|settings| choose(settings, &format!("{RULES}{ISSUER}")));
    for name in [
        "partner.bob",
        "Partner.Bob",
        "p\u{e1}rtner.bob",
        "par\u{200b}tner.bob",
        "\u{ff50}artner.bob",
        "\u{440}artner.bob",
    ] {
        let ran = home
            .run(&["user", "add", name], format!("{PASSWORD}\n"))
            .await;
        assert_eq!(ran.status.code(), Some(2), "{name}: {ran:?}");
        assert!(
            ran.stderr.contains("https://partner.example/"),
            "{}",
            ran.stderr
        );
    }
    let ran = home
        .run(&["user", "add", "admin"], format!("{PASSWORD}\n"))
        .await
        .ok();
    assert!(ran.stderr.contains("reserved"), "{ran:?}");
    let ran = home
        .run(&["user", "add", "ada"], format!("{PASSWORD}\n"))
        .await
        .ok();
    assert_eq!(ran.stderr, "");
}

/// Rows from before the issuer was configured, or written by another program: such a user gets no token, and without
/// the password nobody learns why.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_the_name_of_an_issuers_user_does_not_log_in() {
    let doorward = Doorward::start(|settings| choose(settings, RULES)).await;
    let names = ["partner.bob", "PARTNER.eve", "p\u{e1}rtner.ada"];
    let mut sessions = Vec::new();
    for name in names.into_iter().chain(["bob"]) {
        doorward.add_user(name, PASSWORD, &[]).await;
        let reply = login(&doorward, (name, PASSWORD)).await;
        assert_eq!(reply.status, 200, "{name}");
        sessions.push(Session::of(&reply));
    }
    let (home, _) = doorward.stop().await;
    fs::write(home.dir().join("doorward.toml"), format!("{RULES}{ISSUER}")).unwrap();
    let doorward = home.serve().await;
    for name in names {
        let right = login(&doorward, (name, PASSWORD)).await;
        let wrong = login(&doorward, (name, "a-wrong-password")).await;
        let unknown = login(&doorward, ("somebody", PASSWORD)).await;
        assert_eq!(right.status, 401, "{name}");
        assert!(right.header("x-refresh-token").is_none());
        for other in [wrong, unknown] {
            assert_eq!((right.status, right.text()), (other.status, other.text()));
        }
    }
    doorward
        .logged("why", |line| {
            line["fields"]["reason"] == "foreign-name" && line["fields"]["sub"].is_string()
        })
        .await;
    assert_eq!(login(&doorward, ("bob", PASSWORD)).await.status, 200);
    // Sessions of these users end as well.
    for (number, session) in sessions.iter().enumerate() {
        let body = json!({"refresh_token": session.refresh});
        let status = post(&doorward, "/refresh", None, &body).await.status;
        assert_eq!(status, if number < names.len() { 401 } else { 200 });
    }
    let listed = doorward.run(&["user", "list"], "").await.ok().stdout;
    let refused = listed
        .lines()
        .filter(|line| line.contains("refused: foreign name"));
    assert_eq!(refused.count(), names.len(), "{listed}");
}
