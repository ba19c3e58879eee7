//! Keys in PEM (RFC 7468): PKCS #8, SEC 1 and PKCS #1 private keys, and public keys. Lines such as `alg: RS256` and
//! `not-before: 2026-01-31T00:00:00Z` may precede the key; other programs skip them.

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::{
    rsa::KeyPair as RsaKeyPair,
    signature::{EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType,
    OctetKeyPairParameters, OctetKeyPairType, RSAKeyParameters, RSAKeyType,
};
use pkcs1::{RsaPrivateKeyRef, RsaPublicKeyRef};
use pkcs8::{
    LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument, SubjectPublicKeyInfoRef,
};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use zeroize::Zeroizing;

use super::{Algorithm, Halves, Key, KeyFault, KeyId, check_length};
use crate::time::UnixTime;

pub(super) fn read(text: &str, name: &str) -> Result<Key, KeyFault> {
    let (before, pem) = match text.match_indices("-----BEGIN ").collect::<Vec<_>>()[..] {
        [(start, _)] => text.split_at(start),
        // A second key in one file would have no name.
        _ => return Err(KeyFault::Syntax),
    };
    let section = <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes());
    let (kind, der) = section.map_err(|_| KeyFault::Syntax)?;
    let der = Zeroizing::new(der);
    let note = |wanted: &str| {
        before.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| value.trim())
        })
    };
    let asked = match note("alg") {
        None => None,
        Some(alg) => Some(Algorithm::parse(alg).ok_or(KeyFault::Algorithm)?),
    };
    let not_before = match note("not-before") {
        None => UnixTime(0),
        Some(moment) => {
            let moment = humantime::parse_rfc3339(moment).map_err(|_| KeyFault::NotBefore)?;
            let since = moment.duration_since(UNIX_EPOCH);
            UnixTime(since.map_err(|_| KeyFault::NotBefore)?.as_secs())
        }
    };
    let id = KeyId::parse(note("kid").unwrap_or(name)).ok_or(KeyFault::Id)?;
    let (algorithm, halves) = match kind {
        SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
            private(&der, asked)?
        }
        SectionKind::PublicKey => public(&der, asked)?,
        SectionKind::Certificate
        | SectionKind::Crl
        | SectionKind::Csr
        | SectionKind::EchConfigList
        | _ => return Err(KeyFault::Syntax),
    };
    let halves = halves.sealed_by(&der);
    Ok(Key::new(id, algorithm, not_before, halves))
}

fn private(der: &[u8], asked: Option<Algorithm>) -> Result<(Algorithm, Halves), KeyFault> {
    let fits = |own: Algorithm| match asked {
        Some(asked) if asked != own => Err(KeyFault::Kind(asked)),
        Some(_) | None => Ok(own),
    };
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
        return Ok((fits(Algorithm::EdDsa)?, Halves::of_ed25519(&pair)?));
    }
    for algorithm in [Algorithm::Es256, Algorithm::Es384] {
        let Some(curve) = algorithm.curve() else {
            continue;
        };
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve, der) {
            return Ok((fits(algorithm)?, Halves::of_ecdsa(algorithm, &pair)?));
        }
    }
    let in_pkcs8 = PrivateKeyInfoRef::try_from(der).map(|info| info.private_key.as_bytes());
    if let Ok(key) = RsaPrivateKeyRef::try_from(in_pkcs8.unwrap_or(der)) {
        check_length(key.modulus.as_bytes())?;
    }
    let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
    let pair = pair.map_err(|_| KeyFault::Parts)?;
    let algorithm = asked.unwrap_or(Algorithm::Rs256);
    Ok((algorithm, Halves::of_rsa(algorithm, &pair)?))
}

const RSA: ObjectIdentifier = pkcs1::ALGORITHM_OID;
/// RFC 5480, 2.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// RFC 8410, 3. The identifier of X25519, whose keys have the same length, ends with 110.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7).
fn public(der: &[u8], asked: Option<Algorithm>) -> Result<(Algorithm, Halves), KeyFault> {
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyFault::Parts)?;
    let key = info.subject_public_key.as_bytes().ok_or(KeyFault::Parts)?;
    let (oid, parameters) = (info.algorithm.oid, info.algorithm.parameters);
    let curve = || info.algorithm.parameters_oid().map_err(|_| KeyFault::Parts);
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let (own, public) = match oid {
        RSA => {
            let key = RsaPublicKeyRef::try_from(key).map_err(|_| KeyFault::Parts)?;
            let algorithm = asked.unwrap_or(Algorithm::Rs256);
            let public = AlgorithmParameters::RSA(RSAKeyParameters {
                key_type: RSAKeyType::RSA,
                n: encode(key.modulus.as_bytes()),
                e: encode(key.public_exponent.as_bytes()),
            });
            (algorithm, public)
        }
        EC => {
            let (algorithm, curve) = match curve()? {
                P256 => (Algorithm::Es256, EllipticCurve::P256),
                P384 => (Algorithm::Es384, EllipticCurve::P384),
                _ => return Err(KeyFault::Parts),
            };
            // Uncompressed (SEC 1, 2.3.3).
            let [4, coordinates @ ..] = key else {
                return Err(KeyFault::Parts);
            };
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            let public = AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                key_type: EllipticCurveKeyType::EC,
                curve,
                x: encode(x),
                y: encode(y),
            });
            (algorithm, public)
        }
        ED25519 if parameters.is_none() => {
            let public = AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: encode(key),
            });
            (Algorithm::EdDsa, public)
        }
        _ => return Err(KeyFault::Parts),
    };
    match asked {
        Some(asked) if asked != own => Err(KeyFault::Kind(asked)),
        Some(_) | None => Ok((own, Halves::of_public(own, public)?)),
    }
}

/// The file of a new key; `None` if the key is not DER.
pub(super) fn write(
    id: &KeyId,
    algorithm: Algorithm,
    not_before: UnixTime,
    der: &[u8],
) -> Option<Zeroizing<String>> {
    let moment = UNIX_EPOCH + Duration::from_secs(not_before.0.min(253_402_300_799));
    let mut text = Zeroizing::new(format!(
        "kid: {}\nalg: {algorithm}\nnot-before: {}\n",
        id.as_str(),
        humantime::format_rfc3339_seconds(moment),
    ));
    let document = SecretDocument::try_from(der).ok()?;
    text.push_str(&document.to_pem("PRIVATE KEY", LineEnding::LF).ok()?);
    Some(text)
}
