//! Doorward's check, compared with those of authorizers written by hand in Go and in Rust, and of servers that allow
//! everything. The sources of the others are in `peers/`; `make bench ONLY=peers` builds them.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use anyhow::Context as _;
use comfy_table::Table;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Arguments, CPU, RATE, binary,
    harness::{Doorward, Process},
    load::{self, Checks},
    null::Null,
    turns::{self, Measured, Program},
};

pub struct Report(Vec<Measured>);

impl Report {
    pub fn table(&self) -> Table {
        turns::table(&self.0, RATE, CPU)
    }

    pub fn json(&self) -> Value {
        turns::json(&self.0, RATE, CPU)
    }
}

pub async fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let doorward = serve(binary(arguments), None).await;
    let secret = doorward.home().secret();
    let before = match &arguments.before {
        Some(path) => Some(serve(path.clone(), Some(secret.clone())).await),
        None => None,
    };
    let null = Null::start().await?;
    let peers = [
        Peer::start("tonic-null", "tonic", &["null"], &secret).await?,
        Peer::start("tonic", "tonic", &[], &secret).await?,
        Peer::start("go", "go", &[], &secret).await?,
    ];
    let token = load::log_in(doorward.grpc).await?;
    let check = load::check(&token)?;
    let open = async |key, name: &str, pid, address| {
        let load = Checks::open(address, &check, arguments.streams).await?;
        anyhow::Ok(Program {
            key,
            name: name.to_owned(),
            server: (pid, load),
        })
    };
    let mut programs = vec![open("doorward", "Doorward", doorward.pid(), doorward.grpc).await?];
    if let Some(before) = &before {
        programs.push(open("before", "Doorward, earlier", before.pid(), before.grpc).await?);
    }
    let allows = "allows everything: tonic, Doorward's types";
    programs.push(open("null", allows, null.pid(), null.address).await?);
    let names = [
        "allows everything: tonic, envoy-types",
        "by hand: tonic, envoy-types, jsonwebtoken",
        "by hand: Go, go-control-plane, golang-jwt",
    ];
    for (peer, name) in peers.iter().zip(names) {
        programs.push(open(peer.key, name, peer.process.pid(), peer.address).await?);
    }
    Ok(Report(turns::measure(arguments, "peers", programs).await?))
}

/// Starts a Doorward with one user, and with this secret if there is one.
pub async fn serve(program: PathBuf, secret: Option<String>) -> Doorward {
    let home = Doorward::prepare(|settings| {
        settings.binary(program);
        if let Some(secret) = secret {
            settings.env("JWT_SECRET", secret);
        }
    });
    home.add_user(load::USER, load::PASSWORD, &[]).await;
    home.serve().await
}

/// An authorizer that is not Doorward.
struct Peer {
    key: &'static str,
    process: Process,
    address: SocketAddr,
    _dir: TempDir,
}

impl Peer {
    async fn start(
        key: &'static str,
        program: &str,
        arguments: &[&str],
        secret: &str,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let beside = std::env::current_exe()?;
        let beside = beside.ancestors().nth(3).context("no folder of builds")?;
        let mut command = Command::new(beside.join("peers").join(program));
        command.args(arguments).env("JWT_SECRET", secret);
        let mut process = Process::start(key, &mut command, dir.path());
        let address = process
            .ready(async |process| process.stdout().strip_suffix('\n')?.parse().ok())
            .await;
        Ok(Self {
            key,
            process,
            address,
            _dir: dir,
        })
    }
}
