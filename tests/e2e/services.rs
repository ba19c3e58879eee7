//! The examples of services that read who is asking, behind a real Envoy.

use serde_json::{Value, json};

use crate::{
    direct::bearer,
    front::{ADA, log_in, tampered},
    harness::{Doorward, Envoy, EnvoyConfig, Example, Language, repository, send},
};

/// A name that the header must encode.
const CAROL: (&str, &str) = ("Çarol, of 100%", "builder-of-things");

async fn every_caller_is_read_and_every_token_verified(language: Language) {
    let rules = std::fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let home = Doorward::prepare(|settings| {
        // A public route: the service gets the identity if there is one.
        settings.toml(
            rules + "[[route]]\npath = \"/whoami\"\nmethods = [\"GET\"]\nallow = \"public\"\n",
        );
    });
    home.run(&["migrate"], "").await.ok();
    home.run(&["keys", "generate", "ES256"], "").await.ok();
    home.add_user(ADA.0, ADA.1, &["--admin"]).await;
    home.add_user(CAROL.0, CAROL.1, &["--role", "editor", "--role", "billing"])
        .await;
    let doorward = home.serve().await;
    let example = Example::start(language, doorward.http).await;
    let config = EnvoyConfig::committed()
        .free_ports()
        .doorward(doorward.grpc)
        .service(example.address);
    let envoy = Envoy::start(Envoy::NEWEST, &config).await;
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        send(envoy.edge, "GET", path, headers, "").await
    };

    let carol = log_in(envoy.edge, CAROL).await;
    let ada = log_in(envoy.edge, ADA).await;
    let of_carol = json!({"user": CAROL.0, "roles": ["billing", "editor"], "admin": false});
    let of_ada = json!({"user": "ada", "roles": ["admin"], "admin": true});
    let sorted = |mut told: Value| {
        let roles = told["roles"].as_array_mut().unwrap();
        roles.sort_by_key(|role| role.as_str().unwrap().to_owned());
        told
    };
    for (who, expected) in [(&carol, of_carol), (&ada, of_ada)] {
        for path in ["/whoami", "/verified"] {
            // Identity headers of the client do not reach the service.
            let headers = [
                ("authorization", &**who),
                ("x-auth-user", "root"),
                ("x-auth-admin", "true"),
            ];
            let reply = ask(path, &headers).await;
            assert_eq!(reply.status, 200, "{language:?} {path}: {reply:?}");
            assert_eq!(sorted(reply.json()), expected, "{language:?} {path}");
        }
    }
    let nobody = json!({"user": null, "roles": [], "admin": false});
    assert_eq!(
        ask("/whoami", &[("x-auth-user", "root")]).await.json(),
        nobody
    );

    // Past the gateway, where headers can be forged, only a token that verifies counts.
    let direct = async |authorization: Option<&str>| {
        let mut headers = vec![
            ("x-auth-user", "root"),
            ("x-auth-roles", "admin"),
            ("x-auth-admin", "true"),
        ];
        headers.extend(authorization.map(|value| ("authorization", value)));
        send(example.address, "GET", "/verified", &headers, "").await
    };
    assert_eq!(direct(Some(&carol)).await.json()["user"], CAROL.0);
    let unsigned = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIiwidXNlcm5hbWUiOiJyb290In0.";
    for wrong in [
        None,
        Some(&*tampered(&carol)),
        Some(unsigned),
        Some("Bearer x"),
        Some("Basic eDp5"),
    ] {
        let reply = direct(wrong).await;
        assert_eq!(reply.status, 401, "{language:?} {wrong:?}: {reply:?}");
    }
    // A token for another service, signed with the same key.
    let other = for_another_audience(&doorward).await;
    assert_eq!(direct(Some(&other)).await.status, 401, "{language:?}");
}

/// A token for another audience, signed with the same key.
async fn for_another_audience(doorward: &Doorward) -> String {
    let keys = doorward.home().dir().join("data/keys");
    let other = Doorward::prepare(|settings| {
        settings
            .env("DOORWARD_JWT__KEYS_DIR", keys.display().to_string())
            .env("DOORWARD_JWT__AUDIENCE", "another");
    });
    other.run(&["migrate"], "").await.ok();
    other.add_user(ADA.0, ADA.1, &[]).await;
    let other = other.serve().await;
    bearer(&other, ADA).await
}

#[tokio::test(flavor = "multi_thread")]
async fn flask() {
    every_caller_is_read_and_every_token_verified(Language::Flask).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fastapi() {
    every_caller_is_read_and_every_token_verified(Language::FastApi).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node() {
    every_caller_is_read_and_every_token_verified(Language::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go() {
    every_caller_is_read_and_every_token_verified(Language::Go).await;
}
