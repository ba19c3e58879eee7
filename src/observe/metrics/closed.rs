//! Connections that were closed because of a limit.

use prometheus_client::metrics::{counter::Counter, family::Family};

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// There were as many as there may be.
    Full,
    /// The address had as many as one may have.
    AddressFull,
    /// It spoke no TLS that is accepted, or not in time.
    Handshake,
    /// Nothing was asked on it in time.
    Silent,
    /// It sent frames without end.
    Flood,
}

impl Closed {
    pub(super) const ALL: [Self; 5] = [
        Self::Full,
        Self::AddressFull,
        Self::Handshake,
        Self::Silent,
        Self::Flood,
    ];

    /// The label of the metric, and the reason in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address-full",
            Self::Handshake => "handshake",
            Self::Silent => "silent",
            Self::Flood => "flood",
        }
    }
}

/// Where connections of one port are counted that were closed.
#[derive(Clone, Debug)]
pub struct ClosedConnections {
    pub(super) family: Family<[(&'static str, &'static str); 3], Counter>,
    pub(super) door: &'static str,
}

impl ClosedConnections {
    /// One was closed, of a trusted peer or of another one.
    pub fn note(&self, is_trusted: bool, why: Closed) {
        self.counter(is_trusted, why).inc();
    }

    /// The port.
    #[must_use]
    pub fn door(&self) -> &'static str {
        self.door
    }

    pub(super) fn begin(&self) {
        for why in Closed::ALL {
            drop(self.counter(true, why));
            drop(self.counter(false, why));
        }
    }

    fn counter(&self, is_trusted: bool, why: Closed) -> Counter {
        let peer = if is_trusted { "trusted" } else { "other" };
        let labels = [("door", self.door), ("peer", peer), ("reason", why.name())];
        self.family.get_or_create_owned(&labels)
    }
}
