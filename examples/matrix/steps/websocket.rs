//! A WebSocket through the gateway, to a service that says who opened it and repeats what it hears.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::header::{HeaderName, HeaderValue};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        handshake::server::{Request, Response},
    },
};

use crate::{
    columns::Column,
    findings::Findings,
    requests::{identity_faults, refused_credentials},
    world::World,
};

pub async fn run(
    world: &World,
    column: Column,
    change: Option<&str>,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let service = Socket::start().await?;
    let setup = world.before(column, change, service.address).await?;
    let edge = setup.gateway.edge;
    let bob = setup.bearer("bob")?;
    for (name, shown) in refused_credentials(&bob) {
        match open(edge, shown.as_deref(), &world.identity).await? {
            Opened::Refused(status) if (300..600).contains(&status) => {}
            Opened::Refused(status) => found.refused(format!("as {name}: {status}")),
            Opened::Socket(_) => found.open(format!("as {name}: it opened")),
        }
    }
    if service.opened.load(Ordering::SeqCst) > 0 {
        found.open("a handshake without a token reached the service");
    }
    match open(edge, Some(&bob), &world.identity).await? {
        Opened::Refused(status) => found.refused(format!("as bob: {status}")),
        Opened::Socket(mut socket) => {
            let hello = next(&mut socket).await?;
            let headers: Vec<(String, String)> = serde_json::from_str(&hello)?;
            if let Some(fault) = identity_faults(&headers, &world.identity, Some("bob")) {
                found.open(format!("as bob: {fault}"));
            }
            socket.send(Message::text("to and fro")).await?;
            let back = next(&mut socket).await?;
            found.demand(back == "to and fro", || {
                format!("as bob: {back:?} came back")
            });
        }
    }
    Ok(())
}

enum Opened {
    Socket(Box<WebSocketStream<TcpStream>>),
    Refused(u16),
}

/// Opens a WebSocket with a forged identity.
async fn open(edge: SocketAddr, bearer: Option<&str>, identity: &str) -> anyhow::Result<Opened> {
    let mut request = format!("ws://{edge}/socket").into_client_request()?;
    let headers = request.headers_mut();
    headers.insert(
        HeaderName::try_from(identity)?,
        HeaderValue::from_static("ada"),
    );
    if let Some(bearer) = bearer {
        headers.insert("authorization", HeaderValue::from_str(bearer)?);
    }
    let stream = TcpStream::connect(edge).await?;
    match timeout(LIMIT, client_async(request, stream)).await? {
        Ok((socket, _)) => Ok(Opened::Socket(Box::new(socket))),
        Err(Error::Http(response)) => Ok(Opened::Refused(response.status().as_u16())),
        Err(fault) => Err(fault.into()),
    }
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> anyhow::Result<String> {
    let message = timeout(LIMIT, socket.next()).await?;
    let message = message.ok_or_else(|| anyhow::anyhow!("the socket has closed"))??;
    Ok(message.into_text()?.to_string())
}

const LIMIT: Duration = Duration::from_secs(10);

/// The service.
struct Socket {
    task: JoinHandle<()>,
    opened: Arc<AtomicU64>,
    address: SocketAddr,
}

impl Socket {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let opened = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&opened);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A fault of one connection ends only this one.
                tokio::spawn(serve(stream, Arc::clone(&count)));
            }
        });
        Ok(Self {
            task,
            opened,
            address,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, opened: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut headers = Vec::new();
    #[expect(clippy::result_large_err, reason = "tungstenite requires this type")]
    let read = |request: &Request, response: Response| {
        opened.fetch_add(1, Ordering::SeqCst);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let pairs = request.headers().iter();
        headers = pairs
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, read).await?;
    socket
        .send(Message::text(serde_json::to_string(&headers)?))
        .await?;
    if let Some(message) = socket.next().await {
        socket.send(message?).await?;
    }
    Ok(())
}
