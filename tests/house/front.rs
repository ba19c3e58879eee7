//! A whole house: Doorward, the service and an Envoy in front of both, with an administrator and somebody else.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use doorward::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest,
    attribute_context::{self, HttpRequest, http_request::HeadersEntry},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};
use serde_json::Value;

use crate::harness::{Doorward, Envoy, EnvoyConfig, Reply, Service, Settings, repository, send};

pub const ADA: (&str, &str) = ("ada", "countess-of-lovelace");
pub const BOB: (&str, &str) = ("bob", "builder-of-things");

pub struct Front {
    pub doorward: Doorward,
    pub service: Service,
    pub envoy: Envoy,
}

impl Front {
    /// With the example rules.
    pub async fn open(
        version: &str,
        settings: impl FnOnce(&mut Settings),
        config: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
        let home = Doorward::prepare(|chosen| {
            chosen.toml(rules);
            settings(chosen);
        });
        home.run(&["migrate"], "").await.ok();
        home.add_user(ADA.0, ADA.1, &["--admin"]).await;
        home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
        Self::before(version, home.serve().await, config).await
    }

    /// In front of a Doorward that serves.
    pub async fn before(
        version: &str,
        doorward: Doorward,
        config: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        let service = Service::start().await;
        let config = config(EnvoyConfig::committed())
            .free_ports()
            .doorward(doorward.grpc)
            .service(service.address);
        let envoy = Envoy::start(version, &config).await;
        Self {
            doorward,
            service,
            envoy,
        }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        send(self.envoy.edge, method, path, headers, "").await
    }

    pub async fn login(&self, who: (&str, &str)) -> Reply {
        let credentials = basic(who.0, who.1);
        let headers = [("authorization", &*credentials)];
        self.send("POST", "/login", &headers).await
    }

    /// The `Authorization` value of somebody who has logged in.
    pub async fn bearer(&self, who: (&str, &str)) -> String {
        let reply = self.login(who).await;
        assert_eq!(reply.status, 200, "{reply:?}\n{}", self.doorward.output());
        reply.header("authorization").unwrap().to_owned()
    }

    /// The `Authorization` value of somebody who has logged in without a gateway.
    pub async fn login_directly(doorward: &Doorward, who: (&str, &str)) -> String {
        let http = HttpRequest {
            method: "POST".into(),
            path: "/login".into(),
            headers: vec![HeadersEntry {
                key: "authorization".into(),
                value: basic(who.0, who.1).into(),
            }],
            ..HttpRequest::default()
        };
        let check = CheckRequest {
            attributes: Some(AttributeContext {
                source: None,
                request: Some(attribute_context::Request { http: Some(http) }),
            }),
        };
        let url = format!("http://{}", doorward.grpc);
        let mut client = AuthorizationClient::connect(url).await.unwrap();
        let response = client.check(check).await.unwrap().into_inner();
        let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else {
            panic!("not answered by Doorward");
        };
        assert_eq!(denied.status.unwrap().code, 200);
        format!("Bearer {}", str::from_utf8(&denied.body).unwrap())
    }

    /// What arrived at the service, header by header, for a request that passed.
    pub async fn arrived(&self, path: &str, headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let reply = self.send("GET", path, headers).await;
        assert_eq!(reply.status, 200, "{path} {headers:?}: {reply:?}");
        let echo = reply.json();
        let pairs = echo["headers"].as_array().unwrap().iter();
        pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    }
}

pub fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{username}:{password}"))
    )
}

/// A token whose signature has been touched.
pub fn tampered(bearer: &str) -> String {
    let (rest, signature) = bearer.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{rest}.{first}{}", &signature[1..])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
