//! What can be replaced while Doorward serves: rules, keys, and how requests are read. Replaced as a whole, so that
//! no request sees a mix of old and new.

use std::sync::Arc;

use doorward_rules::current::Current;

use crate::domain::{
    assertion::Assertions,
    decision::Realm,
    identity_headers::IdentityHeaders,
    judge::Judge,
    path::Tolerance,
    probe::ProbeKey,
    trust::{ClientAddress, TrustedProxies, Warned},
};
use crate::{login::desk::Desk, observe::metrics::DecisionCounts, pages::Pages, shadow::Shadow};

/// Everything that a decision about a request depends on.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Decides requests.
    pub(crate) judge: Judge,
    /// Settles actions.
    pub(crate) desk: Desk,
    /// The realm of challenges.
    pub(crate) realm: Realm,
    /// Which ambiguous paths are judged instead of refused.
    pub(crate) tolerance: Tolerance,
    /// The headers that identify the user to services.
    pub(crate) identity: IdentityHeaders,
    /// Makes the signed assertion, if services get one.
    pub(crate) assertions: Option<Assertions>,
    /// Networks of the gateways that may ask.
    pub(crate) trusted: TrustedProxies,
    /// Where the client address is read from.
    pub(crate) client_address: ClientAddress,
    /// The causes of unknown addresses that were already logged.
    pub(crate) warned: Warned,
    /// The key of `doorward probe`, if it may ask.
    pub(crate) probe: Option<ProbeKey>,
    /// The next rules, which are compared with those in force.
    pub(crate) shadow: Option<Shadow>,
    /// What browsers see, if they can sign in.
    pub(crate) pages: Option<Arc<Pages>>,
    /// Counts decisions by these rules.
    pub(crate) counts: Arc<DecisionCounts>,
}

/// The rules in force.
pub(crate) type Live = Current<Rules>;
