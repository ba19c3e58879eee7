//! What can be replaced while Doorward serves: rules, keys, and how requests are read. Replaced as a whole, so that
//! no request sees a mix of old and new.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::domain::{
    decision::Realm,
    identity_headers::IdentityHeaders,
    judge::Judge,
    path::Tolerance,
    trust::{ClientAddress, TrustedProxies, Warned},
};
use crate::{login::desk::Desk, observe::metrics::Tally};

/// Everything that a decision about a request depends on.
#[derive(Debug)]
pub struct Rules {
    /// Decides requests.
    pub judge: Judge,
    /// Settles actions.
    pub desk: Desk,
    /// The realm of challenges.
    pub realm: Realm,
    /// Which ambiguous paths are judged instead of refused.
    pub tolerance: Tolerance,
    /// The headers that tell services who is asking.
    pub identity: IdentityHeaders,
    /// Networks of the gateways that may ask.
    pub trusted: TrustedProxies,
    /// Where the client address is read from.
    pub client_address: ClientAddress,
    /// Which causes for an unknown address have been warned of.
    pub warned: Warned,
    /// Where decisions are counted.
    pub tally: Arc<Tally>,
}

/// The rules currently in force.
#[derive(Clone, Debug)]
pub struct Live(Arc<ArcSwap<Rules>>);

impl Live {
    /// Puts the first rules in force.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(rules)))
    }

    /// The current rules, for one request; takes no lock.
    #[must_use]
    pub fn now(&self) -> Guard<Arc<Rules>> {
        self.0.load()
    }

    /// The current rules, for work that takes longer than one request.
    #[must_use]
    pub fn keep(&self) -> Arc<Rules> {
        self.0.load_full()
    }

    /// Replaces the rules for all later requests.
    pub fn exchange(&self, rules: Rules) {
        self.0.store(Arc::new(rules));
    }
}
