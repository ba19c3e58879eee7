//! Connections of a door, from the first byte to the last. Each is asked to end when it is old, so that load spreads, and
//! when Doorward ends; what is under way on it is answered first.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use hyper_util::server::graceful::GracefulConnection;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::ending::Watch;
use crate::{
    clock::unix_time,
    domain::trust::Peer,
    listen::{Listener, Socket},
    tls::{self, Protocol, Stream, Tls},
};

/// Connections of one door at once; further ones wait to be accepted.
const MOST: usize = 10_000;

/// After an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an old connection may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(60);

/// A connection is not asked to end before it had this long to begin: HTTP/2 drops one that is.
const BEGINNING: Duration = Duration::from_millis(250);

/// What the connections of a door have in common.
#[derive(Clone)]
pub(super) struct Terms {
    /// How they are secured, where they are.
    pub tls: Option<(Arc<Tls>, Protocol)>,
    /// After how long they are asked to end, give or take a tenth.
    pub age: Option<Duration>,
    /// When Doorward ends.
    pub ending: Watch,
    /// How many there are.
    pub open: Gauge,
}

/// Accepts connections and serves them until Doorward closes its doors; then every connection is asked to end, and this is
/// done when the last one has. Dropped before, it drops those that are left.
pub(super) async fn serve<C>(
    listener: Listener,
    terms: Terms,
    begin: impl Fn(Stream, Peer) -> C + Clone + Send + 'static,
) where
    C: GracefulConnection + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MOST));
    let mut connections = JoinSet::new();
    let mut closing = pin!(terms.ending.closing());
    loop {
        tokio::select! {
            biased;
            () = &mut closing => break,
            accepted = accept(&listener, &places) => {
                let (socket, peer, place) = accepted;
                connections.spawn(follow(socket, peer, place, terms.clone(), begin.clone()));
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    // Who has connected already is served as well.
    while let Some((socket, peer, place)) = accept(&listener, &places).now_or_never() {
        connections.spawn(follow(socket, peer, place, terms.clone(), begin.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &Listener,
    places: &Arc<Semaphore>,
) -> (Socket, Peer, Option<OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => return (socket, peer, place),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn follow<C: GracefulConnection>(
    socket: Socket,
    peer: Peer,
    place: Option<OwnedSemaphorePermit>,
    terms: Terms,
    begin: impl Fn(Stream, Peer) -> C,
) {
    let Terms {
        tls,
        age,
        ending,
        open,
    } = terms;
    let _counted = Counted::new(open);
    let tls = tls.as_ref().map(|(tls, protocol)| (&**tls, *protocol));
    let stream = match tls::open(socket, tls).await {
        Ok(stream) => stream,
        Err(error) => return say(&error),
    };
    let begun = Instant::now();
    let mut connection = pin!(begin(stream, peer));
    let asked = async {
        tokio::select! {
            () = ending.closing() => sleep_until(begun + BEGINNING).await,
            () = grown_old(age) => {}
        }
    };
    tokio::select! {
        // What a client breaks is its own affair.
        _ = connection.as_mut() => return,
        () = asked => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(GRACE, connection).await;
    drop(place);
}

/// A connection that is open, for as long as this is there.
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

/// Connections that were opened together do not end together.
async fn grown_old(age: Option<Duration>) {
    match age {
        Some(age) => sleep(age.mul_f64(0.9 + fastrand::f64() / 5.0)).await,
        None => std::future::pending().await,
    }
}

/// A handshake that failed, once a second at most: whoever can connect can break off.
fn say(error: &io::Error) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = unix_time().0;
    // Who only looks whether somebody listens, sends nothing.
    if error.kind() == io::ErrorKind::InvalidData && LAST.swap(now, Ordering::Relaxed) != now {
        tracing::warn!(%error, "a TLS handshake failed");
    }
}
