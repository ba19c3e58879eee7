//! JWKs (RFC 7517, RFC 7518 6, RFC 8037 2), private and public, read strictly.

use aws_lc_rs::{
    rsa::{KeyPair, KeyPairComponents, PublicKeyComponents},
    signature::{EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Algorithm, Halves, Key, KeyFault, KeyId};
use crate::{
    secret::{Secret, SecretFault},
    time::UnixTime,
};

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    nbf: Option<u64>,
    k: Part,
    n: Part,
    e: Part,
    d: Part,
    p: Part,
    q: Part,
    dp: Part,
    dq: Part,
    qi: Part,
    x: Part,
    y: Part,
}

type Part = Option<Zeroizing<String>>;

type Bytes = Zeroizing<Vec<u8>>;

/// Reads a secret, or says why it is refused.
type ReadSecret = fn(&[u8]) -> Result<Secret, SecretFault>;

pub(super) fn read(
    text: &str,
    name: Option<&str>,
    read_secret: ReadSecret,
) -> Result<Key, KeyFault> {
    let jwk: Jwk = serde_json::from_str(text).map_err(|_| KeyFault::Syntax)?;
    let id = jwk.kid.as_deref().or(name).and_then(KeyId::parse);
    let id = id.ok_or(KeyFault::Id)?;
    let algorithm = match (&jwk.alg, &*jwk.kty, jwk.crv.as_deref()) {
        (Some(alg), _, _) => Algorithm::parse(alg),
        // A curve has one algorithm; RSA and secrets have several, and the key must say which.
        (None, "EC", Some("P-256")) => Some(Algorithm::Es256),
        (None, "EC", Some("P-384")) => Some(Algorithm::Es384),
        (None, "OKP", Some("Ed25519")) => Some(Algorithm::EdDsa),
        (None, _, _) => None,
    };
    let algorithm = algorithm.ok_or(KeyFault::Algorithm)?;
    let is_for = |operation: &String| matches!(&**operation, "sign" | "verify");
    let fits = jwk
        .purpose
        .as_deref()
        .is_none_or(|purpose| purpose == "sig")
        && (jwk.key_ops.as_ref()).is_none_or(|operations| operations.iter().any(is_for));
    if !fits {
        return Err(KeyFault::Kind(algorithm));
    }
    let halves = match (&*jwk.kty, jwk.crv.as_deref(), algorithm) {
        ("oct", None, Algorithm::Hs256) => {
            let secret = part(&jwk.k)?;
            Halves::of_secret(&read_secret(&secret)?)
        }
        (
            "RSA",
            None,
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256,
        ) => rsa(&jwk, algorithm)?,
        ("EC", Some("P-256"), Algorithm::Es256) | ("EC", Some("P-384"), Algorithm::Es384) => {
            ec(&jwk, algorithm)?
        }
        ("OKP", Some("Ed25519"), Algorithm::EdDsa) => {
            let x = part(&jwk.x)?;
            match &jwk.d {
                None => Halves::of_ed25519_public(&x)?,
                d => {
                    let pair = Ed25519KeyPair::from_seed_and_public_key(&part(d)?, &x);
                    Halves::of_ed25519(pair.map_err(|_| KeyFault::Parts)?)?
                }
            }
        }
        _ => return Err(KeyFault::Kind(algorithm)),
    };
    let not_before = UnixTime(jwk.nbf.unwrap_or(0));
    let halves = match (&jwk.k, &jwk.d) {
        (Some(_), _) | (None, None) => halves,
        (None, Some(private)) => halves.sealed_by(private.as_bytes()),
    };
    Ok(Key::new(id, algorithm, not_before, halves))
}

fn rsa(jwk: &Jwk, algorithm: Algorithm) -> Result<Halves, KeyFault> {
    let (n, e) = (part(&jwk.n)?, part(&jwk.e)?);
    if jwk.d.is_none() {
        return Halves::of_rsa_public(algorithm, &n, &e);
    }
    // Looked at first: of a short key the library says no more than that it is refused.
    Halves::of_rsa_public(algorithm, &n, &e)?;
    let pair = KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d: part(&jwk.d)?,
        p: part(&jwk.p)?,
        q: part(&jwk.q)?,
        dP: part(&jwk.dp)?,
        dQ: part(&jwk.dq)?,
        qInv: part(&jwk.qi)?,
    });
    Halves::of_rsa(algorithm, pair.map_err(|_| KeyFault::Parts)?)
}

fn ec(jwk: &Jwk, algorithm: Algorithm) -> Result<Halves, KeyFault> {
    let (x, y) = (part(&jwk.x)?, part(&jwk.y)?);
    let length = if algorithm == Algorithm::Es384 {
        48
    } else {
        32
    };
    // Of full length (RFC 7518, 6.2.1.2).
    if x.len() != length || y.len() != length {
        return Err(KeyFault::Parts);
    }
    let point = [&[4][..], &x, &y].concat();
    if jwk.d.is_none() {
        return Halves::of_point(algorithm, &point);
    }
    let (_, curve) = algorithm.curve().ok_or(KeyFault::Kind(algorithm))?;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, &part(&jwk.d)?, &point);
    Halves::of_ecdsa(algorithm, pair.map_err(|_| KeyFault::Parts)?)
}

fn part(part: &Part) -> Result<Bytes, KeyFault> {
    let part = part.as_ref().ok_or(KeyFault::Parts)?;
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(part.as_bytes());
    decoded.map(Zeroizing::new).map_err(|_| KeyFault::Parts)
}
