//! The three ports, each with what answers there.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::{
    connections::{self, Terms},
    ending::Watch,
    probes,
};
use crate::{
    config::Settings,
    grpc::connection::Calls,
    http,
    listen::{Address, Listener},
    metrics::Metrics,
    tls::{Protocol, Tls},
};

/// Where somebody listens, and nobody answers yet.
pub(super) struct Ears {
    grpc: Listener,
    http: Listener,
    ops: Listener,
}

/// What answers, and by which terms.
pub(super) struct Doors {
    pub grpc: Calls,
    pub http: Arc<http::Door>,
    pub metrics: Metrics,
    pub tls: Option<Arc<Tls>>,
    pub connection_age: Option<Duration>,
    pub ending: Watch,
}

impl Ears {
    /// Listens at all three addresses.
    ///
    /// # Errors
    ///
    /// One of them is taken, or cannot be had.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let mode = settings.socket_mode;
        Ok(Self {
            grpc: bind(&settings.grpc, mode, "listen.grpc").await?,
            http: bind(&settings.http, mode, "listen.http").await?,
            ops: bind(&Address::Tcp(settings.ops), mode, "listen.ops").await?,
        })
    }

    /// Where that is, with the ports that were given.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub(super) fn addresses(&self) -> anyhow::Result<(Address, Address, Address)> {
        let Self { grpc, http, ops } = self;
        Ok((grpc.address()?, http.address()?, ops.address()?))
    }

    /// Answers, until the doors are closed and the last connection has ended.
    pub(super) fn serve(self, doors: Doors) -> JoinSet<()> {
        let Doors {
            grpc: calls,
            http: door,
            metrics,
            tls,
            connection_age,
            ending,
        } = doors;
        let terms = |name, protocol, age| Terms {
            tls: tls.clone().map(|tls| (tls, protocol)),
            age,
            ending: ending.clone(),
            open: metrics.connections(name),
        };
        let mut all = JoinSet::new();
        let grpc = terms("grpc", Protocol::Http2, connection_age);
        all.spawn(connections::serve(self.grpc, grpc, move |stream, peer| {
            calls.serve(stream, peer)
        }));
        let http = terms("http", Protocol::Http1, None);
        all.spawn(connections::serve(self.http, http, {
            let ending = ending.clone();
            move |stream, peer| {
                let (door, ending) = (Arc::clone(&door), ending.clone());
                http::connection::serve(
                    stream,
                    move |request| {
                        let door = Arc::clone(&door);
                        async move { door.answer(request, peer).await }
                    },
                    move || ending.is_leaving(),
                )
            }
        }));
        let ops = Terms {
            tls: None,
            ..terms("ops", Protocol::Http1, None)
        };
        all.spawn(connections::serve(self.ops, ops, move |stream, _| {
            let (leaving, ending, metrics) = (ending.clone(), ending.clone(), metrics.clone());
            http::connection::serve(
                stream,
                move |request| {
                    let answer = probes::answer(request.uri().path(), &ending, &metrics);
                    std::future::ready(answer)
                },
                move || leaving.is_leaving(),
            )
        }));
        all
    }
}

async fn bind(address: &Address, mode: u32, key: &str) -> anyhow::Result<Listener> {
    Listener::bind(address, mode).await.with_context(|| {
        format!("{key}: {address} cannot be listened on; free it, or set {key} to another address")
    })
}
