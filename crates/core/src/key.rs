//! One key: its name, its only algorithm, and what it can do (RFC 7517, RFC 7518). Parsed once; never shown.
//!
//! jsonwebtoken holds keys. This module does what jsonwebtoken does not: it reads private JWKs and SEC 1, checks the
//! strength of keys, and shares signers and verifiers between threads (see `signer` and `verifier`).

mod algorithm;
mod halves;
mod jwk;
mod pem;
mod rsa;
mod signer;
mod verifier;

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    hmac,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{CommonParameters, Jwk, PublicKeyUse};
use num_bigint::BigUint;
use serde_json::json;
use zeroize::Zeroizing;

pub use self::{algorithm::Algorithm, rsa::WeakRsa};
use self::{halves::Halves, signer::SharedSigner, verifier::SharedVerifier};
use super::{
    hex,
    secret::{Secret, SecretFault},
    time::UnixTime,
};

/// The name of a key (`kid`): 1 to 64 letters, digits, `.`, `_` and `-`. It is only looked up in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// Parses a name; `None` if it is invalid.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let possible = (1..=64).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        possible.then(|| Self(id.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a key is refused. The text does not contain the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Neither a JWK nor PEM, or an incomplete one.
    #[error("is neither a JWK (RFC 7517) nor a key in PEM (PKCS #8)")]
    Syntax,
    /// The name is invalid.
    #[error("has no valid name; a kid is 1 to 64 letters, digits, \".\", \"_\" and \"-\"")]
    Id,
    /// No algorithm, or an unknown one.
    #[error(
        "does not name an algorithm of: HS256, RS256, RS384, RS512, PS256, ES256, ES384, EdDSA"
    )]
    Algorithm,
    /// The key does not fit the algorithm.
    #[error("is no key for {0}")]
    Kind(Algorithm),
    /// A part is missing, malformed, or does not fit the others.
    #[error("has a part that is missing, malformed, or does not fit the others")]
    Parts,
    /// Fewer than 2048 bits.
    #[error("has {0} bits; RSA needs at least 2048 (RFC 7518, 3.3)")]
    ShortRsa(u64),
    /// The key can be factored.
    #[error("is a weak RSA key: {0}; make another")]
    WeakRsa(#[from] WeakRsa),
    /// A weak secret.
    #[error("{0}; make another with `doorward keys generate HS256`")]
    Secret(#[from] SecretFault),
    /// The time cannot be parsed.
    #[error("has a not-before that cannot be read; write not-before: 2026-01-31T00:00:00Z")]
    NotBefore,
}

/// One key.
pub struct Key {
    id: KeyId,
    algorithm: Algorithm,
    verifier: SharedVerifier,
    /// Whether it signs at its time, even if this copy has no private key.
    signs: bool,
    signing: Option<SharedSigner>,
    not_before: UnixTime,
    /// The first part of every token signed with it.
    header: String,
    public: Option<Jwk>,
    seal: Option<hmac::Key>,
}

impl Key {
    /// Reads a file of the key directory: a JWK, or PEM preceded by lines such as `alg: RS256`. The name of the key is
    /// in the JWK, or else it is the file name without its extension.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn read(file: &str, content: &[u8]) -> Result<Self, KeyFault> {
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let text = str::from_utf8(content).map_err(|_| KeyFault::Syntax)?;
        match text.trim_start().starts_with('{') {
            true => jwk::read(text, Some(stem), Secret::parse_exactly),
            false => pem::read(text, stem),
        }
    }

    /// Reads one JWK, which may have no name, to examine tokens with it; published secrets are accepted as well.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn from_jwk(jwk: &str) -> Result<Self, KeyFault> {
        jwk::read(jwk, Some("-"), Secret::parse_example)
    }

    /// Takes a public key that another issuer has published.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub(super) fn from_published(jwk: Jwk) -> Result<Self, KeyFault> {
        let id = KeyId::parse("-").ok_or(KeyFault::Id)?;
        let algorithm = jwk::published_algorithm(&jwk).ok_or(KeyFault::Algorithm)?;
        let halves = Halves::of_public(algorithm, jwk.algorithm)?;
        Ok(Self::new(id, algorithm, UnixTime(0), halves))
    }

    /// Takes the public key of another Doorward. `not_before` is the time from which it may sign; `signs` says whether
    /// the other Doorward signs with it.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn from_public(
        id: KeyId,
        algorithm: Algorithm,
        public: Jwk,
        not_before: UnixTime,
        signs: bool,
    ) -> Result<Self, KeyFault> {
        let halves = Halves::of_public(algorithm, public.algorithm)?;
        Ok(Self {
            signs,
            ..Self::new(id, algorithm, not_before, halves)
        })
    }

    /// A copy of a secret that only verifies: the secret is from a file here, `not_before` and `signs` are those of
    /// another Doorward.
    #[must_use]
    pub fn verifying(&self, not_before: UnixTime, signs: bool) -> Self {
        Self {
            signs,
            not_before,
            ..self.public_half()
        }
    }

    /// The HS256 key of a secret. Its name is derived from the secret by a digest that does not reveal it.
    #[must_use]
    pub fn from_secret(secret: &Secret, not_before: UnixTime) -> Self {
        let tag = hmac::sign(&secret.derived("doorward kid"), b"");
        let name = tag.as_ref().get(..8).unwrap_or_default();
        let id = KeyId(hex::encode(name).into());
        Self::new(id, Algorithm::Hs256, not_before, Halves::of_secret(secret))
    }

    /// The same key, which no longer signs.
    #[must_use]
    pub fn only_verifying(self) -> Self {
        Self {
            signs: false,
            signing: None,
            ..self
        }
    }

    /// A copy without the private key; it has the same states at the same times.
    #[must_use]
    pub(super) fn public_half(&self) -> Self {
        Self {
            id: self.id.clone(),
            algorithm: self.algorithm,
            verifier: self.verifier.clone(),
            signs: self.signs,
            signing: None,
            not_before: self.not_before,
            header: self.header.clone(),
            public: self.public.clone(),
            seal: None,
        }
    }

    fn new(id: KeyId, algorithm: Algorithm, not_before: UnixTime, halves: Halves) -> Self {
        let header = json!({"typ": "JWT", "alg": algorithm.name(), "kid": id.as_str()});
        let public = halves.public.map(|parameters| Jwk {
            common: CommonParameters {
                key_algorithm: Some(jsonwebtoken::Algorithm::from(algorithm).into()),
                key_id: Some(id.as_str().into()),
                public_key_use: Some(PublicKeyUse::Signature),
                ..CommonParameters::default()
            },
            algorithm: parameters,
        });
        Self {
            header: BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
            id,
            algorithm,
            verifier: halves.verifier,
            signs: halves.signing.is_some(),
            signing: halves.signing,
            not_before,
            public,
            seal: halves.seal,
        }
    }

    /// Generates a new key in the file format that [`Key::read`] reads.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn generate(
        id: &KeyId,
        algorithm: Algorithm,
        not_before: UnixTime,
    ) -> Result<Zeroizing<String>, super::session::NoRandomness> {
        let none = |_| super::session::NoRandomness;
        let der = match (algorithm, algorithm.curve()) {
            (_, Some(curve)) => {
                let pair = EcdsaKeyPair::generate(curve).map_err(none)?;
                Zeroizing::new(pair.to_pkcs8v1().map_err(none)?.as_ref().to_vec())
            }
            (Algorithm::EdDsa, None) => {
                let pair = Ed25519KeyPair::generate().map_err(none)?;
                Zeroizing::new(pair.to_pkcs8v1().map_err(none)?.as_ref().to_vec())
            }
            (_, None) if algorithm.is_rsa() => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(none)?;
                let der = AsDer::<Pkcs8V1Der<'static>>::as_der(&pair).map_err(none)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
            (_, None) => {
                let mut secret = Zeroizing::new([0; 64]);
                aws_lc_rs::rand::fill(&mut *secret).map_err(none)?;
                let jwk = json!({
                    "kty": "oct", "kid": id.as_str(), "alg": algorithm.name(), "use": "sig",
                    "k": BASE64_URL_SAFE_NO_PAD.encode(*secret), "nbf": not_before.0,
                });
                return Ok(Zeroizing::new(format!("{jwk:#}\n")));
            }
        };
        pem::write(id, algorithm, not_before, &der).ok_or(super::session::NoRandomness)
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The time from which it may sign.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Whether it can sign.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        self.signs
    }

    /// The JWK of its public key, if it has one.
    #[must_use]
    pub fn public(&self) -> Option<&Jwk> {
        self.public.as_ref()
    }

    /// A key for another purpose that does not reveal this one; `None` without a private key.
    #[must_use]
    pub fn seal(&self) -> Option<&hmac::Key> {
        self.seal.as_ref()
    }

    /// The first part of every token signed with it.
    #[must_use]
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// Whether this key signed the message.
    #[must_use]
    pub(super) fn verifies(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        self.verifier.verify(message, signature).is_ok()
    }

    /// Signs a message; `None` if the key cannot sign.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.signing.as_ref()?.try_sign(message).ok()
    }
}

/// The minimum length of an RSA key (RFC 7518, 3.3).
const MIN_RSA: u64 = 2048;

/// Checks the length of an RSA modulus before the library parses the key, because the library's error does not name it.
fn check_length(modulus: &[u8]) -> Result<(), KeyFault> {
    match BigUint::from_bytes_be(modulus).bits() {
        MIN_RSA.. => Ok(()),
        bits => Err(KeyFault::ShortRsa(bits)),
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.id.as_str(), self.algorithm)
    }
}

#[cfg(test)]
mod tests;
