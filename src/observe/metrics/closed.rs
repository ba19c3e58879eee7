//! Connections that were closed because of a limit.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use super::labels::{Closed, PeerTrust, Port};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClosedLabels {
    door: Port,
    peer: PeerTrust,
    reason: Closed,
}

/// Counts the connections of one port that are closed because of a limit.
#[derive(Clone, Debug)]
pub(crate) struct ClosedConnections {
    family: Family<ClosedLabels, Counter>,
    port: Port,
}

impl ClosedConnections {
    pub(super) fn new(family: Family<ClosedLabels, Counter>, port: Port) -> Self {
        let closed = Self { family, port };
        // Series exist from the start, so that the first increase is seen.
        for why in Closed::ALL {
            drop(closed.counter(PeerTrust::Trusted, why));
            drop(closed.counter(PeerTrust::Other, why));
        }
        closed
    }

    pub(crate) fn note(&self, peer: PeerTrust, why: Closed) {
        self.counter(peer, why).inc();
    }

    pub(crate) fn port(&self) -> Port {
        self.port
    }

    fn counter(&self, peer: PeerTrust, why: Closed) -> Counter {
        self.family.get_or_create_owned(&ClosedLabels {
            door: self.port,
            peer,
            reason: why,
        })
    }
}
