//! HTTP/2 connections of gateways, with limits, and the services that they can call.

use std::time::Duration;

use futures_util::future::Either;
use hyper::{Request, body::Incoming, server::conn::http2::Builder, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tonic::{codegen::Service as _, service::Routes};

use super::Door;
use crate::{
    domain::trust::Peer, tls::Stream,
    wire::envoy::service::auth::v3::authorization_server::AuthorizationServer,
};

/// The longest check that is read: the headers and the body of one request, in bytes.
const MAX_CHECK: usize = 4 * 1024 * 1024;

/// Calls on one connection at once; Envoy opens more connections beyond it.
const MAX_STREAMS: u32 = 1024;

/// Bytes of headers of one call; they are ours and Envoy's, never the client's.
const MAX_CALL_HEADERS: u32 = 16 * 1024;

/// How often a connection is asked whether somebody is still there, and how long the answer may take.
const PING: Duration = Duration::from_secs(60);
const PONG: Duration = Duration::from_secs(20);

/// What gateways call, without a detour through the routes of everything else.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What can be called.
#[derive(Clone, Debug)]
pub struct Calls {
    checks: AuthorizationServer<Door>,
    others: Routes,
}

impl Calls {
    /// The door, and other services such as health.
    #[must_use]
    pub fn new(door: Door, others: Routes) -> Self {
        let checks = AuthorizationServer::new(door).max_decoding_message_size(MAX_CHECK);
        Self {
            others: others.add_service(checks.clone()).prepare(),
            checks,
        }
    }

    /// Serves a connection.
    pub fn serve(
        &self,
        stream: Stream,
        peer: Peer,
    ) -> impl GracefulConnection + Send + 'static + use<> {
        let calls = self.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            match request.uri().path() {
                CHECK => Either::Left(calls.checks.clone().call(request)),
                _ => Either::Right(calls.others.clone().call(request)),
            }
        });
        Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_CALL_HEADERS)
            // RUSTSEC-2024-0003, CVE-2023-44487
            .max_local_error_reset_streams(1024)
            .max_pending_accept_reset_streams(32)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .serve_connection(TokioIo::new(stream), service)
    }
}
