//! Signs with keys that are parsed once.
//!
//! jsonwebtoken's own signers are neither `Send` nor `Sync`, so threads cannot share one, and its RSA signers parse the
//! key for every signature. These implement the same trait with aws-lc, which jsonwebtoken uses too.

use std::sync::Arc;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{self as aws, EcdsaKeyPair, Ed25519KeyPair, RsaEncoding},
};
use jsonwebtoken::{EncodingKey, crypto::JwtSigner, signature};

use super::{Algorithm, KeyFault, Secret};

pub(super) type SharedSigner = Arc<dyn JwtSigner + Send + Sync>;

/// The signer of an HS256 secret.
pub(super) fn of_secret(secret: &Secret) -> SharedSigner {
    let algorithm = Algorithm::Hs256;
    let pair = Pair::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.expose())));
    Arc::new(Signing { algorithm, pair })
}

/// The signer of a private key, which is parsed once.
pub(super) fn of_private(
    algorithm: Algorithm,
    key: &EncodingKey,
) -> Result<SharedSigner, KeyFault> {
    let private = key.as_bytes();
    let pair = match algorithm {
        Algorithm::Hs256 => return Err(KeyFault::Kind(algorithm)),
        Algorithm::Rs256 => rsa(&aws::RSA_PKCS1_SHA256, private)?,
        Algorithm::Rs384 => rsa(&aws::RSA_PKCS1_SHA384, private)?,
        Algorithm::Rs512 => rsa(&aws::RSA_PKCS1_SHA512, private)?,
        Algorithm::Ps256 => rsa(&aws::RSA_PSS_SHA256, private)?,
        Algorithm::Es256 | Algorithm::Es384 => {
            let curve = algorithm.curve().ok_or(KeyFault::Kind(algorithm))?;
            let pair = EcdsaKeyPair::from_pkcs8(curve, private);
            Pair::Ecdsa(pair.map_err(|_| KeyFault::Parts)?)
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8(private);
            Pair::Ed25519(pair.map_err(|_| KeyFault::Parts)?)
        }
    };
    Ok(Arc::new(Signing { algorithm, pair }))
}

fn rsa(encoding: &'static dyn RsaEncoding, private: &[u8]) -> Result<Pair, KeyFault> {
    let pair = RsaKeyPair::from_der(private).map_err(|_| KeyFault::Parts)?;
    Ok(Pair::Rsa(encoding, pair))
}

struct Signing {
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Hmac(Box<hmac::Key>),
    Rsa(&'static dyn RsaEncoding, RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl signature::Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let random = SystemRandom::new();
        let failed = |_| signature::Error::new();
        match &self.pair {
            Pair::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Pair::Rsa(encoding, pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => {
                let signature = pair.try_sign(message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.into()
    }
}
