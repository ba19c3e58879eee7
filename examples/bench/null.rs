//! An authorizer that does nothing: the cost of tonic, the wire and the kernel alone.
//!
//! A plain tonic server with its defaults on the multi-threaded runtime. It uses the same generated types as
//! Doorward, so it decodes the same fields, and answers each check with OK and no headers. Like Doorward, it sets
//! TCP_NODELAY.

use std::{env, net::SocketAddr, process::Command};

use doorward::doors::wire::{
    envoy::service::auth::v3::{
        CheckRequest, CheckResponse, OkHttpResponse,
        authorization_server::{Authorization, AuthorizationServer},
        check_response::HttpResponse,
    },
    google::rpc::Status,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::{Server, server::TcpIncoming};

use super::harness::Process;

struct AlwaysOk;

#[tonic::async_trait]
impl Authorization for AlwaysOk {
    #[expect(clippy::disallowed_types, reason = "the trait requires this signature")]
    async fn check(
        &self,
        _: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        Ok(tonic::Response::new(CheckResponse {
            status: Some(Status::default()),
            http_response: Some(HttpResponse::OkResponse(OkHttpResponse::default())),
            dynamic_metadata: bytes::Bytes::new(),
        }))
    }
}

/// Serves on a free port, and prints the port.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Server::builder()
        .add_service(AuthorizationServer::new(AlwaysOk))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

/// The authorizer in a separate process.
pub struct Null {
    process: Process,
    _dir: TempDir,
    pub address: SocketAddr,
}

impl Null {
    pub async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(env::current_exe()?);
        let mut process = Process::start("null", command.arg("null"), dir.path());
        let address = process
            .ready(async |process| process.stdout().strip_suffix('\n')?.parse().ok())
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
}
