//! Accepting HTTP/1.1 connections, with limits: a client that is slow, or that sends much, holds nothing for long.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::tls::Stream;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The most bytes of a head.
const HEAD_SIZE: usize = 64 * 1024;

/// The most headers of a request.
const HEADERS: usize = 128;

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS: usize = 10_000;

/// After an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// hyper's own limit is on its buffer, which may hold up to twice as much.
fn fits(request: &Request<Incoming>) -> bool {
    let headers = request.headers().iter();
    let size: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    size <= HEAD_SIZE
}

fn too_large() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("Too many headers"));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers connections until `stop` is done, then lets the requests that are under way end.
pub async fn serve<F, R>(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    answer: F,
    stop: impl Future<Output = ()>,
) where
    F: Fn(Request<Incoming>, SocketAddr) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE)
        .max_headers(HEADERS);
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accept = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Without it, small answers wait for acknowledgements; an error here ends the connection soon enough.
            let _ = stream.set_nodelay(true);
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let response = fits(&request).then(|| answer(request, peer));
                async move {
                    Ok::<_, Infallible>(match response {
                        Some(response) => response.await,
                        None => too_large(),
                    })
                }
            });
            let (http, acceptor, watcher) = (http.clone(), acceptor.clone(), connections.watcher());
            tokio::spawn(async move {
                // What a client breaks is its own affair.
                if let Ok(stream) = Stream::open(stream, acceptor.as_ref()).await {
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    let _ = watcher.watch(connection).await;
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    drop(listener);
    connections.shutdown().await;
}
