//! The three ports, and the service of each.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use hyper::Request;
use tokio::task::JoinSet;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    connections::{self, Client, Conduct, Terms},
    ending::Watch,
    places::{PlaceLimits, Places, WhenFull},
    probes,
};
use crate::{
    config::ListenSettings,
    doors::{
        grpc::connection::Calls,
        http,
        layers::InFlight,
        listen::{Address, Listener},
        tls::{Protocol, Tls},
    },
    live::Live,
    observe::metrics::{Metrics, Port},
};

/// How long an old connection may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(60);

/// How long a gateway may hold a gRPC connection without a call; as long as HTTP/1.1 waits for a request.
const SILENCE: Duration = Duration::from_secs(30);

/// The limit of probe connections, if enough files may be open.
const PROBES: usize = 64;

/// How long all calls of a probe at the gRPC port may take together.
const PROBE: Duration = Duration::from_secs(10);

/// The age at which HTTP/1.1 connections of untrusted peers are asked to end.
const AGE: Duration = Duration::from_secs(600);

/// Open ports that are not served yet.
pub(super) struct Listeners {
    grpc: Listener,
    http: Listener,
    ops: Listener,
}

/// The services of the ports, and their limits.
pub(super) struct Doors {
    pub(crate) grpc: Calls,
    pub(crate) http: Arc<http::Door>,
    pub(crate) metrics: Metrics,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Says which peers are trusted.
    pub(crate) live: Live,
    /// The limits of connections.
    pub(crate) limits: Limits,
    /// The limit of requests in flight.
    pub(crate) in_flight: &'static InFlight,
    pub(crate) connection_age: Option<Duration>,
    pub(crate) ending: Watch,
}

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Trusted peers, at one port.
    trusted: usize,
    /// All others, at the HTTP port.
    others: usize,
    /// All others at the gRPC port, and all peers at `listen.ops`.
    probes: usize,
}

impl Limits {
    /// Reserves half of the files for gateways and for Doorward itself.
    pub(super) fn new(settings: &ListenSettings, most_files: usize) -> Self {
        Self {
            trusted: settings.max_connections,
            others: settings.max_untrusted_connections.min(most_files / 4),
            probes: PROBES.min(most_files / 8),
        }
    }
}

impl Listeners {
    /// Listens at all three addresses.
    ///
    /// # Errors
    ///
    /// An address is in use or cannot be bound.
    pub(super) async fn open(settings: &ListenSettings) -> anyhow::Result<Self> {
        let mode = settings.socket_mode;
        Ok(Self {
            grpc: bind(&settings.grpc, mode, "listen.grpc").await?,
            http: bind(&settings.http, mode, "listen.http").await?,
            ops: bind(&Address::Tcp(settings.ops), mode, "listen.ops").await?,
        })
    }

    /// The addresses, with the ports that the system chose.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(super) fn addresses(&self) -> anyhow::Result<(Address, Address, Address)> {
        let Self { grpc, http, ops } = self;
        Ok((grpc.address()?, http.address()?, ops.address()?))
    }

    /// Serves until the doors are closed and the last connection has ended.
    pub(super) fn serve(self, doors: Doors) -> JoinSet<()> {
        let Doors {
            grpc: calls,
            http: door,
            metrics,
            tls,
            live,
            limits,
            in_flight,
            connection_age,
            ending,
        } = doors;
        let terms = |port, protocol, trusted, others| Terms {
            tls: tls.clone().map(|tls| (tls, protocol)),
            live: Some(live.clone()),
            trusted,
            others,
            ending: ending.clone(),
            open: metrics.connections(port),
            closed: metrics.closed(port),
            logged: Default::default(),
        };
        let gateways = |age, silence| Conduct {
            places: Places::new(PlaceLimits {
                most: limits.trusted,
                // No single address can take all places.
                per_address: limits.trusted / 2,
                when_full: WhenFull::CloseNewest,
            }),
            age,
            grace: GRACE,
            silence,
        };
        let mut all = JoinSet::new();
        let probes = Conduct {
            places: Places::new(PlaceLimits {
                most: limits.probes,
                per_address: 8,
                when_full: WhenFull::CloseOldest,
            }),
            age: Some(PROBE),
            grace: Duration::from_secs(1),
            silence: Some(PROBE / 2),
        };
        let grpc = terms(
            Port::Grpc,
            Protocol::Http2,
            gateways(connection_age, Some(SILENCE)),
            probes,
        );
        all.spawn(connections::serve(
            self.grpc,
            grpc,
            move |stream, client| calls.serve(stream, client.peer, client.is_trusted, client.signs),
        ));
        let clients = Conduct {
            places: Places::new(PlaceLimits {
                most: limits.others,
                per_address: (limits.others / 4).max(1),
                when_full: WhenFull::CloseNewest,
            }),
            age: Some(AGE),
            grace: GRACE,
            silence: None,
        };
        let http = terms(Port::Http, Protocol::Http1, gateways(None, None), clients);
        all.spawn(connections::serve(self.http, http, {
            let ending = ending.clone();
            move |stream, client: Client| {
                let ending = ending.clone();
                let peers = client.is_trusted.into();
                let service = Arc::clone(&door).service(client.peer, peers, in_flight);
                http::connection::serve(stream, service, move || ending.is_leaving())
            }
        }));
        // No peer is trusted here; a new connection replaces the oldest, because kubelet's probes are short.
        let operators = || Conduct {
            places: Places::new(PlaceLimits {
                most: limits.probes,
                per_address: 16,
                when_full: WhenFull::CloseOldest,
            }),
            age: Some(AGE),
            grace: GRACE,
            silence: None,
        };
        let ops = Terms {
            tls: None,
            live: None,
            ..terms(Port::Ops, Protocol::Http1, operators(), operators())
        };
        all.spawn(connections::serve(self.ops, ops, move |stream, _| {
            let (leaving, ending, metrics) = (ending.clone(), ending.clone(), metrics.clone());
            let service = ServiceBuilder::new()
                .layer(CatchPanicLayer::new())
                .service_fn(move |request: Request<_>| {
                    let answer = probes::answer(request.uri().path(), &ending, &metrics);
                    std::future::ready(Ok(answer))
                });
            http::connection::serve(stream, service, move || leaving.is_leaving())
        }));
        all
    }
}

async fn bind(address: &Address, mode: u32, key: &str) -> anyhow::Result<Listener> {
    Listener::bind(address, mode).await.with_context(|| {
        format!("{key}: {address} cannot be listened on; free it, or set {key} to another address")
    })
}
