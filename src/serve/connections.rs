//! Connections of a door, from accepting to closing. Each is asked to end when it is old, so that load spreads, and when
//! Doorward shuts down; open requests are answered first.

use std::{
    future::pending,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    ending::Watch,
    places::{Place, Places},
};
use crate::{
    clock::unix_time,
    domain::trust::Peer,
    doors::{
        connection::Connection,
        grpc::frames::Signs,
        listen::{Listener, Socket},
        tls::{self, Protocol, Stream, Tls},
    },
    live::Live,
    observe::metrics::{Closed, ClosedConnections, PeerTrust},
};

/// The pause after an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection is not asked to end before this age: HTTP/2 drops one that is.
const BEGINNING: Duration = Duration::from_millis(250);

/// How long an idle connection may take to end after it was asked to.
const LAST: Duration = Duration::from_secs(1);

/// Shared by all connections of a door.
pub(super) struct Terms {
    /// TLS, if it is on.
    pub(crate) tls: Option<(Arc<Tls>, Protocol)>,
    /// Says which peers are trusted; without it, none is.
    pub(crate) live: Option<Live>,
    /// The limits of trusted peers.
    pub(crate) trusted: Conduct,
    /// The limits of all other peers.
    pub(crate) others: Conduct,
    /// The state of the shutdown.
    pub(crate) ending: Watch,
    /// The count of open connections.
    pub(crate) open: Gauge,
    /// The count of connections closed because of a limit.
    pub(crate) closed: ClosedConnections,
    /// When each reason for closing was logged last.
    pub(crate) logged: [AtomicU64; 2],
}

/// The limits of some peers at a door.
#[derive(Debug)]
pub(super) struct Conduct {
    /// Their limit of connections.
    pub(crate) places: Arc<Places>,
    /// The age at which a connection is asked to end, with a jitter of a tenth.
    pub(crate) age: Option<Duration>,
    /// How long a connection may take to end after that.
    pub(crate) grace: Duration,
    /// After how long an idle connection is closed; HTTP/1.1 has its own limit.
    pub(crate) silence: Option<Duration>,
}

/// An accepted connection.
struct Accepted {
    socket: Socket,
    peer: Peer,
    is_trusted: bool,
    place: Place,
}

/// Accepts and serves connections until Doorward closes its doors; then asks every connection to end, and returns when the
/// last one has ended. If dropped early, drops the remaining connections.
pub(super) async fn serve<C>(
    listener: Listener,
    terms: Terms,
    begin: impl Fn(Stream, Client) -> C + Clone + Send + 'static,
) where
    C: Connection + Send + 'static,
{
    let terms = Arc::new(terms);
    let mut connections = JoinSet::new();
    let mut closing = pin!(terms.ending.closing());
    let follow = |accepted| follow(accepted, Arc::clone(&terms), begin.clone());
    loop {
        tokio::select! {
            biased;
            () = &mut closing => break,
            (socket, peer) = accept(&listener) => {
                if let Some(accepted) = terms.admit(socket, peer) {
                    connections.spawn(follow(accepted));
                }
                // In a flood this branch always comes first, so collect ended connections here too.
                while connections.try_join_next().is_some() {}
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    // Serve connections that are already established.
    while let Some((socket, peer)) = accept(&listener).now_or_never() {
        if let Some(accepted) = terms.admit(socket, peer) {
            connections.spawn(follow(accepted));
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &Listener) -> (Socket, Peer) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

impl Terms {
    /// A place for a new connection. Without one the connection is closed: waiting would block all others.
    fn admit(&self, socket: Socket, peer: Peer) -> Option<Accepted> {
        let is_trusted = (self.live.as_ref()).is_some_and(|live| live.now().trusted.trusts(peer));
        match self.conduct(is_trusted).places.take(peer) {
            Ok((place, lost)) => {
                if let Some(why) = lost {
                    self.note(is_trusted, why, peer);
                }
                Some(Accepted {
                    socket,
                    peer,
                    is_trusted,
                    place,
                })
            }
            Err(why) => {
                self.note(is_trusted, why, peer);
                None
            }
        }
    }

    fn conduct(&self, is_trusted: bool) -> &Conduct {
        match is_trusted {
            true => &self.trusted,
            false => &self.others,
        }
    }

    /// Counts a closed connection. Logs each reason at most once a second, because clients can repeat it.
    fn note(&self, is_trusted: bool, why: Closed, peer: Peer) {
        self.closed.note(PeerTrust::of(is_trusted), why);
        let [many, floods] = &self.logged;
        let is_due = |last: &AtomicU64| {
            let now = unix_time().0;
            last.swap(now, Ordering::Relaxed) != now
        };
        let (door, reason) = (self.closed.port().name(), why.name());
        let peer = peer.address().map(tracing::field::display);
        match why {
            Closed::Full | Closed::AddressFull if is_due(many) => {
                tracing::warn!(
                    door,
                    peer,
                    is_trusted,
                    reason,
                    "a connection was closed: there are too many"
                );
            }
            Closed::Flood if is_due(floods) => {
                tracing::warn!(
                    door,
                    peer,
                    is_trusted,
                    reason,
                    "a connection was closed: it sent a flood of HTTP/2 frames"
                );
            }
            Closed::Full
            | Closed::AddressFull
            | Closed::Flood
            | Closed::Handshake
            | Closed::Silent => {}
        }
    }
}

/// What a door knows of a connection.
pub(super) struct Client {
    pub(crate) peer: Peer,
    pub(crate) is_trusted: bool,
    /// Where the door reports activity.
    pub(crate) signs: Arc<Signs>,
}

/// Serves a connection while it has its place.
async fn follow<C: Connection>(
    accepted: Accepted,
    terms: Arc<Terms>,
    begin: impl Fn(Stream, Client) -> C,
) {
    let Accepted {
        socket,
        peer,
        is_trusted,
        mut place,
    } = accepted;
    let _counted = Counted::new(terms.open.clone());
    let signs = Arc::new(Signs::default());
    let client = Client {
        peer,
        is_trusted,
        signs: Arc::clone(&signs),
    };
    let why = tokio::select! {
        () = place.lost() => None,
        why = converse(socket, client, &terms, begin) => why,
    };
    let why = if signs.is_flooded() {
        Some(Closed::Flood)
    } else {
        why
    };
    if let Some(why) = why {
        terms.note(is_trusted, why, peer);
    }
}

/// Serves from the handshake to the end; returns the limit that ended the connection, if one did.
async fn converse<C: Connection>(
    socket: Socket,
    client: Client,
    terms: &Terms,
    begin: impl Fn(Stream, Client) -> C,
) -> Option<Closed> {
    let conduct = terms.conduct(client.is_trusted);
    let tls = terms
        .tls
        .as_ref()
        .map(|(tls, protocol)| (&**tls, *protocol));
    let stream = match tls::open(socket, tls).await {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    let begun = Instant::now();
    let signs = Arc::clone(&client.signs);
    let mut connection = pin!(begin(stream, client));
    let asked = async {
        tokio::select! {
            () = terms.ending.closing() => {
                sleep_until(begun + BEGINNING).await;
                (conduct.grace, None)
            }
            () = grown_old(conduct.age) => (conduct.grace, None),
            () = silent(conduct.silence, &signs) => (LAST, Some(Closed::Silent)),
        }
    };
    let (grace, why) = tokio::select! {
        // Errors of the client are not logged.
        _ = connection.as_mut() => return None,
        asked = asked => asked,
    };
    connection.as_mut().graceful_shutdown();
    let _ = timeout(grace, connection).await;
    why
}

/// Counts a connection as open until dropped.
struct Counted(Gauge);

impl Counted {
    fn new(open: Gauge) -> Self {
        open.inc();
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Jitters the age, so that connections opened together do not end together.
async fn grown_old(age: Option<Duration>) {
    match age {
        Some(age) => sleep(age.mul_f64(0.9 + fastrand::f64() / 5.0)).await,
        None => pending().await,
    }
}

/// Completes when the connection has been idle this long.
async fn silent(silence: Option<Duration>, signs: &Signs) {
    match silence {
        Some(silence) => sleep(silence).await,
        None => pending().await,
    }
    if signs.has_called() {
        pending().await
    }
}

/// Logs a failed handshake at most once a second, because clients can repeat it. A probe of the port that sends nothing is
/// not counted.
fn failed(error: &io::Error) -> Option<Closed> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = unix_time().0;
    let is_refused = error.kind() == io::ErrorKind::InvalidData;
    if is_refused && LAST.swap(now, Ordering::Relaxed) != now {
        tracing::warn!(%error, "a TLS handshake failed");
    }
    (is_refused || error.kind() == io::ErrorKind::TimedOut).then_some(Closed::Handshake)
}
