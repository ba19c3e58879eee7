//! HTTP/2 connections of gateways, with limits, and the services that they can call.

use std::{
    any::Any,
    convert::Infallible,
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Either;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http2::Builder,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Sleep, sleep};
use tonic::service::Routes;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_http::{
    body::UnsyncBoxBody,
    catch_panic::{self, CatchPanic, ResponseForPanic},
};

use super::{
    Door,
    at_once::{Arrived, AtOnce},
    check,
    frames::{Allowance, Guarded, Signs},
};
use crate::{
    actions::authorizer::TurnedAway,
    domain::trust::Peer,
    doors::{
        connection::Connection,
        layers::{CatchPanicLayer, InFlight, LimitLayer, Refuse},
        tls::Stream,
    },
};

/// Concurrent calls on one connection; beyond it Envoy opens another connection.
const MAX_STREAMS: u32 = 1024;

/// Bytes of headers of one call of a gateway: more than Envoy accepts from a client, because it forwards the client's
/// `tracestate`. h2 answers larger headers itself, in a way that lets the request through if Envoy has `failure_mode_allow`.
const MAX_CALL_HEADERS: u32 = 16 * 1024 * 1024;

/// Calls that were reset before they were handled. Envoy resets calls of clients that hang up, and many resets may arrive at
/// once if Doorward had to wait for the processor; beyond this limit the connection closes, with all its calls.
const MAX_RESETS: usize = 8 * 1024;

/// The interval of keepalive pings, and the time for the answer.
const PING: Duration = Duration::from_secs(60);
const PONG: Duration = Duration::from_secs(20);

/// A gateway may make any number of calls, and answers pings.
const GATEWAY: Allowance = Allowance {
    burst: 1000,
    per_call: 8,
    per_second: 100,
};

/// A probe makes a few calls.
const STRANGER: Allowance = Allowance {
    burst: 500,
    per_call: 0,
    per_second: 10,
};

/// The path of checks, which skip the router of other services.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The only call of untrusted peers, such as probes.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The services of the gRPC port.
#[derive(Clone, Debug)]
pub(crate) struct Calls(Arc<Services>);

#[derive(Debug)]
struct Services {
    checks: Door,
    /// The most bytes of a check.
    max_check: usize,
    in_flight: &'static InFlight,
    others: CatchPanic<Routes, Internal>,
}

impl Calls {
    /// The door, with the most bytes of a check, and other services such as health.
    #[must_use]
    pub(crate) fn new(
        door: Door,
        max_check: usize,
        in_flight: &'static InFlight,
        others: Routes,
    ) -> Self {
        Self(Arc::new(Services {
            checks: door,
            max_check,
            in_flight,
            others: ServiceBuilder::new()
                .layer(catch_panic::CatchPanicLayer::custom(Internal))
                .service(others.prepare()),
        }))
    }

    /// Serves a connection of a peer, and reports its activity. Trust was looked up when it connected.
    pub(crate) fn serve(
        &self,
        stream: Stream,
        peer: Peer,
        is_trusted: bool,
        signs: Arc<Signs>,
    ) -> impl Connection + Send + 'static + use<> {
        let arrived = Arrived::default();
        let mut builder = Builder::new(arrived.clone());
        builder
            .auto_date_header(false)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            // RUSTSEC-2024-0003, CVE-2023-44487
            .max_local_error_reset_streams(1024);
        let allowance = if is_trusted {
            builder
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_CALL_HEADERS)
                .max_pending_accept_reset_streams(MAX_RESETS);
            GATEWAY
        } else {
            builder
                .max_concurrent_streams(4)
                .max_header_list_size(8 * 1024)
                .max_pending_accept_reset_streams(8)
                .initial_stream_window_size(4 * 1024)
                .initial_connection_window_size(64 * 1024)
                .max_send_buf_size(16 * 1024);
            STRANGER
        };
        let stream = Guarded::new(stream, allowance, Arc::clone(&signs));
        let visit = Visit(Arc::new(Connected {
            services: Arc::clone(&self.0),
            peer,
        }));
        let checks = ServiceBuilder::new()
            .layer(CatchPanicLayer(visit.clone()))
            .layer(LimitLayer {
                in_flight: self.0.in_flight,
                peers: is_trusted.into(),
                refuse: visit.clone(),
            })
            .service_fn({
                let visit = visit.clone();
                move |request| {
                    let visit = visit.clone();
                    async move {
                        let Connected { services, peer } = &*visit.0;
                        let door = &services.checks;
                        Ok(door.call(request, *peer, services.max_check).await)
                    }
                }
            });
        let service = service_fn(move |request: Request<Incoming>| {
            signs.called();
            let (checks, visit) = (checks.clone(), visit.clone());
            async move {
                match request.uri().path() {
                    CHECK => Ok(checks.oneshot(request).await?.map(Either::Left)),
                    // Boxed, because hyper moves the memory of every call, and most calls are checks.
                    _ => Box::pin(visit.answer(request)).await,
                }
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        AtOnce::new(connection, arrived)
    }
}

/// A connection of a peer.
#[derive(Clone, Debug)]
struct Visit(Arc<Connected>);

#[derive(Debug)]
struct Connected {
    services: Arc<Services>,
    peer: Peer,
}

/// The body of an answer. tonic and tower-http box theirs; the answer to a check needs no box.
type Reply = Either<check::Reply, UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>>;

impl Visit {
    /// Answers everything but checks. A panic there ends one call, and lets nothing pass.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
        let Connected { services, peer } = &*self.0;
        if request.uri().path() != HEALTH && !services.checks.trusts(*peer) {
            return Ok(check::not_permitted().map(Either::Left));
        }
        let others = services.others.clone();
        let response = others.oneshot(request.map(Timed::new)).await?;
        Ok(response.map(Either::Right))
    }
}

/// The answer to a call of another service that panicked.
#[derive(Clone, Copy, Debug)]
struct Internal;

impl ResponseForPanic for Internal {
    type ResponseBody = check::Reply;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send>) -> Response<check::Reply> {
        check::internal()
    }
}

impl Refuse for Visit {
    type Form = ();
    type Response = Response<check::Reply>;

    fn form<B>(&self, _: &Request<B>) {}

    fn panicked(&self, (): ()) -> Response<check::Reply> {
        let Connected { services, peer } = &*self.0;
        check::reply(services.checks.deny_after_panic(*peer))
    }

    fn overloaded<B>(
        &self,
        request: Request<B>,
    ) -> impl Future<Output = Response<check::Reply>> + Send + 'static
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let Connected { services, peer } = &*self.0;
        let answer = services.checks.turn_away(TurnedAway::Overloaded, *peer);
        async move {
            check::skip(request.into_body()).await;
            check::reply(answer)
        }
    }
}

/// The body of a call, which must end in time.
struct Timed {
    body: Incoming,
    end: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            end: Box::pin(sleep(check::BODY_TIME)),
        }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => self.end.as_mut().poll(context).map(|()| {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                Some(Err(late.into()))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
