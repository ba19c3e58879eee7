//! Verifies signatures with keys that are parsed once.
//!
//! jsonwebtoken's own verifiers are neither `Send` nor `Sync`, so threads cannot share one, and those of RSA, ECDSA and
//! Ed25519 parse the key for every signature. These implement the same trait with aws-lc, which jsonwebtoken uses too.

use std::sync::Arc;

use aws_lc_rs::{
    hmac,
    rsa::PublicKeyComponents,
    signature::{self as aws, ParsedPublicKey, RsaParameters, VerificationAlgorithm},
};
use jsonwebtoken::{
    DecodingKey, DecodingKeyKind,
    crypto::JwtVerifier,
    jwk::{AlgorithmParameters, EllipticCurve},
    signature,
};

use super::{Algorithm, KeyFault, Secret, check_length, rsa};

pub(super) type SharedVerifier = Arc<dyn JwtVerifier + Send + Sync>;

impl Algorithm {
    fn rsa_parameters(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&aws::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&aws::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&aws::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&aws::RSA_PSS_2048_8192_SHA256),
            Self::Hs256 | Self::Es256 | Self::Es384 | Self::EdDsa => None,
        }
    }

    fn verifying_curve(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::Es256 => Some(&aws::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Some(&aws::ECDSA_P384_SHA384_FIXED),
            Self::EdDsa => Some(&aws::ED25519),
            Self::Hs256 | Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 => None,
        }
    }
}

/// Checks that a public key is one for the algorithm, is complete, and is not weak. aws-lc checks that a point is on its
/// curve.
pub(super) fn check(
    algorithm: Algorithm,
    public: &AlgorithmParameters,
    key: &DecodingKey,
) -> Result<(), KeyFault> {
    let length = match (public, algorithm) {
        (
            AlgorithmParameters::RSA(_),
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256,
        ) => {
            let DecodingKeyKind::RsaModulusExponent { n, e } = key.kind() else {
                return Err(KeyFault::Parts);
            };
            check_length(n)?;
            return Ok(rsa::check(n, e)?);
        }
        // An uncompressed point (SEC 1, 2.3.3): a byte and two coordinates of full length (RFC 7518, 6.2.1.2).
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::Es256)
            if ec.curve == EllipticCurve::P256 =>
        {
            65
        }
        (AlgorithmParameters::EllipticCurve(ec), Algorithm::Es384)
            if ec.curve == EllipticCurve::P384 =>
        {
            97
        }
        (AlgorithmParameters::OctetKeyPair(pair), Algorithm::EdDsa)
            if pair.curve == EllipticCurve::Ed25519 =>
        {
            32
        }
        _ => return Err(KeyFault::Kind(algorithm)),
    };
    // aws-lc detects the format of a key itself and would accept a `SubjectPublicKeyInfo` as well.
    match key.kind() {
        DecodingKeyKind::SecretOrDer(point) if point.len() == length => Ok(()),
        DecodingKeyKind::SecretOrDer(_) | DecodingKeyKind::RsaModulusExponent { .. } => {
            Err(KeyFault::Parts)
        }
    }
}

/// The verifier of an HS256 secret.
pub(super) fn of_secret(secret: &Secret) -> SharedVerifier {
    Arc::new(Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret.expose())))
}

/// The verifier of a public key, which is parsed once.
pub(super) fn of_public(
    algorithm: Algorithm,
    key: &DecodingKey,
) -> Result<SharedVerifier, KeyFault> {
    let kind = KeyFault::Kind(algorithm);
    let key = match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let parameters = algorithm.rsa_parameters().ok_or(kind)?;
            PublicKeyComponents { n, e }.to_parsed_public_key(parameters)
        }
        DecodingKeyKind::SecretOrDer(point) => {
            ParsedPublicKey::new(algorithm.verifying_curve().ok_or(kind)?, point)
        }
    };
    let key = key.map_err(|_| KeyFault::Parts)?;
    Ok(Arc::new(Public { algorithm, key }))
}

struct Hmac(hmac::Key);

struct Public {
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl signature::Verifier<Vec<u8>> for Hmac {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hmac {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        Algorithm::Hs256.into()
    }
}

impl signature::Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = self.key.verify_sig(message, signature);
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.into()
    }
}
