//! One key: its name, its one algorithm, and what it can do (RFC 7517, RFC 7518). Parsed once; never shown.

mod jwk;
mod pem;
mod rsa;

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents},
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ParsedPublicKey,
        RsaEncoding, RsaParameters, VerificationAlgorithm,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::rsa::WeakRsa;
use super::{
    hex,
    secret::{Secret, SecretFault},
    time::UnixTime,
};

/// How tokens are signed (RFC 7518, 3.1; RFC 8037, 3.1).
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
    /// All of them.
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

    /// The algorithm of an `alg`, byte for byte.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    fn rsa(self) -> Option<(&'static RsaParameters, &'static dyn RsaEncoding)> {
        match self {
            Self::Rs256 => Some((
                &signature::RSA_PKCS1_2048_8192_SHA256,
                &signature::RSA_PKCS1_SHA256,
            )),
            Self::Rs384 => Some((
                &signature::RSA_PKCS1_2048_8192_SHA384,
                &signature::RSA_PKCS1_SHA384,
            )),
            Self::Rs512 => Some((
                &signature::RSA_PKCS1_2048_8192_SHA512,
                &signature::RSA_PKCS1_SHA512,
            )),
            Self::Ps256 => Some((
                &signature::RSA_PSS_2048_8192_SHA256,
                &signature::RSA_PSS_SHA256,
            )),
            Self::Hs256 | Self::Es256 | Self::Es384 | Self::EdDsa => None,
        }
    }

    fn curve(
        self,
    ) -> Option<(
        &'static dyn VerificationAlgorithm,
        &'static EcdsaSigningAlgorithm,
    )> {
        match self {
            Self::Es256 => Some((
                &signature::ECDSA_P256_SHA256_FIXED,
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            )),
            Self::Es384 => Some((
                &signature::ECDSA_P384_SHA384_FIXED,
                &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            )),
            Self::Hs256 | Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::EdDsa => {
                None
            }
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of a key (`kid`): 1 to 64 letters, digits, `.`, `_` and `-`. Only ever looked up in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// Takes a possible name, or nothing.
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

/// Why a key is refused. The key itself is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Neither a JWK nor PEM, or one that breaks off.
    #[error("is neither a JWK (RFC 7517) nor a key in PEM (PKCS #8)")]
    Syntax,
    /// A name that no key can have.
    #[error("has no possible name; a kid is 1 to 64 letters, digits, \".\", \"_\" and \"-\"")]
    Id,
    /// No algorithm, or one that is not known here.
    #[error("names no algorithm of: HS256, RS256, RS384, RS512, PS256, ES256, ES384, EdDSA")]
    Algorithm,
    /// The key and its algorithm are of different kinds.
    #[error("is no key for {0}")]
    Kind(Algorithm),
    /// A part is missing, malformed, or does not fit the others.
    #[error("has a part that is missing, malformed, or does not fit the others")]
    Parts,
    /// Under 2048 bits.
    #[error("has {0} bits; RSA needs at least 2048 (RFC 7518, 3.3)")]
    ShortRsa(usize),
    /// One that can be factored.
    #[error("is a weak RSA key: {0}; make another")]
    WeakRsa(#[from] WeakRsa),
    /// A weak secret.
    #[error("{0}; make another with `doorward keys generate HS256`")]
    Secret(#[from] SecretFault),
    /// A point in time that cannot be read.
    #[error(
        "says since when it signs in no form that is known; write not-before: 2026-01-31T00:00:00Z"
    )]
    NotBefore,
}

/// One key.
pub struct Key {
    id: KeyId,
    algorithm: Algorithm,
    verifying: Verifying,
    signing: Option<Signing>,
    not_before: UnixTime,
    /// The first part of every token signed with it.
    header: String,
    public: Option<Value>,
    seal: Option<hmac::Key>,
}

enum Verifying {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

enum Signing {
    Hmac(Box<hmac::Key>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The halves of a key, however they were written.
pub(super) struct Halves {
    verifying: Verifying,
    signing: Option<Signing>,
    public: Option<Value>,
    seal: Option<hmac::Key>,
}

impl Key {
    /// Reads a file of a directory of keys: a JWK, or PEM with lines such as `alg: RS256` before it. The name of the key
    /// is in the JWK, or else that of the file, without what follows its last dot.
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

    /// Reads one JWK, whose name may be missing, to look at tokens with it: of secrets, published ones are taken as well.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn from_jwk(jwk: &str) -> Result<Self, KeyFault> {
        jwk::read(jwk, Some("-"), Secret::parse_example)
    }

    /// The key of HS256 that a secret is; it is called after itself, by a digest that does not tell it.
    #[must_use]
    pub fn from_secret(secret: &Secret, not_before: UnixTime) -> Self {
        let tag = hmac::sign(&secret.derived("doorward kid"), b"");
        let name = tag.as_ref().get(..8).unwrap_or_default();
        let id = KeyId(hex::encode(name).into());
        Self::new(id, Algorithm::Hs256, not_before, Halves::of_secret(secret))
    }

    /// The same key, which signs no more.
    #[must_use]
    pub fn only_verifying(self) -> Self {
        Self {
            signing: None,
            ..self
        }
    }

    fn new(id: KeyId, algorithm: Algorithm, not_before: UnixTime, halves: Halves) -> Self {
        let header = json!({"typ": "JWT", "alg": algorithm.name(), "kid": id.as_str()});
        let public = halves.public.map(|mut public| {
            let own = [
                ("kid", id.as_str()),
                ("alg", algorithm.name()),
                ("use", "sig"),
            ];
            if let Some(members) = public.as_object_mut() {
                members.extend(own.map(|(name, value)| (name.to_owned(), value.into())));
            }
            public
        });
        Self {
            header: BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
            id,
            algorithm,
            verifying: halves.verifying,
            signing: halves.signing,
            not_before,
            public,
            seal: halves.seal,
        }
    }

    /// Draws a new key, as the file that [`Key::read`] reads.
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
        let der = match (algorithm.rsa(), algorithm.curve()) {
            (Some(_), _) => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(none)?;
                let der = AsDer::<Pkcs8V1Der<'static>>::as_der(&pair).map_err(none)?;
                Zeroizing::new(der.as_ref().to_vec())
            }
            (None, Some((_, curve))) => {
                let pair = EcdsaKeyPair::generate(curve).map_err(none)?;
                Zeroizing::new(pair.to_pkcs8v1().map_err(none)?.as_ref().to_vec())
            }
            (None, None) if algorithm == Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().map_err(none)?;
                Zeroizing::new(pair.to_pkcs8v1().map_err(none)?.as_ref().to_vec())
            }
            (None, None) => {
                let mut secret = Zeroizing::new([0; 64]);
                aws_lc_rs::rand::fill(&mut *secret).map_err(none)?;
                let jwk = json!({
                    "kty": "oct", "kid": id.as_str(), "alg": algorithm.name(), "use": "sig",
                    "k": BASE64_URL_SAFE_NO_PAD.encode(*secret), "nbf": not_before.0,
                });
                return Ok(Zeroizing::new(format!("{jwk:#}\n")));
            }
        };
        Ok(pem::write(id, algorithm, not_before, &der))
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

    /// Since when it may sign.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// Whether it can sign.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// The JWK of its public half, where it has one.
    #[must_use]
    pub fn public(&self) -> Option<&Value> {
        self.public.as_ref()
    }

    /// A key for another purpose, from which nobody can tell this one; where there is a private half.
    #[must_use]
    pub fn seal(&self) -> Option<&hmac::Key> {
        self.seal.as_ref()
    }

    /// The first part of every token signed with it.
    #[must_use]
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// Whether a signature is the key's own.
    #[must_use]
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifying {
            Verifying::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Verifying::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }

    /// Signs, where the key can.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self.signing.as_ref()? {
            Signing::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Signing::Rsa(pair) => {
                let (_, padding) = self.algorithm.rsa()?;
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(padding, &SystemRandom::new(), message, &mut signature);
                signed.ok().map(|()| signature)
            }
            Signing::Ecdsa(pair) => {
                let signed = pair.sign(&SystemRandom::new(), message);
                signed.ok().map(|signature| signature.as_ref().to_vec())
            }
            Signing::Ed25519(pair) => {
                let signed = pair.try_sign(message);
                signed.ok().map(|signature| signature.as_ref().to_vec())
            }
        }
    }
}

/// The least length of an RSA key (RFC 7518, 3.3).
const MIN_RSA: usize = 2048;

/// How many bits a number has.
fn bits_of(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = number.get(zeros..).unwrap_or_default();
    let leading = number.first().map_or(0, |first| first.leading_zeros());
    number.len() * 8 - leading as usize
}

impl Halves {
    fn of_secret(secret: &Secret) -> Self {
        let key = Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()));
        Self {
            verifying: Verifying::Hmac(key.clone()),
            signing: Some(Signing::Hmac(key)),
            public: None,
            seal: Some(secret.derived("doorward throttle")),
        }
    }

    /// Remembers what only who has the private half could derive.
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

    fn of_rsa_public(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<Self, KeyFault> {
        let (parameters, _) = algorithm.rsa().ok_or(KeyFault::Kind(algorithm))?;
        let bits = bits_of(n);
        if bits < MIN_RSA {
            return Err(KeyFault::ShortRsa(bits));
        }
        rsa::check(n, e)?;
        let parsed = PublicKeyComponents { n, e }.to_parsed_public_key(parameters);
        Ok(Self {
            verifying: Verifying::Public(parsed.map_err(|_| KeyFault::Parts)?),
            signing: None,
            seal: None,
            public: Some(json!({
                "kty": "RSA",
                "n": BASE64_URL_SAFE_NO_PAD.encode(n),
                "e": BASE64_URL_SAFE_NO_PAD.encode(e),
            })),
        })
    }

    fn of_rsa(algorithm: Algorithm, pair: RsaKeyPair) -> Result<Self, KeyFault> {
        let public = pair.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        let (n, e) = (
            n.big_endian_without_leading_zero().to_vec(),
            e.big_endian_without_leading_zero().to_vec(),
        );
        Ok(Self {
            signing: Some(Signing::Rsa(pair)),
            ..Self::of_rsa_public(algorithm, &n, &e)?
        })
    }

    /// A point in uncompressed form (SEC 1, 2.3.3).
    fn of_point(algorithm: Algorithm, point: &[u8]) -> Result<Self, KeyFault> {
        let (verifying, _) = algorithm.curve().ok_or(KeyFault::Kind(algorithm))?;
        let parsed = ParsedPublicKey::new(verifying, point).map_err(|_| KeyFault::Parts)?;
        let coordinates = point.get(1..).unwrap_or_default();
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        Ok(Self {
            verifying: Verifying::Public(parsed),
            signing: None,
            seal: None,
            public: Some(json!({
                "kty": "EC",
                "crv": if algorithm == Algorithm::Es384 { "P-384" } else { "P-256" },
                "x": BASE64_URL_SAFE_NO_PAD.encode(x),
                "y": BASE64_URL_SAFE_NO_PAD.encode(y),
            })),
        })
    }

    fn of_ecdsa(algorithm: Algorithm, pair: EcdsaKeyPair) -> Result<Self, KeyFault> {
        let halves = Self::of_point(algorithm, pair.public_key().as_ref())?;
        Ok(Self {
            signing: Some(Signing::Ecdsa(pair)),
            ..halves
        })
    }

    fn of_ed25519_public(x: &[u8]) -> Result<Self, KeyFault> {
        let parsed = ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| KeyFault::Parts)?;
        Ok(Self {
            verifying: Verifying::Public(parsed),
            signing: None,
            seal: None,
            public: Some(json!({
                "kty": "OKP", "crv": "Ed25519", "x": BASE64_URL_SAFE_NO_PAD.encode(x),
            })),
        })
    }

    fn of_ed25519(pair: Ed25519KeyPair) -> Result<Self, KeyFault> {
        let halves = Self::of_ed25519_public(pair.public_key().as_ref())?;
        Ok(Self {
            signing: Some(Signing::Ed25519(pair)),
            ..halves
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {})", self.id.as_str(), self.algorithm)
    }
}

#[cfg(test)]
mod tests;
