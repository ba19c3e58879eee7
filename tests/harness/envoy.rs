//! An off-the-shelf Envoy with the committed configuration.

use std::{
    env, fs, net::SocketAddr, path::PathBuf, process::Command, sync::OnceLock, time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, Process, Reply, client, repository, tool, until};

/// The text of a configuration.
#[derive(Clone)]
pub struct EnvoyConfig(String);

impl EnvoyConfig {
    /// `envoy/envoy.yaml` with its committed ports.
    pub fn committed() -> Self {
        Self::file("envoy.yaml")
    }

    /// Reads `envoy/envoy-filter.yaml`. Cargo builds the module, with hooks that panic on request.
    pub fn module() -> Self {
        Self::file("envoy-filter.yaml")
    }

    /// Removes the module's bootstrap extension, so that only its filter is left.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn without_bootstrap(self) -> Self {
        let (before, rest) = (self.0.split_once("\nbootstrap_extensions:")).expect("an extension");
        let (_, after) = (rest.split_once("\noverload_manager:")).expect("what follows it");
        Self(format!("{before}\noverload_manager:{after}"))
    }

    /// The filters before the router, as they are written.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn filters(&self) -> &str {
        let start = "                http_filters:\n";
        let router = "                  - name: envoy.filters.http.router\n";
        let (_, rest) = self.0.split_once(start).expect("filters");
        let (filters, _) = rest.split_once(router).expect("a router");
        filters
    }

    /// Whether the configuration loads the module.
    pub fn has_module(&self) -> bool {
        self.0.contains("dynamic_modules")
    }

    /// Another file in `envoy/`.
    pub fn file(name: &str) -> Self {
        let path = repository().join("envoy").join(name);
        Self(
            fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display())),
        )
    }

    /// Replaces every `from`.
    ///
    /// # Panics
    ///
    /// If `from` does not occur.
    pub fn replace(self, from: &str, to: &str) -> Self {
        assert!(
            self.0.contains(from),
            "{from:?} is not in the configuration of Envoy"
        );
        Self(self.0.replace(from, to))
    }

    /// Changes the text.
    pub fn change(self, change: impl FnOnce(String) -> String) -> Self {
        Self(change(self.0))
    }

    /// Lets Envoy choose the ports that it listens on.
    pub fn free_ports(self) -> Self {
        self.replace("port_value: 8080 }", "port_value: 0 }")
            .replace("port_value: 9901 }", "port_value: 0 }")
    }

    /// Sets the address of Doorward's gRPC door.
    pub fn doorward(self, address: SocketAddr) -> Self {
        self.replace(
            "port_value: 9001 }",
            &format!("port_value: {} }}", address.port()),
        )
    }

    /// Sets the address of Doorward's HTTP port.
    pub fn doorward_http(self, address: SocketAddr) -> Self {
        self.replace(
            "port_value: 9002 }",
            &format!("port_value: {} }}", address.port()),
        )
    }

    /// Sets the address of Doorward's HTTP port, if the configuration has a place for it.
    pub fn doorward_http_if_used(self, address: SocketAddr) -> Self {
        match self.0.contains("port_value: 9002 }") {
            true => self.doorward_http(address),
            false => self,
        }
    }

    /// Sets the address of the service.
    pub fn service(self, address: SocketAddr) -> Self {
        self.replace(
            "port_value: 8081 }",
            &format!("port_value: {} }}", address.port()),
        )
    }

    /// Configures these public keys instead of fetching them.
    ///
    /// # Panics
    ///
    /// If the file fetches no keys.
    pub fn local_jwks(self, jwks: &str) -> Self {
        let (before, remote) = self.0.split_once("remote_jwks:").expect("remote_jwks");
        let indent = before.rsplit('\n').next().unwrap().len();
        let after = remote.match_indices('\n').find(|(at, _)| {
            let line = remote[at + 1..].lines().next().unwrap_or_default();
            line.len() - line.trim_start().len() <= indent
        });
        let (at, _) = after.expect("something after remote_jwks");
        Self(format!(
            "{before}local_jwks: {{ inline_string: {} }}{}",
            Value::from(jwks),
            &remote[at..]
        ))
    }

    /// Forwards paths and headers unchanged to Doorward.
    pub fn untouched(self) -> Self {
        self.replace("normalize_path: true", "normalize_path: false")
            .replace("merge_slashes: true", "merge_slashes: false")
            .replace(
                "path_with_escaped_slashes_action: REJECT_REQUEST",
                "path_with_escaped_slashes_action: KEEP_UNCHANGED",
            )
            .replace(
                "headers_with_underscores_action: REJECT_REQUEST",
                "headers_with_underscores_action: ALLOW",
            )
    }

    /// Sends headers to Doorward one by one, as bytes.
    pub fn raw_headers(self) -> Self {
        self.replace(
            "failure_mode_allow: false",
            "failure_mode_allow: false\n                      encode_raw_headers: true",
        )
    }
}

/// A running Envoy.
pub struct Envoy {
    process: Process,
    dir: TempDir,
    /// The address for clients.
    pub edge: SocketAddr,
    /// The address of the admin interface.
    pub admin: SocketAddr,
}

impl Envoy {
    /// The newest version in the tests.
    pub const NEWEST: &str = "1.40.0";
    /// The oldest version in the tests.
    pub const OLDEST: &str = "1.36.4";
    /// All versions in the tests.
    pub const VERSIONS: [&str; 2] = [Self::OLDEST, Self::NEWEST];
    /// The versions that load the module: the newest patch of each minor version.
    pub const WITH_MODULES: [&str; 3] = ["1.38.3", "1.39.3", Self::NEWEST];

    /// Starts Envoy and waits until it accepts requests.
    ///
    /// # Panics
    ///
    /// If Envoy does not start.
    pub async fn start(version: &str, config: &EnvoyConfig) -> Self {
        Self::with_workers(version, config, 1).await
    }

    /// Starts it with so many worker threads.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn with_workers(version: &str, config: &EnvoyConfig, workers: u16) -> Self {
        Self::begin(version, config, workers).started().await
    }

    /// Starts it with listeners that are gone five seconds after they were replaced, instead of ten minutes.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn with_short_drains(version: &str, config: &EnvoyConfig) -> Self {
        let envoy = Self::begin_with(version, config, 1, &["--drain-time-s", "5"]);
        envoy.started().await
    }

    async fn started(mut self) -> Self {
        let admin_file = self.dir.path().join("admin");
        let (admin, edge) = self
            .process
            .ready(async |_| {
                let admin = fs::read_to_string(&admin_file).ok()?.parse().ok()?;
                let ready = client::try_send(admin, "GET", "/ready", &[], "")
                    .await
                    .ok()?;
                let listeners = client::try_send(admin, "GET", "/listeners?format=json", &[], "")
                    .await
                    .ok()?;
                (ready.status == 200).then_some((admin, edge(&listeners.json())?))
            })
            .await;
        self.admin = admin;
        self.edge = edge;
        self
    }

    /// Starts Envoy without waiting: it has no address yet, and may exit.
    pub fn begin(version: &str, config: &EnvoyConfig, workers: u16) -> Self {
        Self::begin_with(version, config, workers, &[])
    }

    fn begin_with(version: &str, config: &EnvoyConfig, workers: u16, more: &[&str]) -> Self {
        let binary = tool(&format!("envoy-{version}")).join("envoy");
        let dir = tempfile::Builder::new().prefix("envoy-").tempdir().unwrap();
        let file = dir.path().join("envoy.yaml");
        let admin_file = dir.path().join("admin");
        fs::write(&file, &config.0).unwrap();
        let mut command = Command::new(binary);
        command
            .arg("--config-path")
            .arg(file)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .arg("--concurrency")
            .arg(workers.to_string())
            .args([
                "--disable-hot-restart",
                "--log-level",
                "warning",
                // Writes the access log without delay.
                "--file-flush-interval-msec",
                "20",
            ])
            .args(more)
            .current_dir(dir.path());
        if config.has_module() {
            command
                .env("ENVOY_DYNAMIC_MODULES_SEARCH_PATH", module())
                .args(["--component-log-level", "dynamic_modules:info"]);
        }
        Self {
            process: Process::start("envoy", &mut command, dir.path()),
            dir,
            edge: UNKNOWN,
            admin: UNKNOWN,
        }
    }

    /// The exit status, if Envoy has exited.
    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.process.exited()
    }

    /// The directory of its configuration.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Requests a path of the admin interface.
    pub async fn ask(&self, path: &str) -> Reply {
        client::send(self.admin, "GET", path, &[], "").await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The lines of its access log so far.
    pub fn access_log(&self) -> Vec<Value> {
        let text = self.process.stdout();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = text[..whole].lines();
        lines
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault}: {line}"))
            })
            .collect()
    }

    /// Its access log so far, as it is.
    pub fn access_text(&self) -> String {
        self.process.stdout()
    }

    /// Waits for a line of its access log.
    ///
    /// # Panics
    ///
    /// If the line does not appear within five seconds.
    pub async fn accessed(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(
            &format!("a line of Envoy's access log: {what}"),
            PATIENCE,
            async || self.access_log().into_iter().find(|line| is(line)),
        )
        .await
    }

    /// Its log.
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}

const UNKNOWN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// A directory with `libdoorward.so`, which Cargo builds once for all tests.
fn module() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        // Measurements use the one that `make filter` has built.
        if let Some(built) = env::var_os("DOORWARD_MODULE") {
            return built.into();
        }
        let target = repository().join(env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()));
        let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
        let status = Command::new(cargo)
            .current_dir(repository())
            // With an example, dependencies have the features that `cargo test` has built them with.
            .args([
                "build",
                "--quiet",
                "--locked",
                "--lib",
                "--example",
                "upstream",
            ])
            .args(["--workspace", "--exclude", "doorward-fuzz"])
            .args(["--features", "doorward-filter/panics"])
            .status()
            .unwrap();
        assert!(status.success(), "the module cannot be built");
        let dir = target.join("debug/module-of-tests");
        fs::create_dir_all(&dir).unwrap();
        // In one step, for tests that run beside this one in another process.
        let part = dir.join(format!("part-{}", std::process::id()));
        fs::copy(target.join("debug/libdoorward_filter.so"), &part).unwrap();
        fs::rename(&part, dir.join("libdoorward.so")).unwrap();
        dir
    });
    built.clone()
}

fn edge(listeners: &Value) -> Option<SocketAddr> {
    let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = address["port_value"].as_u64().filter(|port| *port != 0)?;
    format!("{}:{port}", address["address"].as_str()?)
        .parse()
        .ok()
}
