//! Issues tokens.

use std::{fmt, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{
    TokenTerms,
    claims::{Audience, Claims},
};
use crate::{account::Identity, jws, keyring::Keyring, revocation::Generation, time::UnixTime};

/// Signs tokens.
#[derive(Clone, Debug)]
pub struct Signer {
    keys: Arc<Keyring>,
    terms: TokenTerms,
}

impl Signer {
    /// Takes keys and the terms.
    #[must_use]
    pub fn new(keys: Arc<Keyring>, terms: TokenTerms) -> Self {
        Self { keys, terms }
    }

    /// Issues a token for a user, valid from `now` on, with the user's generation and, if there is a refresh token, its
    /// session.
    ///
    /// # Errors
    ///
    /// [`IssueFault`].
    pub fn issue(
        &self,
        identity: &Identity,
        generation: Generation,
        session: Option<&str>,
        now: UnixTime,
    ) -> Result<Token, IssueFault> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let claims = Claims {
            sub: (&*identity.subject).into(),
            username: identity.username.as_str().into(),
            admin: identity.roles.admin(),
            roles: identity.roles.iter().map(|r| r.as_str().into()).collect(),
            iss: (&*self.terms.issuer).into(),
            aud: Audience::One((&*self.terms.audience).into()),
            iat: now.0,
            nbf: None,
            exp: now.0.saturating_add(self.terms.lifetime.as_secs()),
            jti: (&*id).into(),
            generation: generation.0,
            sid: session.map(Into::into),
        };
        let payload = Zeroizing::new(serde_json::to_vec(&claims).map_err(|_| IssueFault)?);
        let key = self.keys.signer(now).ok_or(IssueFault)?;
        let compact = jws::sign(&payload, key).ok_or(IssueFault)?;
        drop(claims);
        Ok(Token {
            compact: Zeroizing::new(compact),
            id,
            lifetime: self.terms.lifetime,
        })
    }
}

/// An issued token; `Debug` does not show it.
#[derive(Clone)]
pub struct Token {
    compact: Zeroizing<String>,
    /// `jti`.
    pub id: String,
    /// How long it lasts.
    pub lifetime: Duration,
}

impl Token {
    /// The token in compact form.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.compact
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

/// Issuing a token failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed")]
pub struct IssueFault;
