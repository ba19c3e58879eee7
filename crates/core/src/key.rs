//! One key: its name, its only algorithm, and what it can do (RFC 7517, RFC 7518). Parsed once; never shown.
//!
//! jsonwebtoken holds keys. This module does what jsonwebtoken does not: it reads private JWKs and SEC 1, checks the
//! strength of keys, and shares signers and verifiers between threads (see `signer` and `verifier`).

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
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey, EncodingKey,
    jwk::{AlgorithmParameters, CommonParameters, Jwk, PublicKeyUse},
};
use num_bigint::BigUint;
use pkcs8::PrivateKeyInfoRef;
use serde_json::json;
use zeroize::Zeroizing;

pub use self::rsa::WeakRsa;
use self::{signer::SharedSigner, verifier::SharedVerifier};
use super::{
    hex,
    secret::{Secret, SecretFault},
    time::UnixTime,
};

/// How tokens are signed (RFC 7518, 3.1; RFC 8037, 3.1): the algorithms of jsonwebtoken that Doorward accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 8] = [
        Self::Hs256,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The value of `alg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Parses an `alg`, byte for byte.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    fn is_rsa(self) -> bool {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 => true,
            Self::Hs256 | Self::Es256 | Self::Es384 | Self::EdDsa => false,
        }
    }

    fn curve(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Self::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::Hs256 | Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::EdDsa => {
                None
            }
        }
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Rs384 => Self::RS384,
            Algorithm::Rs512 => Self::RS512,
            Algorithm::Ps256 => Self::PS256,
            Algorithm::Es256 => Self::ES256,
            Algorithm::Es384 => Self::ES384,
            Algorithm::EdDsa => Self::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

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

/// The private and the public half of a key, in whatever form they were written.
pub(super) struct Halves {
    verifier: SharedVerifier,
    signing: Option<SharedSigner>,
    public: Option<AlgorithmParameters>,
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

    /// Takes the public half of a key of another Doorward: by its name, since when it may sign, and whether it does so.
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

    /// A copy of a secret that only verifies, for who has it from a file and these times from another Doorward.
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

impl Halves {
    fn of_secret(secret: &Secret) -> Self {
        Self {
            verifier: verifier::of_secret(secret),
            signing: Some(signer::of_secret(secret)),
            public: None,
            seal: Some(secret.derived("doorward throttle")),
        }
    }

    /// Derives the seal, which requires the private key.
    fn sealed_by(self, private: &[u8]) -> Self {
        let own = hmac::Key::new(hmac::HMAC_SHA256, private);
        let tag = hmac::sign(&own, b"doorward throttle");
        Self {
            seal: self
                .signing
                .is_some()
                .then(|| hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())),
            ..self
        }
    }

    /// Takes a public key after strict checks: jsonwebtoken accepts members of any length and any strength.
    fn of_public(algorithm: Algorithm, public: AlgorithmParameters) -> Result<Self, KeyFault> {
        let jwk = Jwk {
            common: CommonParameters::default(),
            algorithm: public,
        };
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| KeyFault::Parts)?;
        verifier::check(algorithm, &jwk.algorithm, &key)?;
        Ok(Self {
            verifier: verifier::of_public(algorithm, &key)?,
            signing: None,
            public: Some(jwk.algorithm),
            seal: None,
        })
    }

    fn of_private(algorithm: Algorithm, key: EncodingKey) -> Result<Self, KeyFault> {
        let jwk = Jwk::from_encoding_key(&key, algorithm.into()).map_err(|_| KeyFault::Parts)?;
        Ok(Self {
            signing: Some(signer::of_private(algorithm, &key)?),
            ..Self::of_public(algorithm, jwk.algorithm)?
        })
    }

    fn of_rsa(algorithm: Algorithm, pair: &RsaKeyPair) -> Result<Self, KeyFault> {
        if !algorithm.is_rsa() {
            return Err(KeyFault::Kind(algorithm));
        }
        let der = AsDer::<Pkcs8V1Der<'static>>::as_der(pair).map_err(|_| KeyFault::Parts)?;
        // jsonwebtoken expects only the `RSAPrivateKey` (RFC 8017, A.1.2).
        let info = PrivateKeyInfoRef::try_from(der.as_ref()).map_err(|_| KeyFault::Parts)?;
        let key = EncodingKey::from_rsa_der(info.private_key.as_bytes());
        Self::of_private(algorithm, key)
    }

    fn of_ecdsa(algorithm: Algorithm, pair: &EcdsaKeyPair) -> Result<Self, KeyFault> {
        let der = pair.to_pkcs8v1().map_err(|_| KeyFault::Parts)?;
        Self::of_private(algorithm, EncodingKey::from_ec_der(der.as_ref()))
    }

    fn of_ed25519(pair: &Ed25519KeyPair) -> Result<Self, KeyFault> {
        let der = pair.to_pkcs8v1().map_err(|_| KeyFault::Parts)?;
        Self::of_private(Algorithm::EdDsa, EncodingKey::from_ed_der(der.as_ref()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.id.as_str(), self.algorithm)
    }
}

#[cfg(test)]
mod tests;
