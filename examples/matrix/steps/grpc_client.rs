//! A gRPC client through the gateway, and a gRPC service that says whom it sees. It happens to speak the messages of
//! ext_authz, for which there is code already.

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
    requests::{identity_faults, tampered},
    world::World,
};

/// What passes, and with which identity.
pub async fn calls(
    world: &World,
    column: Column,
    change: Option<&str>,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let service = Echo::start().await?;
    let setup = world.before(column, change, service.address).await?;
    let channel = connect(setup.gateway.grpc).await?;
    let bob = setup.bearer("bob")?;
    for (name, shown) in without(&bob) {
        let answer = call(&channel, shown.as_deref(), &world.identity).await?;
        let passed = matches!(answer, Called::Passed(_));
        if passed || service.calls.load(Ordering::SeqCst) > 0 {
            found.open(format!("as {name}: it reached the service"));
        }
    }
    match call(&channel, Some(&bob), &world.identity).await? {
        Called::Denied(code, text) => {
            found.refused(format!("as bob: {code:?} {text}; {}", setup.gateway.log()));
        }
        Called::Passed(headers) => {
            if let Some(fault) = identity_faults(&headers, &world.identity, Some("bob")) {
                found.open(format!("as bob: {fault}"));
            }
        }
    }
    Ok(())
}

/// What the client reads of a denial.
pub async fn denials(
    world: &World,
    column: Column,
    change: Option<&str>,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let service = Echo::start().await?;
    let setup = world.before(column, change, service.address).await?;
    let channel = connect(setup.gateway.grpc).await?;
    for (name, shown) in without(&setup.bearer("bob")?) {
        match call(&channel, shown.as_deref(), &world.identity).await? {
            Called::Denied(code, text) => found.demand(code == Code::Unauthenticated, || {
                format!("as {name}: {code:?} {text}")
            }),
            Called::Passed(_) => found.open(format!("as {name}: it passed")),
        }
    }
    Ok(())
}

/// Credentials that no call may pass with.
fn without(bob: &str) -> [(&'static str, Option<String>); 2] {
    [("nobody", None), ("a bad token", Some(tampered(bob)))]
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

/// Calls the service with a forged identity, and gives the headers that it got.
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
