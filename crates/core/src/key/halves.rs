//! What a key signs and verifies with, before it has a name.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    hmac,
    rsa::KeyPair as RsaKeyPair,
    signature::{EcdsaKeyPair, Ed25519KeyPair},
};
use jsonwebtoken::{
    DecodingKey, EncodingKey,
    jwk::{AlgorithmParameters, CommonParameters, Jwk},
};
use pkcs8::PrivateKeyInfoRef;

use super::{
    Algorithm, KeyFault, Secret,
    signer::{self, SharedSigner},
    verifier::{self, SharedVerifier},
};

/// The private and the public half of a key, in whatever form they were written.
pub(super) struct Halves {
    pub(super) verifier: SharedVerifier,
    pub(super) signing: Option<SharedSigner>,
    pub(super) public: Option<AlgorithmParameters>,
    pub(super) seal: Option<hmac::Key>,
}

impl Halves {
    pub(super) fn of_secret(secret: &Secret) -> Self {
        Self {
            verifier: verifier::of_secret(secret),
            signing: Some(signer::of_secret(secret)),
            public: None,
            seal: Some(secret.derived("doorward throttle")),
        }
    }

    /// Derives the seal, which requires the private key.
    pub(super) fn sealed_by(self, private: &[u8]) -> Self {
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
    pub(super) fn of_public(
        algorithm: Algorithm,
        public: AlgorithmParameters,
    ) -> Result<Self, KeyFault> {
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

    pub(super) fn of_rsa(algorithm: Algorithm, pair: &RsaKeyPair) -> Result<Self, KeyFault> {
        if !algorithm.is_rsa() {
            return Err(KeyFault::Kind(algorithm));
        }
        let der = AsDer::<Pkcs8V1Der<'static>>::as_der(pair).map_err(|_| KeyFault::Parts)?;
        // jsonwebtoken expects only the `RSAPrivateKey` (RFC 8017, A.1.2).
        let info = PrivateKeyInfoRef::try_from(der.as_ref()).map_err(|_| KeyFault::Parts)?;
        let key = EncodingKey::from_rsa_der(info.private_key.as_bytes());
        Self::of_private(algorithm, key)
    }

    pub(super) fn of_ecdsa(algorithm: Algorithm, pair: &EcdsaKeyPair) -> Result<Self, KeyFault> {
        let der = pair.to_pkcs8v1().map_err(|_| KeyFault::Parts)?;
        Self::of_private(algorithm, EncodingKey::from_ec_der(der.as_ref()))
    }

    pub(super) fn of_ed25519(pair: &Ed25519KeyPair) -> Result<Self, KeyFault> {
        let der = pair.to_pkcs8v1().map_err(|_| KeyFault::Parts)?;
        Self::of_private(Algorithm::EdDsa, EncodingKey::from_ed_der(der.as_ref()))
    }
}
