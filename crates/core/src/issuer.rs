//! Tokens of other issuers: which are accepted, by which keys, and whom they identify. An issuer is chosen only by its
//! exact name in the settings, and its keys verify only its own tokens.

mod claims;
mod jwk_set;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use self::jwk_set::DocumentFault;
use self::{
    claims::{Members, find},
    jwk_set::{Published, is_possible, read},
};
use super::{
    account::{Identity, Role, Roles, Username},
    jws::{Header, Parts},
    key::Algorithm,
    keyring::Keyring,
    principal::Principal,
    revocation::Generation,
    time::UnixTime,
    token_cache::{Fingerprint, Good, Hashed, TokenCache},
    token_fault::TokenFault,
};

/// What an issuer's tokens must satisfy, and what Doorward reads from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerTerms {
    /// `iss`, byte for byte.
    pub issuer: String,
    /// The value that `aud` must contain.
    pub audience: String,
    /// The prefix of every user name.
    pub prefix: String,
    /// The claim with the user name; dots separate the names of nested claims.
    pub username: String,
    /// The claim with the roles.
    pub roles: Option<String>,
    /// The roles that are accepted from it.
    pub accept_roles: Roles,
    /// The roles of every user of this issuer.
    pub grant: Roles,
    /// The accepted algorithms.
    pub algorithms: Vec<Algorithm>,
}

impl IssuerTerms {
    /// All algorithms whose keys can be published.
    pub const ALGORITHMS: [Algorithm; 7] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::EdDsa,
    ];
}

/// Another issuer, with the keys that it has published so far.
pub struct Issuer {
    terms: IssuerTerms,
    known: ArcSwap<Known>,
    /// Whether a token has named an unknown key since the last fetch started.
    wanted: AtomicBool,
    /// How often the keys were replaced by others.
    exchanges: AtomicU64,
}

/// All accepted issuers.
pub type Issuers = Arc<[Issuer]>;

/// Keys and the tokens verified with them; both are replaced together.
struct Known {
    keys: Vec<Published>,
    verified: TokenCache,
}

/// A valid token of another issuer.
pub(super) struct Vouched<'i> {
    pub(super) principal: Arc<Principal>,
    terms: &'i IssuerTerms,
    expires: u64,
    issued: Option<u64>,
    /// The issuer's claims, not judged.
    claims: Map<String, Value>,
}

impl Vouched<'_> {
    /// Claims in the form of Doorward's own tokens, made from the judged identity. The issuer's claims are in one
    /// member, so that nobody mistakes its `admin` or `username` for Doorward's.
    pub(super) fn judged(self) -> Vec<u8> {
        let Identity {
            subject,
            username,
            roles,
        } = self.principal.identity();
        let names: Vec<_> = roles.iter().map(Role::as_str).collect();
        let mut judged = json!({
            "sub": subject,
            "username": username.as_str(),
            "admin": roles.admin(),
            "roles": names,
            "iss": self.terms.issuer,
            "aud": self.terms.audience,
            "exp": self.expires,
            "issuer_claims": self.claims,
        });
        if let (Some(issued), Some(judged)) = (self.issued, judged.as_object_mut()) {
            judged.insert("iat".into(), issued.into());
        }
        judged.to_string().into_bytes()
    }
}

impl Issuer {
    /// The length limit of a JWK Set, in bytes.
    pub const LONGEST: usize = 256 * 1024;
    /// The most keys of a JWK Set.
    pub const MOST_KEYS: usize = 64;

    /// An issuer without keys; they arrive later.
    #[must_use]
    pub fn new(terms: IssuerTerms) -> Self {
        Self {
            terms,
            known: ArcSwap::from_pointee(Known::of(Vec::new())),
            wanted: AtomicBool::new(false),
            exchanges: AtomicU64::new(0),
        }
    }

    /// What its tokens must satisfy.
    #[must_use]
    pub fn terms(&self) -> &IssuerTerms {
        &self.terms
    }

    /// Takes published keys (RFC 7517, 5); returns whether they differ from the previous ones.
    ///
    /// # Errors
    ///
    /// Why the previous keys stay.
    pub fn take(&self, document: &[u8]) -> Result<bool, DocumentFault> {
        let keys = read(document)?;
        let published = |keys: &[Published]| -> Vec<_> {
            let of = |one: &Published| (one.kid.clone(), one.key.public().cloned());
            keys.iter().map(of).collect()
        };
        let changed = published(&keys) != published(&self.known.load().keys);
        if changed {
            self.known.store(Arc::new(Known::of(keys)));
            self.exchanges.fetch_add(1, Ordering::Release);
        }
        Ok(changed)
    }

    /// How often its keys were replaced by others.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges.load(Ordering::Acquire)
    }

    /// How many of its tokens are in memory.
    pub(super) fn remembered(&self) -> usize {
        self.known.load().verified.len()
    }

    /// The public keys that are in force, as a document that [`Issuer::take`] takes; `None` if there are none yet.
    #[must_use]
    pub fn published(&self) -> Option<Value> {
        let known = self.known.load();
        let keys: Vec<Jwk> = (known.keys.iter())
            .filter_map(|one| {
                let mut public = one.key.public()?.clone();
                public.common.key_id = Some(one.kid.to_string());
                Some(public)
            })
            .collect();
        (!keys.is_empty()).then(|| json!({ "keys": keys }))
    }

    /// The names of its keys, for the log.
    #[must_use]
    pub fn key_names(&self) -> Vec<String> {
        let known = self.known.load();
        known.keys.iter().map(|one| one.kid.to_string()).collect()
    }

    /// Whether a token has named an unknown key since the last fetch started.
    #[must_use]
    pub fn wants_keys(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Clears that flag: a fetch starts now.
    pub fn wish_is_heard(&self) {
        self.wanted.store(false, Ordering::Relaxed);
    }

    /// Looks up a token that was verified with the current keys.
    pub(super) fn recall(&self, fingerprint: Fingerprint) -> Option<(Arc<Principal>, u64)> {
        let known = self.known.load();
        let found = known.verified.find(fingerprint)?;
        Some((Arc::clone(&found.1.principal), found.1.expires))
    }

    fn vouch(
        &self,
        parts: &Parts<'_>,
        fingerprint: Fingerprint,
        header: &Header<'_>,
        now: UnixTime,
        leeway: Duration,
    ) -> Result<Vouched<'_>, TokenFault> {
        if let Some(typ) = header.typ.as_deref() {
            let usual = ["JWT", "at+jwt", "application/at+jwt"];
            if !usual.iter().any(|usual| typ.eq_ignore_ascii_case(usual)) {
                return Err(TokenFault::Type);
            }
        }
        let algorithm = Algorithm::parse(&header.alg)
            .filter(|algorithm| self.terms.algorithms.contains(algorithm))
            .ok_or(TokenFault::Algorithm)?;
        let kid = header.kid.as_deref().filter(|kid| is_possible(kid));
        let kid = kid.ok_or(TokenFault::KeyId)?;
        let known = self.known.load();
        let mut named = (known.keys.iter())
            .filter(|one| *one.kid == *kid)
            .map(|one| &one.key)
            .peekable();
        if named.peek().is_none() {
            self.wanted.store(true, Ordering::Relaxed);
            return Err(TokenFault::UnknownKey);
        }
        let key = named
            .find(|key| key.algorithm() == algorithm)
            .ok_or(TokenFault::Algorithm)?;
        let vouched = self.check(&parts.signed_with(key)?, now, leeway)?;
        let good = Good {
            principal: Arc::clone(&vouched.principal),
            token: "".into(),
            session: None,
            generation: Generation::default(),
            expires: vouched.expires,
            issued: 0,
            since: None,
        };
        known.verified.remember(fingerprint, good, now.0);
        Ok(vouched)
    }

    fn check(
        &self,
        claims: &[u8],
        now: UnixTime,
        leeway: Duration,
    ) -> Result<Vouched<'_>, TokenFault> {
        let Members(claims) = serde_json::from_slice(claims).map_err(|_| TokenFault::Claims)?;
        let time = |name| match claims.get(name) {
            None => Ok(None),
            Some(time) => time.as_u64().map(Some).ok_or(TokenFault::Claims),
        };
        let text = |name| match claims.get(name) {
            Some(Value::String(text)) => Ok(&**text),
            Some(_) | None => Err(TokenFault::Claims),
        };
        if text("iss")? != self.terms.issuer {
            return Err(TokenFault::Issuer);
        }
        if !self.is_audience(claims.get("aud"))? {
            return Err(TokenFault::Audience);
        }
        let exp = time("exp")?.ok_or(TokenFault::Claims)?;
        if exp.saturating_add(leeway.as_secs()) <= now.0 {
            return Err(TokenFault::Expired);
        }
        let latest = now.0.saturating_add(leeway.as_secs());
        if time("nbf")?.is_some_and(|nbf| nbf > latest) {
            return Err(TokenFault::NotYet);
        }
        let issued = time("iat")?;
        if issued.is_some_and(|iat| iat > latest || iat >= exp) {
            return Err(TokenFault::IssuedAt);
        }
        let sub = text("sub")?;
        if !(1..=200).contains(&sub.len()) || sub.contains(char::is_control) {
            return Err(TokenFault::Identity);
        }
        let name = match find(&claims, &self.terms.username) {
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(_) | None => return Err(TokenFault::Identity),
        };
        let username = Username::parse(&format!("{}{name}", self.terms.prefix));
        let identity = Identity {
            // No id in a user table has this form of an issuer with a suffix.
            subject: format!("{}|{sub}", self.terms.issuer),
            username: username.ok_or(TokenFault::Identity)?,
            roles: self.roles(&claims)?,
        };
        Ok(Vouched {
            principal: Arc::new(Principal::new(identity)),
            terms: &self.terms,
            expires: exp,
            issued,
            claims,
        })
    }

    fn is_audience(&self, aud: Option<&Value>) -> Result<bool, TokenFault> {
        match aud {
            Some(Value::String(one)) => Ok(*one == self.terms.audience),
            Some(Value::Array(several)) => {
                let several: Option<Vec<_>> = several.iter().map(Value::as_str).collect();
                let several = several.ok_or(TokenFault::Claims)?;
                Ok(several.contains(&&*self.terms.audience))
            }
            Some(_) | None => Err(TokenFault::Claims),
        }
    }

    fn roles(&self, claims: &Map<String, Value>) -> Result<Roles, TokenFault> {
        let claim = self.terms.roles.as_deref();
        let named: Vec<&str> = match claim.and_then(|claim| find(claims, claim)) {
            None => Vec::new(),
            Some(Value::String(list)) => list.split_ascii_whitespace().collect(),
            Some(Value::Array(list)) => {
                let list: Option<_> = list.iter().map(Value::as_str).collect();
                list.ok_or(TokenFault::Identity)?
            }
            Some(_) => return Err(TokenFault::Identity),
        };
        let accepted = (named.into_iter())
            .filter_map(Role::parse)
            .filter(|role| self.terms.accept_roles.contains(role));
        let granted = self.terms.grant.iter().cloned();
        Roles::collect(accepted.chain(granted)).map_err(|_| TokenFault::Identity)
    }
}

/// Verifies a token that names none of Doorward's own keys as a token of the issuer that it names; `None` if it is no
/// such token or names no accepted issuer.
pub(super) fn vouched<'i>(
    issuers: &'i [Issuer],
    hashed: Hashed<'_>,
    (own, our_name): (&Keyring, &str),
    now: UnixTime,
    leeway: Duration,
) -> Option<Result<Vouched<'i>, TokenFault>> {
    let parts = Parts::split(hashed.token).ok()?;
    let header = parts.header().ok()?;
    let header = Header::parse(&header).ok()?;
    let kid = header.kid.as_deref()?;
    // One of Doorward's own keys has this id, even if its time is over.
    if own.keys().iter().any(|key| key.id().as_str() == kid) {
        return None;
    }
    let payload = parts.payload().ok()?;
    // Not verified; used only for this choice.
    let Claimed { iss } = serde_json::from_slice(&payload).ok()?;
    let issuer = issuers.iter().find(|issuer| issuer.terms.issuer == iss)?;
    (iss != our_name).then(|| issuer.vouch(&parts, hashed.fingerprint, &header, now, leeway))
}

#[derive(Deserialize)]
struct Claimed {
    iss: String,
}

impl Known {
    fn of(keys: Vec<Published>) -> Self {
        Self {
            keys,
            verified: TokenCache::new(),
        }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({})", self.terms.issuer)
    }
}

#[cfg(test)]
mod tests;
