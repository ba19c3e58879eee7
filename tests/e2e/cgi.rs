//! Doorward, a CGI service, and each gateway in front of both: the service reads the variables that CGI makes of the
//! request.

use std::{fs, net::SocketAddr};

use crate::{
    front::{ADA, BOB},
    harness::{
        Doorward, Envoy, EnvoyConfig, Gateway, Lighttpd, Proxy, Settings, ask_bytes, repository,
    },
};

/// The header pattern of `envoy/envoy-http.yaml`. A filter that shows Doorward only some headers needs it to show the
/// aliases.
pub const PATTERN: &str = "safe_regex: { regex: \"x[^a-z0-9]auth[^a-z0-9](user|roles|admin)\" }";

/// Runs a case behind each gateway, as one test each.
macro_rules! behind_each_gateway {
    ($case:ident) => {
        behind_each_gateway!(@ $case
            envoy_oldest: Grpc(Envoy::OLDEST),
            envoy_newest: Grpc(Envoy::NEWEST),
            envoy_oldest_filtered: FilteredGrpc(Envoy::OLDEST),
            envoy_newest_filtered: FilteredGrpc(Envoy::NEWEST),
            envoy_oldest_http: Http(Gateway::OldestEnvoy),
            envoy_newest_http: Http(Gateway::NewestEnvoy),
            nginx: Http(Gateway::Nginx),
            nginx_lax: LaxNginx,
            ingress_nginx: Http(Gateway::IngressNginx),
            haproxy: Http(Gateway::Haproxy),
            caddy: Http(Gateway::Caddy),
            traefik: Http(Gateway::Traefik));
    };
    (@ $case:ident $($name:ident: $way:ident $(($which:expr))?),*) => {
        mod $case {
            use crate::{cgi::Way, harness::{Envoy, Gateway}};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$case(Way::$way $(($which))?).await;
                }
            )*
        }
    };
}
pub(crate) use behind_each_gateway;

/// How a gateway asks Doorward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over gRPC, with the committed filter.
    Grpc(&'static str),
    /// Over gRPC, with a filter that shows Doorward only some headers.
    FilteredGrpc(&'static str),
    /// Over HTTP, with the committed configuration.
    Http(Gateway),
    /// The committed nginx, changed to allow all header names.
    LaxNginx,
}

enum Running {
    Envoy(Envoy),
    Proxy(Proxy),
}

pub struct Setup {
    pub way: Way,
    pub doorward: Doorward,
    pub service: Lighttpd,
    gateway: Running,
}

impl Setup {
    pub async fn open(way: Way) -> Self {
        Self::with(way, |_| {}, |text| text).await
    }

    /// `change` may edit the gateway's configuration.
    pub async fn with(
        way: Way,
        settings: impl FnOnce(&mut Settings),
        change: impl Fn(String) -> String,
    ) -> Self {
        let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
        let home = Doorward::prepare(|chosen| {
            chosen.toml(rules);
            settings(chosen);
        });
        home.run(&["migrate"], "").await.ok();
        home.add_user(ADA.0, ADA.1, &["--admin"]).await;
        home.add_user(BOB.0, BOB.1, &["--role", "editor"]).await;
        let doorward = home.serve().await;
        let service = Lighttpd::start(Lighttpd::ENVIRONMENT).await;
        let envoy = async |version, config: EnvoyConfig| {
            let config = config
                // Otherwise Envoy itself would refuse some of the names.
                .replace(
                    "headers_with_underscores_action: REJECT_REQUEST",
                    "headers_with_underscores_action: ALLOW",
                )
                .free_ports()
                .service(service.address);
            Running::Envoy(Envoy::start(version, &config).await)
        };
        let http = EnvoyConfig::file("envoy-http.yaml");
        let grpc = EnvoyConfig::committed();
        let gateway = match way {
            Way::Grpc(version) => envoy(version, grpc.doorward(doorward.grpc)).await,
            Way::FilteredGrpc(version) => {
                let filtered = format!(
                    "failure_mode_allow: false\n                      \
                     allowed_headers: {{ patterns: [{{ exact: authorization }}, {{ {PATTERN} }}] }}"
                );
                let config = grpc.replace("failure_mode_allow: false", &filtered);
                envoy(version, config.doorward(doorward.grpc)).await
            }
            Way::Http(Gateway::OldestEnvoy) => {
                envoy(Envoy::OLDEST, http.doorward_http(doorward.http)).await
            }
            Way::Http(Gateway::NewestEnvoy) => {
                envoy(Envoy::NEWEST, http.doorward_http(doorward.http)).await
            }
            Way::Http(gateway) => {
                let started = gateway.start(doorward.http, service.address, change);
                Running::Proxy(started.await)
            }
            Way::LaxNginx => {
                let lax = |text: String| {
                    let lines =
                        "http {\n    ignore_invalid_headers off;\n    underscores_in_headers on;\n";
                    change(text.replacen("http {\n", lines, 1))
                };
                let started = Gateway::Nginx.start(doorward.http, service.address, lax);
                Running::Proxy(started.await)
            }
        };
        Self {
            way,
            doorward,
            service,
            gateway,
        }
    }

    pub fn edge(&self) -> SocketAddr {
        match &self.gateway {
            Running::Envoy(envoy) => envoy.edge,
            Running::Proxy(proxy) => proxy.edge,
        }
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        ask_bytes(self.edge(), request("GET", path, headers).as_bytes()).await
    }

    /// Whether the gateway is an Envoy, which accepts HTTP/2 on the same port.
    pub fn is_envoy(&self) -> bool {
        match self.way {
            Way::Grpc(_) | Way::FilteredGrpc(_) => true,
            Way::Http(gateway) => gateway.is_envoy(),
            Way::LaxNginx => false,
        }
    }

    /// The status of a refused request.
    pub fn refusal(&self) -> u16 {
        match self.way {
            Way::Http(Gateway::IngressNginx) => 403,
            Way::Grpc(_) | Way::FilteredGrpc(_) | Way::LaxNginx | Way::Http(_) => 400,
        }
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("{method} {path} HTTP/1.1\r\nhost: www.example.com\r\n{lines}content-length: 0\r\n\r\n")
}
