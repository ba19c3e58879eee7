//! Connections for the gRPC door, each after its handshake: one that is slow holds up no other.

use std::{io, time::Duration};

use futures_util::{Stream, stream};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::tls;

/// After an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be served.
const WAITING: usize = 64;

/// Accepts for as long as somebody takes connections.
pub(super) fn connections(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
) -> impl Stream<Item = io::Result<tls::Stream>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Without it answers wait for acknowledgements.
            let _ = stream.set_nodelay(true);
            let (sender, acceptor) = (sender.clone(), acceptor.clone());
            tokio::spawn(async move {
                // What a client breaks is its own affair.
                if let Ok(stream) = tls::Stream::open(stream, acceptor.as_ref()).await {
                    let _ = sender.send(Ok(stream)).await;
                }
            });
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        let stream = receiver.recv().await?;
        Some((stream, receiver))
    })
}

impl Connected for tls::Stream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp().connect_info()
    }
}
