//! The gateways that use Doorward's HTTP port, each with its committed configuration.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use tempfile::TempDir;

use super::{Envoy, EnvoyConfig, Process, client, free_address, program, repository, tool};

/// A gateway, named by its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// `envoy/envoy-http.yaml` in the oldest Envoy.
    OldestEnvoy,
    /// `envoy/envoy-http.yaml` in the newest Envoy.
    NewestEnvoy,
    /// `examples/nginx/nginx.conf`.
    Nginx,
    /// `examples/nginx/ingress-nginx.conf`.
    IngressNginx,
    /// `examples/caddy/`.
    Caddy,
    /// `examples/haproxy/`.
    Haproxy,
    /// `examples/traefik/`.
    Traefik,
}

impl Gateway {
    /// All gateways.
    pub const ALL: [Self; 7] = [
        Self::OldestEnvoy,
        Self::NewestEnvoy,
        Self::Nginx,
        Self::IngressNginx,
        Self::Caddy,
        Self::Haproxy,
        Self::Traefik,
    ];

    /// Whether it is an nginx, which supports only 401 and 403 as denials.
    pub fn is_nginx(self) -> bool {
        matches!(self, Self::Nginx | Self::IngressNginx)
    }

    /// Whether it is an Envoy.
    pub fn is_envoy(self) -> bool {
        matches!(self, Self::OldestEnvoy | Self::NewestEnvoy)
    }

    /// Starts the gateway in front of a service, with Doorward's HTTP port. `change` may modify the text of each
    /// file.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start(
        self,
        doorward: SocketAddr,
        service: SocketAddr,
        change: impl Fn(String) -> String,
    ) -> Proxy {
        let envoy = async |version| {
            let config = EnvoyConfig::file("envoy-http.yaml")
                .free_ports()
                .doorward_http(doorward)
                .service(service)
                .change(&change);
            let envoy = Envoy::start(version, &config).await;
            Proxy {
                edge: envoy.edge,
                running: Running::Envoy(envoy),
            }
        };
        let (example, start): (&str, fn(&Path) -> Command) = match self {
            Self::OldestEnvoy => return envoy(Envoy::OLDEST).await,
            Self::NewestEnvoy => return envoy(Envoy::NEWEST).await,
            Self::Nginx => ("nginx", |dir| nginx(dir, "nginx.conf")),
            Self::IngressNginx => ("nginx", |dir| nginx(dir, "ingress-nginx.conf")),
            Self::Caddy => ("caddy", caddy),
            Self::Haproxy => ("haproxy", haproxy),
            Self::Traefik => ("traefik", traefik),
        };
        let edge = free_address();
        let dir = tempfile::Builder::new()
            .prefix(&format!("{example}-"))
            .tempdir()
            .unwrap();
        for entry in fs::read_dir(repository().join("examples").join(example)).unwrap() {
            let file = entry.unwrap().path();
            let text = fs::read_to_string(&file).unwrap();
            let text = [(":8080", edge), (":8081", service), (":9002", doorward)]
                .iter()
                .fold(text, |text, (port, real)| {
                    text.replace(port, &format!(":{}", real.port()))
                });
            fs::write(dir.path().join(file.file_name().unwrap()), change(text)).unwrap();
        }
        let mut command = start(dir.path());
        command
            .current_dir(dir.path())
            // Caddy stores files in the home directory.
            .env("HOME", dir.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME");
        let mut process = Process::start(example, &mut command, dir.path());
        process
            .ready(async |_| {
                let reply = client::try_send(edge, "GET", "/", &[], "").await.ok()?;
                // Traefik listens before it has read its routes.
                (reply.status != 404).then_some(())
            })
            .await;
        Proxy {
            edge,
            running: Running::Program(process, dir),
        }
    }
}

/// A running gateway.
pub struct Proxy {
    running: Running,
    /// The address for clients.
    pub edge: SocketAddr,
}

enum Running {
    Envoy(Envoy),
    // The process is declared before its directory, so that it ends before the directory is removed.
    Program(Process, TempDir),
}

impl Proxy {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::Envoy(envoy) => envoy.pid(),
            Running::Program(process, _) => process.pid(),
        }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        match &self.running {
            Running::Envoy(envoy) => envoy.log(),
            Running::Program(process, _) => process.output(),
        }
    }
}

/// Runs nginx as one process, because killing a master would leave its workers behind. Files that Debian's packages
/// keep in `/var/lib/nginx` and `/run` go into the directory.
fn nginx(dir: &Path, file: &str) -> Command {
    let path = dir.join(file);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {}/{kind};\n", dir.display()))
        .collect();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        text.replacen("http {\n", &format!("http {{\n{temporary}"), 1),
    )
    .unwrap();
    let mut command = Command::new(program("nginx"));
    command
        .args(["-e", "stderr", "-p"])
        .arg(dir)
        .arg("-c")
        .arg(path)
        .args(["-g", "daemon off; master_process off; pid nginx.pid;"]);
    command
}

fn caddy(_: &Path) -> Command {
    let mut command = Command::new(program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
    command
}

fn haproxy(_: &Path) -> Command {
    let mut command = Command::new(program("haproxy"));
    command.args(["-db", "-f", "haproxy.cfg"]);
    command
}

fn traefik(_: &Path) -> Command {
    let mut command = Command::new(tool("traefik-3.7.15").join("traefik"));
    command.arg("--configfile=traefik.yaml");
    command
}
