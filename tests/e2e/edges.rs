//! Every gateway that asks Doorward, over gRPC or HTTP, in front of any service, with any rules.

use std::net::SocketAddr;

use crate::{
    front::{ADA, log_in},
    harness::{Doorward, Envoy, EnvoyConfig, Gateway, Proxy},
};

/// A gateway, and how it asks Doorward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// An Envoy of this version with `envoy/envoy.yaml`.
    Grpc(&'static str),
    /// An Envoy of this version with `envoy/envoy-filter.yaml`: the module judges.
    Module(&'static str),
    /// A gateway that asks the HTTP port.
    Http(Gateway),
}

impl Edge {
    /// Whether it is an Envoy.
    pub fn is_envoy(self) -> bool {
        match self {
            Self::Grpc(_) | Self::Module(_) => true,
            Self::Http(gateway) => gateway.is_envoy(),
        }
    }

    /// Starts the gateway with a Doorward that has these rules, and a service; `change` may edit the gateway's
    /// configuration.
    pub async fn open(
        self,
        rules: &str,
        service: SocketAddr,
        change: impl Fn(String) -> String,
    ) -> Opened {
        let home = Doorward::prepare(|settings| {
            settings.toml(rules);
            if let Self::Module(_) = self {
                settings.env("DOORWARD_FEED__ENABLED", "true");
            }
        });
        home.run(&["migrate"], "").await.ok();
        if let Self::Module(_) = self {
            home.run(&["keys", "generate", "ES256"], "").await.ok();
        }
        home.add_user(ADA.0, ADA.1, &["--admin"]).await;
        let doorward = home.serve().await;
        let (edge, running) = match self {
            Self::Grpc(version) | Self::Module(version) => {
                let config = match self {
                    Self::Module(_) => EnvoyConfig::module(),
                    Self::Grpc(_) | Self::Http(_) => EnvoyConfig::committed(),
                };
                let config = config
                    .free_ports()
                    .doorward(doorward.grpc)
                    .doorward_http_if_used(doorward.http)
                    .service(service)
                    .change(&change);
                let envoy = Envoy::start(version, &config).await;
                (envoy.edge, Running::Envoy(envoy))
            }
            Self::Http(gateway) => {
                let proxy = gateway.start(doorward.http, service, change).await;
                (proxy.edge, Running::Proxy(proxy))
            }
        };
        Opened {
            doorward,
            edge,
            _running: running,
        }
    }
}

/// A running gateway and its Doorward.
pub struct Opened {
    _running: Running,
    pub doorward: Doorward,
    /// The address for clients.
    pub edge: SocketAddr,
}

#[expect(dead_code, reason = "they run until they are dropped")]
enum Running {
    Envoy(Envoy),
    Proxy(Proxy),
}

impl Opened {
    /// Logs in as an administrator and gives the `Authorization` value.
    pub async fn admin(&self) -> String {
        log_in(self.doorward.http, ADA).await
    }
}
