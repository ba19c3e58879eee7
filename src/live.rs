//! What can be replaced while Doorward serves: rules, keys, and how requests are read. Replaced as a whole, so that
//! no request sees a mix of old and new.

use std::sync::Arc;

use doorward_rules::current::Current;

use crate::domain::{
    decision::Realm,
    identity_headers::IdentityHeaders,
    judge::Judge,
    path::Tolerance,
    trust::{ClientAddress, TrustedProxies, Warned},
};
use crate::{login::desk::Desk, observe::metrics::DecisionCounts};

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
    /// The headers that identify the user to services.
    pub identity: IdentityHeaders,
    /// Networks of the gateways that may ask.
    pub trusted: TrustedProxies,
    /// Where the client address is read from.
    pub client_address: ClientAddress,
    /// The causes of unknown addresses that were already logged.
    pub warned: Warned,
    /// Counts decisions by these rules.
    pub counts: Arc<DecisionCounts>,
}

/// The rules in force.
pub type Live = Current<Rules>;
