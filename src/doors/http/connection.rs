//! HTTP/1.1 connections, with limits of time and size.

use std::{convert::Infallible, error::Error, time::Duration};

use super::unread::{Kept, Lingering, Unread};
use crate::doors::tls::Stream;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{CONNECTION, HeaderValue},
    server::conn::http1::Builder,
    service::{HttpService, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tower::{Service, ServiceExt as _};

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The most bytes of a head.
const HEAD_SIZE: usize = 64 * 1024;

/// The most headers of a request.
const HEADERS: usize = 128;

/// Serves a connection; closes it after an answer if `is_last` says so.
pub(crate) fn serve<S, B>(
    stream: Stream,
    service: S,
    is_last: impl Fn() -> bool + Clone + Send + 'static,
) -> impl GracefulConnection + Send + 'static
where
    S: Service<Request<Kept>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let fits = fits(&request);
        let (request, unread) = Unread::of(request);
        let answer = fits.then(|| service.clone().oneshot(request));
        let is_last = is_last.clone();
        async move {
            let mut response = match answer {
                Some(answer) => answer.await?.map(Either::Left),
                None => too_large().map(Either::Right),
            };
            if !unread.ends().await || is_last() {
                close_after(&mut response);
            }
            Ok::<_, Infallible>(response)
        }
    });
    connect(stream, service)
}

type BoxError = Box<dyn Error + Send + Sync>;

fn connect<S, B>(stream: Stream, service: S) -> impl GracefulConnection + Send + 'static
where
    S: HttpService<Incoming, ResBody = B, Error = Infallible, Future: Send> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
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

fn close_after<B>(response: &mut Response<B>) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
}
