//! What can be exchanged while Doorward serves: rules, keys, and how requests are read. Exchanged as a whole, so that no
//! request meets a half of it.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::domain::{
    decision::Realm,
    gate::Gate,
    path::Tolerance,
    trust::{ClientAddress, TrustedProxies},
};
use crate::metrics::Tally;

/// Everything that a request is judged by.
#[derive(Debug)]
pub struct Rules {
    /// Judges.
    pub gate: Gate,
    /// The realm of challenges.
    pub realm: Realm,
    /// Which ambiguous paths are judged.
    pub tolerance: Tolerance,
    /// Who may ask.
    pub trusted: TrustedProxies,
    /// Where the address of a client is read from.
    pub client_address: ClientAddress,
    /// Where decisions are counted.
    pub tally: Arc<Tally>,
}

/// The rules that are in force.
#[derive(Clone, Debug)]
pub struct Live(Arc<ArcSwap<Rules>>);

impl Live {
    /// Puts rules in force.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// The rules of this moment, for one request; without a lock.
    #[must_use]
    pub fn now(&self) -> Guard<Arc<Rules>> {
        self.0.load()
    }

    /// The rules of this moment, for something that takes longer.
    #[must_use]
    pub fn keep(&self) -> Arc<Rules> {
        self.0.load_full()
    }

    /// Puts other rules in force, for every request from here on.
    pub fn exchange(&self, rules: Rules) {
        self.0.store(Arc::new(rules));
    }
}
