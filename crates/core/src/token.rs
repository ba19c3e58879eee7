//! Tokens: issued after a login, verified on every other request (RFC 7519, with the practices of RFC 8725).

mod claims;
mod cookie;
mod named;
mod signer;
mod statement;

use std::{sync::Arc, time::Duration};

use self::claims::Claims;
pub use self::{
    cookie::CookieToken,
    signer::{IssueFault, Signer, Token},
    statement::Statement,
};
use super::{
    account::{ADMIN, Identity, Roles, Username},
    credential::Compact,
    histogram::{Histogram, Resolution, Scale},
    issuer::{self, Issuer, Issuers, Vouched},
    jws::{self, Parts},
    keyring::Keyring,
    principal::Principal,
    revocation::{Endings, Generation, Revocations},
    token_cache::{Good, Hashed, Remembered, TokenCache},
};
pub use super::{
    secret::{Secret, SecretFault},
    time::UnixTime,
    token_cache::draw_key,
    token_fault::TokenFault,
};

/// The issuer, audience and lifetime of tokens.
#[derive(Clone, Debug)]
pub struct TokenTerms {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
    /// How far clocks may differ.
    pub leeway: Duration,
}

impl TokenTerms {
    /// How long a token is valid anywhere, including clock skew.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.lifetime + self.leeway + self.leeway
    }

    /// The time at which all tokens issued at `now` have expired everywhere.
    #[must_use]
    pub fn all_expired(&self, now: UnixTime) -> UnixTime {
        UnixTime(now.0.saturating_add(self.lasts().as_secs()))
    }
}

/// Verifies tokens. Clones share the token cache.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Arc<Keyring>,
    terms: TokenTerms,
    verified: TokenCache,
    issuers: Issuers,
    ages: Option<Arc<Histogram>>,
}

/// Ages of tokens: from a minute to a month.
pub static AGES: Scale = Scale {
    bounds: &[
        Duration::from_secs(60),
        Duration::from_secs(5 * 60),
        Duration::from_secs(15 * 60),
        Duration::from_secs(3600),
        Duration::from_secs(4 * 3600),
        Duration::from_secs(12 * 3600),
        Duration::from_secs(24 * 3600),
        Duration::from_secs(7 * 24 * 3600),
        Duration::from_secs(30 * 24 * 3600),
    ],
    resolution: Resolution::Seconds,
};

/// A valid token and its claims.
#[derive(Clone, Debug)]
pub struct ValidToken {
    /// The user of the token.
    pub principal: Arc<Principal>,
    /// The claims as JSON.
    pub claims: Vec<u8>,
}

/// A valid token, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The user of the token.
    pub identity: Identity,
    /// `jti`.
    pub token: String,
    /// `sid`, if the token was issued with a refresh token.
    pub session: Option<String>,
    /// `gen`.
    pub generation: Generation,
    /// When it has expired everywhere, including clock skew.
    pub expires: UnixTime,
}

impl Verifier {
    /// Takes one secret and the terms.
    #[must_use]
    pub fn new(secret: &Secret, terms: TokenTerms) -> Self {
        let keys = Keyring::of_secret(secret, terms.lasts());
        Self::of(&keys, terms)
    }

    /// Takes keys, without their private keys, and the terms.
    #[must_use]
    pub fn of(keys: &Keyring, terms: TokenTerms) -> Self {
        Self {
            keys: Arc::new(keys.public_halves()),
            terms,
            verified: TokenCache::new(),
            issuers: Arc::new([]),
            ages: None,
        }
    }

    /// How many verified tokens are in memory, expired ones included.
    #[must_use]
    pub fn remembered(&self) -> usize {
        let of_issuers = self.issuers.iter().map(Issuer::remembered);
        self.verified.len() + of_issuers.sum::<usize>()
    }

    /// Records the age of Doorward's own tokens when they are first presented here.
    #[must_use]
    pub fn counting(self, ages: Arc<Histogram>) -> Self {
        Self {
            ages: Some(ages),
            ..self
        }
    }

    /// Accepts the tokens of other issuers too.
    #[must_use]
    pub fn believing(self, issuers: Issuers) -> Self {
        Self { issuers, ..self }
    }

    /// The issuer, audience and lifetime of tokens.
    #[must_use]
    pub fn terms(&self) -> &TokenTerms {
        &self.terms
    }

    /// Other issuers that are accepted.
    #[must_use]
    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keyring> {
        &self.keys
    }

    /// Verifies a token at `now` and returns its user.
    ///
    /// # Errors
    ///
    /// The first reason for which the token is refused. Claims are read only after the signature was verified.
    pub fn verify(
        &self,
        compact: Compact<'_>,
        now: UnixTime,
        ended: &Revocations,
    ) -> Result<Arc<Principal>, TokenFault> {
        let hashed = Hashed::of(compact.expose());
        if let Some(known) = self.recall(hashed, now, ended) {
            return Ok(Arc::clone(&known?.1.principal));
        }
        let claims = match self.genuine(compact, now) {
            Ok(claims) => claims,
            Err(fault) => return self.verify_foreign(hashed, now, ended, fault),
        };
        let good = self.good(&claims, now, ended)?;
        let principal = Arc::clone(&good.principal);
        self.verified.remember(hashed.fingerprint, good, now.0);
        Ok(principal)
    }

    /// A cached token, if it is cached and still valid.
    fn recall(
        &self,
        hashed: Hashed<'_>,
        now: UnixTime,
        ended: &Revocations,
    ) -> Option<Result<Arc<Remembered>, TokenFault>> {
        let known = self.verified.find(hashed.fingerprint)?;
        if let Err(fault) = self.check_expiry(known.1.expires, now) {
            return Some(Err(fault));
        }
        let has_ended = ended.have_ended(known.1.endings());
        Some(if has_ended {
            Err(TokenFault::Ended)
        } else {
            Ok(known)
        })
    }

    /// Judges the claims of a genuine token.
    fn good(&self, claims: &[u8], now: UnixTime, ended: &Revocations) -> Result<Good, TokenFault> {
        let claims = parse(claims)?;
        let identity = self.check_claims(&claims, now, ended)?;
        if let Some(ages) = &self.ages {
            ages.observe(Duration::from_secs(now.0.saturating_sub(claims.iat)));
        }
        Ok(Good {
            principal: Arc::new(Principal::new(identity)),
            token: (&*claims.jti).into(),
            session: claims.sid.as_deref().map(Into::into),
            generation: Generation(claims.generation),
            expires: self.ends(&claims),
            issued: claims.iat,
            since: claims.auth_time,
        })
    }

    /// `exp`, or an earlier time if the lifetime was shortened after the token was issued: revocations are kept only
    /// for the current lifetime.
    fn ends(&self, claims: &Claims<'_>) -> u64 {
        let last = claims.iat.saturating_add(self.terms.lifetime.as_secs());
        claims.exp.min(last)
    }

    /// Verifies a token that is not Doorward's own as a token of another issuer; returns `fault` if it is no such token.
    fn verify_foreign(
        &self,
        hashed: Hashed<'_>,
        now: UnixTime,
        ended: &Revocations,
        fault: TokenFault,
    ) -> Result<Arc<Principal>, TokenFault> {
        let recall = |issuer: &Issuer| issuer.recall(hashed.fingerprint);
        let Some((principal, expires)) = self.issuers.iter().find_map(recall) else {
            return (self.foreign(hashed, now, ended, fault)).map(|vouched| vouched.principal);
        };
        self.check_expiry(expires, now)?;
        check_foreign_end(principal.identity(), ended)?;
        Ok(principal)
    }

    fn foreign(
        &self,
        hashed: Hashed<'_>,
        now: UnixTime,
        ended: &Revocations,
        fault: TokenFault,
    ) -> Result<Vouched<'_>, TokenFault> {
        if self.issuers.is_empty() {
            return Err(fault);
        }
        let own = (&*self.keys, &*self.terms.issuer);
        let vouched = issuer::vouched(&self.issuers, hashed, own, now, self.terms.leeway);
        let vouched = vouched.unwrap_or(Err(fault))?;
        check_foreign_end(vouched.principal.identity(), ended)?;
        Ok(vouched)
    }

    fn check_expiry(&self, exp: u64, now: UnixTime) -> Result<(), TokenFault> {
        match exp.saturating_add(self.terms.leeway.as_secs()) > now.0 {
            true => Ok(()),
            false => Err(TokenFault::Expired),
        }
    }

    /// Verifies one of Doorward's own tokens at `now` and returns its parts.
    ///
    /// # Errors
    ///
    /// As for [`Verifier::verify`].
    pub fn open(
        &self,
        compact: Compact<'_>,
        now: UnixTime,
        ended: &Revocations,
    ) -> Result<Presented, TokenFault> {
        let claims = self.genuine(compact, now)?;
        let claims = parse(&claims)?;
        let identity = self.check_claims(&claims, now, ended)?;
        Ok(Presented {
            identity,
            token: claims.jti.clone().into_owned(),
            session: claims.sid.as_deref().map(str::to_owned),
            generation: Generation(claims.generation),
            expires: UnixTime(
                self.ends(&claims)
                    .saturating_add(self.terms.leeway.as_secs()),
            ),
        })
    }

    /// The claims of a token that is valid at `now`, as JSON: unchanged for one of Doorward's own tokens, and the judged
    /// claims for a token of another issuer.
    ///
    /// # Errors
    ///
    /// As for [`Verifier::verify`].
    pub fn claims(
        &self,
        compact: Compact<'_>,
        now: UnixTime,
        ended: &Revocations,
    ) -> Result<ValidToken, TokenFault> {
        let claims = match self.genuine(compact, now) {
            Ok(claims) => claims,
            Err(fault) => {
                let hashed = Hashed::of(compact.expose());
                let vouched = self.foreign(hashed, now, ended, fault)?;
                return Ok(ValidToken {
                    principal: Arc::clone(&vouched.principal),
                    claims: vouched.judged(),
                });
            }
        };
        let identity = self.check_claims(&parse(&claims)?, now, ended)?;
        Ok(ValidToken {
            principal: Arc::new(Principal::new(identity)),
            claims,
        })
    }

    /// Whether a token claims to be one of Doorward's own, by a key or by its issuer. The claim is not verified and
    /// proves nothing, but a service could trust it.
    #[must_use]
    pub fn are_named_by(&self, compact: Compact<'_>) -> bool {
        let mut parts = compact.expose().split('.');
        let (Some(header), Some(claims)) = (parts.next(), parts.next()) else {
            return false;
        };
        let is_key = |kid: &str| self.keys.keys().iter().any(|key| key.id().as_str() == kid);
        named::names(header, "kid", is_key)
            || named::names(claims, "iss", |issuer| issuer == self.terms.issuer)
    }

    /// The payload that one of Doorward's own keys has signed.
    fn genuine(&self, compact: Compact<'_>, now: UnixTime) -> Result<Vec<u8>, TokenFault> {
        let parts = Parts::split(compact.expose())?;
        parts.genuine(&self.keys, now, |header| {
            let typ = header.typ.as_deref();
            match typ.is_some_and(|typ| typ.eq_ignore_ascii_case("JWT")) {
                true => Ok(()),
                false => Err(TokenFault::Type),
            }
        })
    }

    fn check_claims(
        &self,
        claims: &Claims<'_>,
        now: UnixTime,
        ended: &Revocations,
    ) -> Result<Identity, TokenFault> {
        let Claims {
            sub,
            username,
            admin,
            roles,
            iss,
            aud,
            iat,
            nbf,
            exp,
            jti,
            generation,
            sid,
            auth_time,
        } = claims;
        if *iss != self.terms.issuer {
            return Err(TokenFault::Issuer);
        }
        if !aud.names(&self.terms.audience) {
            return Err(TokenFault::Audience);
        }
        self.check_expiry(self.ends(claims), now)?;
        let latest = now.0.saturating_add(self.terms.leeway.as_secs());
        if nbf.is_some_and(|nbf| nbf > latest) {
            return Err(TokenFault::NotYet);
        }
        if *iat > latest || iat >= exp || auth_time.is_some_and(|since| since > *iat) {
            return Err(TokenFault::IssuedAt);
        }
        let username = Username::parse(username).ok_or(TokenFault::Identity)?;
        let roles = roles.iter().map(|role| &**role);
        let roles = Roles::parse(roles).map_err(|_| TokenFault::Identity)?;
        if sub.is_empty() || *admin != roles.admin() {
            return Err(TokenFault::Identity);
        }
        let of = Endings {
            subject: sub,
            token: jti,
            session: sid.as_deref(),
            generation: Generation(*generation),
        };
        if ended.have_ended(of) {
            return Err(TokenFault::Ended);
        }
        Ok(Identity {
            subject: sub.clone().into_owned(),
            username,
            roles,
        })
    }
}

/// Tokens of other issuers are revoked only by subject: their `jti` are not Doorward's.
fn check_foreign_end(identity: &Identity, ended: &Revocations) -> Result<(), TokenFault> {
    let of = Endings {
        subject: &identity.subject,
        token: "",
        session: None,
        generation: Generation::default(),
    };
    match ended.have_ended(of) {
        true => Err(TokenFault::Ended),
        false => Ok(()),
    }
}

fn parse(claims: &[u8]) -> Result<Claims<'_>, TokenFault> {
    jws::object(claims).ok_or(TokenFault::Claims)
}

// The claim `admin` repeats the role of that name; a second spelling would let the two drift apart.
const _: () = assert!(matches!(ADMIN.as_bytes(), b"admin"));

#[cfg(test)]
mod tests;
