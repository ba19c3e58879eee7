//! The examples of services, as their users run them.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use tempfile::TempDir;

use super::{Process, client, free_address, program, repository, tool};

/// A running example.
pub struct Example {
    // Declared before the directory, so that the process ends before the directory is removed.
    _process: Process,
    _dir: TempDir,
    /// The address of the service.
    pub address: SocketAddr,
}

/// The examples.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    Flask,
    FastApi,
    Node,
    Go,
}

impl Example {
    /// Starts it on a free port; it fetches keys from this address of Doorward.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start(language: Language, doorward: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let examples = repository().join("examples/services");
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let python = |file: &str, folders: &[PathBuf]| {
            let mut command = Command::new(program("python3"));
            command
                .arg(examples.join(file))
                .args([&host, &port])
                .env("PYTHONPATH", std::env::join_paths(folders).unwrap())
                .env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        let mut command = match language {
            Language::Flask => python("flask_service.py", &[tool("flask"), tool("pyjwt")]),
            Language::FastApi => python(
                "fastapi_service.py",
                &[tool("services/fastapi"), tool("pyjwt")],
            ),
            Language::Node => {
                // Node looks for packages beside the file.
                let file = dir.path().join("service.mjs");
                fs::copy(examples.join("node/service.mjs"), &file).unwrap();
                let packages = tool("services/node/node_modules");
                std::os::unix::fs::symlink(packages, dir.path().join("node_modules")).unwrap();
                let mut command = Command::new(program("node"));
                command.arg(file).args([&host, &port]);
                command
            }
            Language::Go => {
                let mut command = Command::new(tool("services/service"));
                command.arg(address.to_string());
                command
            }
        };
        let keys = format!("http://{doorward}/.well-known/jwks.json");
        command.env("JWKS_URL", keys).current_dir(dir.path());
        let mut process = Process::start("example", &mut command, dir.path());
        process
            .ready(async |_| {
                let reply = client::try_send(address, "GET", "/whoami", &[], "").await;
                reply.is_ok().then_some(())
            })
            .await;
        Self {
            _process: process,
            _dir: dir,
            address,
        }
    }
}
