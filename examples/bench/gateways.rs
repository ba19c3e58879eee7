//! What Doorward's HTTP port is compared with: an nginx that calls no authorizer, and a Flask service of the kind
//! that Doorward replaces.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::Context as _;
use rustix::process::Signal;
use tempfile::TempDir;

use super::harness::{Gateway, Process, Proxy, free_address, tool, try_send};

/// The committed nginx in front of Doorward; nginx itself serves a small image instead of the service.
pub async fn nginx(doorward: SocketAddr) -> Proxy {
    let nowhere = free_address();
    Gateway::Nginx.start(doorward, nowhere, served).await
}

/// The same nginx, but it answers the sub-request itself.
pub async fn static_nginx() -> Proxy {
    let nowhere = free_address();
    let alone =
        |text| served(text).replace("proxy_pass http://doorward/auth/nginx;", "return 204;");
    Gateway::Nginx.start(nowhere, nowhere, alone).await
}

/// An nginx that answers every sub-request of another nginx with 204.
pub async fn answering_nginx() -> Proxy {
    let nowhere = free_address();
    let answers = |text| served(text).replace("auth_request /.doorward;", "return 204;");
    Gateway::Nginx.start(nowhere, nowhere, answers).await
}

/// Raises a limit: by default nginx closes a connection after its 1000th request.
fn served(text: String) -> String {
    text.replace("proxy_pass http://service;", "empty_gif;")
        .replace(
            "access_log off;",
            "access_log off;\n    keepalive_requests 100000000;",
        )
}

/// A hand-written Python service, under gunicorn with two workers.
pub struct Flask {
    process: Process,
    _dir: TempDir,
    pub address: SocketAddr,
}

impl Flask {
    /// Starts it with Doorward's secret.
    pub async fn start(secret: &Path) -> anyhow::Result<Self> {
        let secret = fs::read_to_string(secret).context("the secret of Doorward")?;
        let dir = tempfile::tempdir()?;
        let service = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/bench");
        let address = free_address();
        let mut command = Command::new("python3");
        command
            .args([
                "-m",
                "gunicorn",
                "--workers",
                "2",
                "--bind",
                &address.to_string(),
            ])
            .args([
                "--pythonpath",
                &service.display().to_string(),
                "flask_service:app",
            ])
            .env("PYTHONPATH", tool("flask"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("JWT_SECRET", secret.trim_end())
            .current_dir(dir.path());
        let mut process = Process::start("gunicorn", &mut command, dir.path());
        process
            .ready(async |_| try_send(address, "GET", "/", &[], "").await.ok())
            .await;
        Ok(Self {
            process,
            _dir: dir,
            address,
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends SIGTERM, so that its workers end too.
    pub async fn stop(mut self) {
        self.process.signal(Signal::TERM);
        self.process.end(END).await;
    }
}

const END: Duration = Duration::from_secs(10);
