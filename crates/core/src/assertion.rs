//! The signed assertion: a short token that tells a service who is asking. A service can verify it with the public keys,
//! wherever the request comes from.
//!
//! Must not know: who may do what, wire formats.

mod received;

use std::{sync::Arc, time::Duration};

use serde::Serialize;

pub use self::received::Received;
use super::{
    jws,
    key::{Algorithm, Key},
    keyring::{KeyState, Keyring},
    principal::{Asserted, Principal},
    time::UnixTime,
    token::IssueFault,
};

/// How long an assertion lasts.
pub const LASTS: Duration = Duration::from_secs(60);

/// How long it is used again: a service always gets one that lasts for the other half.
const REUSED: u64 = LASTS.as_secs() / 2;

/// `typ` in the header, so that nothing takes an assertion for another kind of token (RFC 8725, 3.11).
const TYPE: &str = "assertion+jwt";

/// Makes assertions.
#[derive(Clone, Debug)]
pub struct Assertions {
    keys: Arc<Keyring>,
    issuer: Box<str>,
    audience: Arc<str>,
}

/// The claims.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    username: &'a str,
    roles: Vec<&'a str>,
    admin: bool,
    iat: u64,
    exp: u64,
}

impl Assertions {
    /// Makes assertions with these keys, for this audience where a rule names none.
    #[must_use]
    pub fn new(keys: Arc<Keyring>, issuer: &str, audience: &str) -> Self {
        Self {
            keys,
            issuer: issuer.into(),
            audience: audience.into(),
        }
    }

    /// The audience where a rule names none.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The assertion about a caller at `now`, for the audience of a rule: the one that was made a moment ago, or a new one.
    ///
    /// # Errors
    ///
    /// The key that signs is a secret, or signing fails.
    pub fn about(
        &self,
        principal: &Principal,
        audience: Option<&Arc<str>>,
        now: UnixTime,
    ) -> Result<Arc<str>, IssueFault> {
        let key = self.keys.signer(now).ok_or(IssueFault)?;
        let audience = audience.unwrap_or(&self.audience);
        let is_used = |made: &Asserted| made.key == *key.id() && is_new(made, now);
        if let Some(made) = principal.assertion(audience)
            && is_used(&made)
        {
            return Ok(Arc::clone(&made.text));
        }
        let text: Arc<str> = self.sign(principal, audience, key, now)?.into();
        let made = Asserted {
            audience: Arc::clone(audience),
            key: key.id().clone(),
            at: now,
            text: Arc::clone(&text),
        };
        principal.keep_assertion(made, is_used);
        Ok(text)
    }

    fn sign(
        &self,
        principal: &Principal,
        audience: &str,
        key: &Key,
        now: UnixTime,
    ) -> Result<String, IssueFault> {
        // No service may have what verifies: it could sign, too.
        if key.algorithm() == Algorithm::Hs256 {
            return Err(IssueFault);
        }
        let identity = principal.identity();
        let claims = Claims {
            iss: &self.issuer,
            aud: audience,
            sub: &identity.subject,
            username: identity.username.as_str(),
            roles: identity.roles.iter().map(|role| role.as_str()).collect(),
            admin: identity.roles.admin(),
            iat: now.0,
            exp: now.0.saturating_add(LASTS.as_secs()),
        };
        let payload = serde_json::to_vec(&claims).map_err(|_| IssueFault)?;
        jws::sign_as(TYPE, &payload, key).ok_or(IssueFault)
    }
}

/// Whether an assertion lasts long enough to be sent again.
fn is_new(made: &Asserted, now: UnixTime) -> bool {
    (now.0.checked_sub(made.at.0)).is_some_and(|age| age < REUSED)
}

/// Whether every key that signs, now or later, has a public half that services can verify with.
#[must_use]
pub fn can_be_verified(keys: &Keyring, now: UnixTime) -> bool {
    keys.keys().iter().all(|key| match keys.state(key, now) {
        KeyState::Signing | KeyState::Staged => key.algorithm() != Algorithm::Hs256,
        KeyState::Verifying(_) | KeyState::Expired => true,
    })
}

#[cfg(test)]
mod tests;
