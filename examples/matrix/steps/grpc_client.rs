//! A gRPC client through the gateway, and a gRPC service that returns the headers it got. Both use the messages of
//! ext_authz, because the code for them exists.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use doorward::doors::wire::{
    envoy::service::auth::v3::{
        CheckRequest, CheckResponse,
        authorization_client::AuthorizationClient,
        authorization_server::{Authorization, AuthorizationServer},
    },
    google::rpc::Status,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Code,
    metadata::{AsciiMetadataKey, KeyAndValueRef},
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::{
    columns::Column,
    findings::Findings,
    requests::{identity_faults, refused_credentials},
    world::{Setup, World},
};

/// A gRPC service behind the gateway, and a client in front of it.
struct Calls<'a> {
    channel: Channel,
    setup: Setup<'a>,
    service: Echo,
}

impl<'a> Calls<'a> {
    async fn start(world: &'a World, column: Column, change: Option<&str>) -> anyhow::Result<Self> {
        let service = Echo::start().await?;
        let setup = world.before(column, change, service.address).await?;
        let channel = connect(setup.gateway.grpc).await?;
        Ok(Self {
            channel,
            setup,
            service,
        })
    }

    /// Calls the service with a forged identity.
    async fn call(&self, bearer: Option<&str>) -> anyhow::Result<Called> {
        call(&self.channel, bearer, &self.setup.world.identity).await
    }
}

/// Calls pass only with a token, and with its identity.
pub async fn calls(
    world: &World,
    column: Column,
    change: Option<&str>,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let calls = Calls::start(world, column, change).await?;
    let bob = calls.setup.bearer("bob")?;
    for (name, shown) in refused_credentials(&bob) {
        let answer = calls.call(shown.as_deref()).await?;
        let passed = matches!(answer, Called::Passed(_));
        if passed || calls.service.calls.load(Ordering::SeqCst) > 0 {
            found.open(format!("as {name}: it reached the service"));
        }
    }
    match calls.call(Some(&bob)).await? {
        Called::Denied(code, text) => {
            let log = calls.setup.gateway.log();
            found.refused(format!("as bob: {code:?} {text}; {log}"));
        }
        Called::Passed(headers) => {
            if let Some(fault) = identity_faults(&headers, &world.identity, Some("bob")) {
                found.open(format!("as bob: {fault}"));
            }
        }
    }
    Ok(())
}

/// A denial has the status UNAUTHENTICATED.
pub async fn denials(
    world: &World,
    column: Column,
    change: Option<&str>,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let calls = Calls::start(world, column, change).await?;
    for (name, shown) in refused_credentials(&calls.setup.bearer("bob")?) {
        match calls.call(shown.as_deref()).await? {
            Called::Denied(code, text) => found.demand(code == Code::Unauthenticated, || {
                format!("as {name}: {code:?} {text}")
            }),
            Called::Passed(_) => found.open(format!("as {name}: it passed")),
        }
    }
    Ok(())
}

async fn connect(edge: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Channel::from_shared(format!("http://{edge}"))?;
    let endpoint = endpoint.connect_timeout(LIMIT).timeout(LIMIT);
    Ok(endpoint.connect().await?)
}

const LIMIT: Duration = Duration::from_secs(10);

type Headers = Vec<(String, String)>;

/// What the client gets.
enum Called {
    /// The headers that the service got.
    Passed(Headers),
    Denied(Code, String),
}

/// Calls the service with a forged identity, and returns the headers that it got.
async fn call(channel: &Channel, bearer: Option<&str>, identity: &str) -> anyhow::Result<Called> {
    let mut request = tonic::Request::new(CheckRequest::default());
    let metadata = request.metadata_mut();
    metadata.insert(
        AsciiMetadataKey::from_bytes(identity.as_bytes())?,
        "ada".parse()?,
    );
    if let Some(bearer) = bearer {
        metadata.insert("authorization", bearer.parse()?);
    }
    let answer = AuthorizationClient::new(channel.clone())
        .check(request)
        .await;
    Ok(match answer {
        Ok(answer) => {
            let status = answer.into_inner().status.unwrap_or_default();
            Called::Passed(serde_json::from_slice(&status.message)?)
        }
        Err(status) => Called::Denied(status.code(), status.message().to_owned()),
    })
}

struct Echo {
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    calls: Arc<AtomicU64>,
    address: SocketAddr,
}

impl Echo {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let calls = Arc::new(AtomicU64::new(0));
        let service = AuthorizationServer::new(Service(Arc::clone(&calls)));
        let server = Server::builder().add_service(service);
        let task = tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok(Self {
            task,
            calls,
            address,
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service(Arc<AtomicU64>);

#[tonic::async_trait]
impl Authorization for Service {
    #[expect(clippy::disallowed_types, reason = "the trait requires this signature")]
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let pairs = request.metadata().iter().filter_map(|pair| match pair {
            KeyAndValueRef::Ascii(name, value) => {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                Some((name.to_string(), value))
            }
            KeyAndValueRef::Binary(..) => None,
        });
        let headers = serde_json::to_vec(&pairs.collect::<Headers>());
        let message = headers.map_err(|fault| tonic::Status::internal(fault.to_string()))?;
        Ok(tonic::Response::new(CheckResponse {
            status: Some(Status {
                code: 0,
                message: message.into(),
            }),
            ..CheckResponse::default()
        }))
    }
}
