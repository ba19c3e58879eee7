//! HTTP/1.1 connections, with limits: a client that is slow, or that sends much, holds nothing for long.

use std::{convert::Infallible, time::Duration};

use super::unread::{Kept, Lingering, Unread};
use crate::tls::Stream;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    server::conn::http1::Builder,
    service::{HttpService, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The most bytes of a head.
const HEAD_SIZE: usize = 64 * 1024;

/// The most headers of a request.
const HEADERS: usize = 128;

/// Serves a connection. Where `is_last` says so, an answer is the last one of its connection.
pub fn serve<R>(
    stream: Stream,
    answer: impl Fn(Request<Kept>) -> R + Send + 'static,
    is_last: impl Fn() -> bool + Clone + Send + 'static,
) -> impl GracefulConnection + Send + 'static
where
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let fits = fits(&request);
        let (request, unread) = Unread::of(request);
        let response = fits.then(|| answer(request));
        let is_last = is_last.clone();
        async move {
            let mut response = match response {
                Some(response) => response.await,
                None => too_large(),
            };
            if !unread.ends().await || is_last() {
                close_after(&mut response);
            }
            Ok::<_, Infallible>(response)
        }
    });
    connect(stream, service)
}

fn connect<S>(stream: Stream, service: S) -> impl GracefulConnection + Send + 'static
where
    S: HttpService<Incoming, ResBody = Full<Bytes>, Error = Infallible, Future: Send>
        + Send
        + 'static,
{
    Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_SIZE)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(Lingering::new(stream)), service)
}

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
    close_after(&mut response);
    response
}

fn close_after(response: &mut Response<Full<Bytes>>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}
