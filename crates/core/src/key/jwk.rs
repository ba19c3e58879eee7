//! JWKs (RFC 7517, RFC 7518 6, RFC 8037 2), private and public, parsed strictly. jsonwebtoken's `Jwk` has only public
//! keys and no `nbf`, and accepts duplicate members; so files are parsed here and then become its keys.

use aws_lc_rs::{
    rsa::{KeyPair, KeyPairComponents, PublicKeyComponents},
    signature::{EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    OctetKeyPairParameters, OctetKeyPairType, RSAKeyParameters, RSAKeyType,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Algorithm, Halves, Key, KeyFault, KeyId};
use crate::{
    secret::{Secret, SecretFault},
    time::UnixTime,
};

#[derive(Deserialize)]
struct JwkFile {
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

/// Parses a secret, or returns why it is refused.
type ReadSecret = fn(&[u8]) -> Result<Secret, SecretFault>;

pub(super) fn read(
    text: &str,
    name: Option<&str>,
    read_secret: ReadSecret,
) -> Result<Key, KeyFault> {
    let jwk: JwkFile = serde_json::from_str(text).map_err(|_| KeyFault::Syntax)?;
    let id = jwk.kid.as_deref().or(name).and_then(KeyId::parse);
    let id = id.ok_or(KeyFault::Id)?;
    let algorithm = algorithm(jwk.alg.as_deref(), &jwk.kty, jwk.crv.as_deref());
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
            let secret = bytes(&jwk.k)?;
            Halves::of_secret(&read_secret(&secret)?)
        }
        ("RSA", None, _) => rsa(&jwk, algorithm)?,
        ("EC", Some("P-256"), Algorithm::Es256) => ec(&jwk, algorithm, EllipticCurve::P256)?,
        ("EC", Some("P-384"), Algorithm::Es384) => ec(&jwk, algorithm, EllipticCurve::P384)?,
        ("OKP", Some("Ed25519"), Algorithm::EdDsa) => ed25519(&jwk)?,
        _ => return Err(KeyFault::Kind(algorithm)),
    };
    let not_before = UnixTime(jwk.nbf.unwrap_or(0));
    let halves = match (&jwk.k, &jwk.d) {
        (Some(_), _) | (None, None) => halves,
        (None, Some(private)) => halves.sealed_by(private.as_bytes()),
    };
    Ok(Key::new(id, algorithm, not_before, halves))
}

/// The algorithm of a key. A curve has only one; RSA keys and secrets have several, so the key must name it.
fn algorithm(alg: Option<&str>, kty: &str, crv: Option<&str>) -> Option<Algorithm> {
    match (alg, kty, crv) {
        (Some(alg), _, _) => Algorithm::parse(alg),
        (None, "EC", Some("P-256")) => Some(Algorithm::Es256),
        (None, "EC", Some("P-384")) => Some(Algorithm::Es384),
        (None, "OKP", Some("Ed25519")) => Some(Algorithm::EdDsa),
        (None, _, _) => None,
    }
}

/// The same for a key that another issuer has published.
pub(super) fn published_algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let alg = jwk.common.key_algorithm.map(|alg| alg.to_string());
    let (kty, curve) = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(ec) => ("EC", Some(&ec.curve)),
        AlgorithmParameters::OctetKeyPair(pair) => ("OKP", Some(&pair.curve)),
        AlgorithmParameters::RSA(_)
        | AlgorithmParameters::OctetKey(_)
        | AlgorithmParameters::Other(_)
        | _ => ("", None),
    };
    let crv = [
        (EllipticCurve::P256, "P-256"),
        (EllipticCurve::P384, "P-384"),
        (EllipticCurve::Ed25519, "Ed25519"),
    ];
    let crv = crv.iter().find(|(own, _)| Some(own) == curve);
    algorithm(alg.as_deref(), kty, crv.map(|(_, name)| *name))
}

fn rsa(jwk: &JwkFile, algorithm: Algorithm) -> Result<Halves, KeyFault> {
    let public = Halves::of_public(
        algorithm,
        AlgorithmParameters::RSA(RSAKeyParameters {
            key_type: RSAKeyType::RSA,
            n: text(&jwk.n)?,
            e: text(&jwk.e)?,
        }),
    )?;
    if jwk.d.is_none() {
        return Ok(public);
    }
    let pair = KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents {
            n: bytes(&jwk.n)?,
            e: bytes(&jwk.e)?,
        },
        d: bytes(&jwk.d)?,
        p: bytes(&jwk.p)?,
        q: bytes(&jwk.q)?,
        dP: bytes(&jwk.dp)?,
        dQ: bytes(&jwk.dq)?,
        qInv: bytes(&jwk.qi)?,
    });
    Halves::of_rsa(algorithm, &pair.map_err(|_| KeyFault::Parts)?)
}

fn ec(jwk: &JwkFile, algorithm: Algorithm, curve: EllipticCurve) -> Result<Halves, KeyFault> {
    let public = Halves::of_public(
        algorithm,
        AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            key_type: EllipticCurveKeyType::EC,
            curve,
            x: text(&jwk.x)?,
            y: text(&jwk.y)?,
        }),
    )?;
    let (Some(_), Some(curve)) = (&jwk.d, algorithm.curve()) else {
        return Ok(public);
    };
    let point = [&[4][..], &bytes(&jwk.x)?, &bytes(&jwk.y)?].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, &bytes(&jwk.d)?, &point);
    Halves::of_ecdsa(algorithm, &pair.map_err(|_| KeyFault::Parts)?)
}

fn ed25519(jwk: &JwkFile) -> Result<Halves, KeyFault> {
    let public = Halves::of_public(
        Algorithm::EdDsa,
        AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
            key_type: OctetKeyPairType::OctetKeyPair,
            curve: EllipticCurve::Ed25519,
            x: text(&jwk.x)?,
        }),
    )?;
    if jwk.d.is_none() {
        return Ok(public);
    }
    let pair = Ed25519KeyPair::from_seed_and_public_key(&bytes(&jwk.d)?, &bytes(&jwk.x)?);
    Halves::of_ed25519(&pair.map_err(|_| KeyFault::Parts)?)
}

/// A member of the public key.
fn text(part: &Part) -> Result<String, KeyFault> {
    let part = part.as_ref().ok_or(KeyFault::Parts)?;
    Ok(part.as_str().to_owned())
}

fn bytes(part: &Part) -> Result<Bytes, KeyFault> {
    let part = part.as_ref().ok_or(KeyFault::Parts)?;
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(part.as_bytes());
    decoded.map(Zeroizing::new).map_err(|_| KeyFault::Parts)
}
