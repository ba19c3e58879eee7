//! A complete setup: Doorward, a service and an Envoy in front of both, with an administrator and another user.

use std::{fs, net::SocketAddr};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use doorward::doors::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{self, HttpRequest, http_request::HeadersEntry},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};
use serde_json::Value;

use crate::harness::{
    Doorward, Envoy, EnvoyConfig, Home, Reply, Service, Settings, repository, send,
};

pub use crate::harness::{basic, tampered};

pub const ADA: (&str, &str) = ("ada", "countess-of-lovelace");
pub const BOB: (&str, &str) = ("bob", "builder-of-things");

pub struct Front {
    pub doorward: Doorward,
    pub service: Service,
    pub envoy: Envoy,
}

impl Front {
    /// Starts everything with the example rules.
    pub async fn open(
        version: &str,
        settings: impl FnOnce(&mut Settings),
        config: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        Self::open_with(version, settings, |_| {}, config).await
    }

    /// Starts everything; `arrange` may put files beside the settings before they are read.
    pub async fn open_with(
        version: &str,
        settings: impl FnOnce(&mut Settings),
        arrange: impl FnOnce(&Home),
        config: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
        let config = config(EnvoyConfig::committed());
        let home = Doorward::prepare(|chosen| {
            chosen.toml(rules);
            if config.has_module() {
                chosen.env("DOORWARD_FEED__ENABLED", "true");
            }
            settings(chosen);
        });
        arrange(&home);
        home.run(&["migrate"], "").await.ok();
        if config.has_module() {
            // The feed contains only public keys.
            home.run(&["keys", "generate", "ES256"], "").await.ok();
        }
        home.add_user(ADA.0, ADA.1, &["--admin"]).await;
        home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
        Self::before(version, home.serve().await, |_| config).await
    }

    /// Starts an Envoy and a service in front of a running Doorward.
    pub async fn before(
        version: &str,
        doorward: Doorward,
        config: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        let service = Service::start().await;
        let config = config(EnvoyConfig::committed())
            .free_ports()
            .doorward(doorward.grpc)
            .doorward_http_if_used(doorward.http)
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

    /// Logs in through the gateway and gives the `Authorization` value.
    pub async fn bearer(&self, who: (&str, &str)) -> String {
        let reply = self.login(who).await;
        assert_eq!(reply.status, 200, "{reply:?}\n{}", self.doorward.output());
        reply.header("authorization").unwrap().to_owned()
    }

    /// Logs in without a gateway and gives the `Authorization` value.
    pub async fn login_directly(doorward: &Doorward, who: (&str, &str)) -> String {
        let response = check(doorward.grpc, "POST", "/login", &basic(who.0, who.1)).await;
        let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else {
            panic!("Doorward did not answer the login");
        };
        assert_eq!(denied.status.unwrap().code, 200);
        format!("Bearer {}", str::from_utf8(&denied.body).unwrap())
    }

    /// The headers that the service received with a request that passed.
    pub async fn arrived(&self, path: &str, headers: &[(&str, &str)]) -> Vec<(String, String)> {
        let reply = self.send("GET", path, headers).await;
        assert_eq!(reply.status, 200, "{path} {headers:?}: {reply:?}");
        let echo = reply.json();
        let pairs = echo["headers"].as_array().unwrap().iter();
        pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    }
}

/// A check of a request with this `Authorization` value.
pub fn question(method: &str, path: &str, authorization: &str) -> CheckRequest {
    let http = HttpRequest {
        method: method.to_owned().into(),
        path: path.to_owned().into(),
        headers: vec![HeadersEntry {
            key: "authorization".into(),
            value: authorization.to_owned().into(),
        }],
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    }
}

/// The response of the gRPC door, without a gateway.
pub async fn check(
    door: SocketAddr,
    method: &str,
    path: &str,
    authorization: &str,
) -> CheckResponse {
    let check = question(method, path, authorization);
    let mut client = AuthorizationClient::connect(format!("http://{door}"))
        .await
        .unwrap();
    client.check(check).await.unwrap().into_inner()
}

/// Logs in at the HTTP port and gives the `Authorization` value.
pub async fn log_in(http: SocketAddr, who: (&str, &str)) -> String {
    let credentials = basic(who.0, who.1);
    let headers = [("authorization", &*credentials)];
    let reply = send(http, "POST", "/login", &headers, "").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.header("authorization").unwrap().to_owned()
}

/// The reason for which `/validate` at the HTTP port refuses a Bearer value, if it does.
pub async fn refusal(http: SocketAddr, bearer: &str) -> Option<String> {
    let headers = [("authorization", bearer)];
    let reply = send(http, "GET", "/validate", &headers, "").await;
    match reply.status {
        200 => None,
        _ => Some(reply.header("x-auth-reason").unwrap_or("-").to_owned()),
    }
}

/// A member of a token's header.
pub fn header_of(bearer: &str, member: &str) -> String {
    let header = bearer.strip_prefix("Bearer ").unwrap_or(bearer);
    let (header, _) = header.split_once('.').unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header[member].as_str().unwrap_or_default().to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
