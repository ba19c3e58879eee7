//! Assertions that Doorward has signed, in the memory of a judge that has no private key.

use std::sync::Arc;

use serde::Deserialize;

use super::{TYPE, is_new};
use crate::{
    jws,
    key::{Algorithm, KeyId},
    keyring::Keyring,
    principal::{Asserted, Principal},
    time::UnixTime,
    token::Verifier,
};

/// The assertions of a judge without a private key, which gets them from Doorward, such as the module in Envoy.
#[derive(Clone, Debug)]
pub struct Received {
    audience: Arc<str>,
}

/// The claims that say whom an assertion is about, and for whom it is.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    username: String,
    iat: u64,
}

impl Received {
    /// Keeps assertions for this audience where a rule names none.
    #[must_use]
    pub fn new(audience: &str) -> Self {
        Self {
            audience: audience.into(),
        }
    }

    /// The assertion about a caller that Doorward sent a moment ago, for the audience of a rule; `None` if a new one is due.
    #[must_use]
    pub fn about(
        &self,
        principal: &Principal,
        audience: Option<&Arc<str>>,
        now: UnixTime,
    ) -> Option<Arc<str>> {
        let kept = principal.assertion(audience.unwrap_or(&self.audience))?;
        is_new(&kept, now).then(|| Arc::clone(&kept.text))
    }

    /// Keeps an assertion that Doorward has sent about a caller, and says whether it did: only a genuine one about this
    /// caller and for this audience is sent again.
    pub fn keep(
        &self,
        verifier: &Verifier,
        principal: &Principal,
        audience: Option<&Arc<str>>,
        text: &str,
        now: UnixTime,
    ) -> bool {
        let audience = audience.unwrap_or(&self.audience);
        let Some((key, claims)) = genuine(verifier.keys(), text, now) else {
            return false;
        };
        let identity = principal.identity();
        let fits = claims.iss == verifier.terms().issuer
            && claims.aud == **audience
            && claims.sub == identity.subject
            && claims.username == identity.username.as_str();
        if !fits {
            return false;
        }
        let made = Asserted {
            audience: Arc::clone(audience),
            key,
            // Doorward's clock may be ahead.
            at: UnixTime(claims.iat.min(now.0)),
            text: text.into(),
        };
        principal.keep_assertion(made, |made| is_new(made, now));
        true
    }
}

/// The claims of an assertion that one of the keys has signed, and the key.
fn genuine(keys: &Keyring, text: &str, now: UnixTime) -> Option<(KeyId, Claims)> {
    let parts = jws::Parts::split(text).ok()?;
    let bytes = parts.header().ok()?;
    let header = jws::Header::parse(&bytes).ok()?;
    if header.typ.as_deref() != Some(TYPE) || header.alg == Algorithm::Hs256.name() {
        return None;
    }
    let key = KeyId::parse(header.kid.as_deref()?)?;
    let payload = parts.genuine(keys, now, |_| Ok(())).ok()?;
    Some((key, jws::object(&payload)?))
}
