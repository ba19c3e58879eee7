//! The gateways of the matrix, each started with its committed configuration.

use std::{cell::RefCell, net::SocketAddr, process::Command};

use anyhow::ensure;

use super::{
    harness::{Envoy, EnvoyConfig, Gateway, Proxy, free_address, program, tool},
    ingress_provider::TraefikIngress,
    scenario::Scenarios,
};

/// A gateway, and how it asks the authorizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// `envoy/envoy.yaml`.
    Grpc(&'static str),
    /// `envoy/envoy-filter.yaml`: the module judges.
    Filter(&'static str),
    /// The HTTP port.
    Http(Gateway),
    /// The Ingresses of `k8s/overlays/ingress-nginx` in Traefik's provider for them.
    TraefikIngress,
}

/// Where the gateway finds the authorizer.
#[derive(Clone, Copy, Debug)]
pub struct Doors {
    pub grpc: SocketAddr,
    /// Another authorizer has none.
    pub http: SocketAddr,
}

impl Column {
    /// All gateways, in the order of the table.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Grpc(Envoy::OLDEST)];
        all.extend(Envoy::WITH_MODULES.map(Self::Grpc));
        all.extend([Gateway::OldestEnvoy, Gateway::NewestEnvoy].map(Self::Http));
        all.extend(Envoy::WITH_MODULES.map(Self::Filter));
        let others = [
            Gateway::Nginx,
            Gateway::IngressNginx,
            Gateway::Traefik,
            Gateway::Caddy,
            Gateway::Haproxy,
        ];
        all.extend(others.map(Self::Http));
        all.push(Self::TraefikIngress);
        all
    }

    /// The name that `--only` and the file of scenarios use.
    pub fn proxy(self) -> &'static str {
        match self {
            Self::Grpc(_) => "envoy-grpc",
            Self::Filter(_) => "filter",
            Self::Http(Gateway::OldestEnvoy | Gateway::NewestEnvoy) => "envoy-http",
            Self::Http(Gateway::Nginx) => "nginx",
            Self::Http(Gateway::IngressNginx) => "ingress-nginx",
            Self::Http(Gateway::Caddy) => "caddy",
            Self::Http(Gateway::Haproxy) => "haproxy",
            Self::Http(Gateway::Traefik) => "traefik",
            Self::TraefikIngress => "traefik-ingress-nginx",
        }
    }

    /// The head of its column in the table.
    pub fn title(self) -> &'static str {
        match self.proxy() {
            "envoy-grpc" => "Envoy, gRPC",
            "envoy-http" => "Envoy, HTTP",
            "filter" => "Envoy, module",
            "ingress-nginx" => "ingress-nginx's location block",
            "traefik" => "Traefik, forwardAuth",
            "traefik-ingress-nginx" => "Traefik, ingress-nginx's annotations",
            "caddy" => "Caddy",
            "haproxy" => "HAProxy",
            other => other,
        }
    }

    /// The version of the program.
    pub fn version(self) -> String {
        let ask = |name: &str, argument: &str| {
            let ran = Command::new(program(name)).arg(argument).output();
            let text = ran.map(|ran| [ran.stdout, ran.stderr].concat());
            number(&String::from_utf8_lossy(&text.unwrap_or_default()))
        };
        match self {
            Self::Grpc(version) | Self::Filter(version) => version.to_owned(),
            Self::Http(Gateway::OldestEnvoy) => Envoy::OLDEST.to_owned(),
            Self::Http(Gateway::NewestEnvoy) => Envoy::NEWEST.to_owned(),
            Self::Http(Gateway::Nginx | Gateway::IngressNginx) => ask("nginx", "-v"),
            Self::Http(Gateway::Caddy) => ask("caddy", "version"),
            Self::Http(Gateway::Haproxy) => ask("haproxy", "-v"),
            Self::Http(Gateway::Traefik) | Self::TraefikIngress => {
                let traefik = tool("traefik-3.7.15").join("traefik");
                let ran = Command::new(traefik).arg("version").output();
                let text = ran.map(|ran| ran.stdout).unwrap_or_default();
                number(&String::from_utf8_lossy(&text))
            }
        }
    }

    /// Whether it asks over gRPC, so that any authorizer of ext_authz can stand behind it.
    pub fn takes_any_authorizer(self) -> bool {
        matches!(self, Self::Grpc(_))
    }

    /// The setting `client_address` behind this gateway.
    pub fn client_address(self) -> Option<&'static str> {
        match self {
            Self::Http(gateway) if gateway.is_envoy() => Some("x-envoy-external-address"),
            Self::Http(_) | Self::TraefikIngress => Some("x-forwarded-for:1"),
            Self::Grpc(_) | Self::Filter(_) => None,
        }
    }

    /// Starts it with the named change of its configuration.
    pub async fn start(
        self,
        scenarios: &Scenarios,
        change: Option<&str>,
        doors: Doors,
        service: SocketAddr,
    ) -> anyhow::Result<Running> {
        let grpc = free_address();
        let edits = scenarios.edits(change, self.proxy());
        let filled = |text: &str| text.replace("{grpc-port}", &grpc.port().to_string());
        // Edits whose text is in no file.
        let unused = RefCell::new(edits.clone());
        let edit = |mut text: String| {
            for [from, to] in &edits {
                if text.contains(from) {
                    text = text.replace(from, &filled(to));
                    unused.borrow_mut().retain(|[own, _]| own != from);
                }
            }
            text
        };
        let program = match self {
            Self::Grpc(version) | Self::Filter(version) => {
                let config = match self {
                    Self::Filter(_) => EnvoyConfig::module(),
                    Self::Grpc(_) | Self::Http(_) | Self::TraefikIngress => {
                        EnvoyConfig::committed()
                    }
                };
                let config = config
                    .free_ports()
                    .doorward(doors.grpc)
                    .doorward_http_if_used(doors.http)
                    .service(service)
                    .change(edit);
                Program::Envoy(Envoy::start(version, &config).await)
            }
            Self::Http(gateway) => Program::Proxy(gateway.start(doors.http, service, edit).await),
            Self::TraefikIngress => {
                Program::TraefikIngress(TraefikIngress::start(doors, service, edit).await?)
            }
        };
        let unused = unused.into_inner();
        ensure!(
            unused.is_empty(),
            "the change {change:?} finds no place for {unused:?} in the configuration"
        );
        let edge = match &program {
            Program::Envoy(envoy) => envoy.edge,
            Program::Proxy(proxy) => proxy.edge,
            Program::TraefikIngress(traefik) => traefik.edge,
        };
        let has_own = edits.iter().any(|[_, to]| to.contains("{grpc-port}"));
        Ok(Running {
            program,
            edge,
            grpc: if has_own { grpc } else { edge },
        })
    }
}

/// A running gateway.
pub struct Running {
    program: Program,
    /// The address for clients.
    pub edge: SocketAddr,
    /// The address for clients that speak HTTP/2 at once.
    pub grpc: SocketAddr,
}

enum Program {
    Envoy(Envoy),
    Proxy(Proxy),
    TraefikIngress(TraefikIngress),
}

impl Running {
    /// The end of its log, for faults.
    pub fn log(&self) -> String {
        let log = match &self.program {
            Program::Envoy(envoy) => envoy.log(),
            Program::Proxy(proxy) => proxy.log(),
            Program::TraefikIngress(traefik) => traefik.log(),
        };
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(3)..].join("\n")
    }
}

/// The first number with dots in a text.
fn number(text: &str) -> String {
    let pieces = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let mut numbers = pieces.filter(|piece| piece.matches('.').count() >= 2);
    numbers.next().unwrap_or("?").to_owned()
}
