//! A real Flask service. It converts methods to upper case and answers `HEAD` with the handler of `GET`.

use std::{fs, net::SocketAddr, process::Command};

use tempfile::TempDir;

use super::{Process, client, program, repository, tool};

/// The running service.
pub struct Flask {
    // Declared before the directory, so that the process ends before the directory is removed.
    _process: Process,
    _dir: TempDir,
    /// The address of the service.
    pub address: SocketAddr,
}

impl Flask {
    /// Starts `items.py` on a port that it chooses.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("flask-").tempdir().unwrap();
        let port = dir.path().join("port");
        let mut command = Command::new(program("python3"));
        command
            .arg(repository().join("tests/harness/items.py"))
            .arg(&port)
            .env("PYTHONPATH", tool("flask"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(dir.path());
        let mut process = Process::start("flask", &mut command, dir.path());
        let address = process
            .ready(async |_| {
                let text = fs::read_to_string(&port).ok()?;
                let port: u16 = text.strip_suffix('\n')?.parse().ok()?;
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                let reply = client::try_send(address, "GET", "/ran", &[], "").await;
                reply.is_ok().then_some(address)
            })
            .await;
        Self {
            _process: process,
            _dir: dir,
            address,
        }
    }

    /// The handlers that have run so far, each named by its method.
    pub async fn ran(&self) -> Vec<String> {
        let reply = client::send(self.address, "GET", "/ran", &[], "").await;
        serde_json::from_slice(&reply.body).unwrap()
    }
}
