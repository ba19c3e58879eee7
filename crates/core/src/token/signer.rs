//! Issues tokens.

use std::{fmt, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{
    TokenTerms,
    claims::{Audience, Claims},
};
use crate::{
    account::Identity, browser_session::BrowserSession, jws, keyring::Keyring,
    revocation::Generation, time::UnixTime,
};

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
        self.sign(
            identity,
            generation,
            session,
            now,
            self.terms.lifetime,
            None,
        )
    }

    /// Issues a token for the cookie of a browser. It ends with the session at the latest.
    ///
    /// # Errors
    ///
    /// [`IssueFault`], also if the session has ended.
    pub fn issue_cookie(
        &self,
        identity: &Identity,
        generation: Generation,
        session: &BrowserSession,
        now: UnixTime,
    ) -> Result<Token, IssueFault> {
        let left = Duration::from_secs(session.ends().0.saturating_sub(now.0));
        let lifetime = left.min(self.terms.lifetime);
        if lifetime.is_zero() {
            return Err(IssueFault);
        }
        let since = session.since.0.min(now.0);
        self.sign(
            identity,
            generation,
            Some(&session.id),
            now,
            lifetime,
            Some(since),
        )
    }

    fn sign(
        &self,
        identity: &Identity,
        generation: Generation,
        session: Option<&str>,
        now: UnixTime,
        lifetime: Duration,
        auth_time: Option<u64>,
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
            exp: now.0.saturating_add(lifetime.as_secs()),
            jti: (&*id).into(),
            generation: generation.0,
            sid: session.map(Into::into),
            auth_time,
        };
        let payload = Zeroizing::new(serde_json::to_vec(&claims).map_err(|_| IssueFault)?);
        let key = self.keys.signer(now).ok_or(IssueFault)?;
        let compact = jws::sign(&payload, key).ok_or(IssueFault)?;
        drop(claims);
        Ok(Token {
            compact: Zeroizing::new(compact),
            id,
            lifetime,
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
