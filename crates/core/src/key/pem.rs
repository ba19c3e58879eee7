//! Keys in PEM (RFC 7468): PKCS #8, SEC 1 and PKCS #1 private keys and public keys. Lines such as `alg: RS256` and
//! `not-before: 2026-01-31T00:00:00Z` may stand before the key, where other programs overlook them.

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::{
    rsa::{KeyPair as RsaKeyPair, PublicKey as RsaPublicKey},
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, ParsedPublicKey, VerificationAlgorithm},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{Algorithm, Halves, Key, KeyFault, KeyId, MIN_RSA, bits_of};
use crate::{
    der::{INTEGER, OCTETS, SEQUENCE, element},
    time::UnixTime,
};

pub(super) fn read(text: &str, name: &str) -> Result<Key, KeyFault> {
    let (before, rest) = text.split_once("-----BEGIN ").ok_or(KeyFault::Syntax)?;
    let (label, rest) = rest.split_once("-----").ok_or(KeyFault::Syntax)?;
    let end = format!("-----END {label}-----");
    let (body, after) = rest.split_once(&*end).ok_or(KeyFault::Syntax)?;
    // A second key in one file would have no name.
    if after.contains("-----BEGIN ") {
        return Err(KeyFault::Syntax);
    }
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    let der = BASE64_STANDARD.decode(body.as_bytes());
    let der = Zeroizing::new(der.map_err(|_| KeyFault::Syntax)?);
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
    let (algorithm, halves) = match label {
        "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => private(&der, asked)?,
        "PUBLIC KEY" => public(&der, asked)?,
        _ => return Err(KeyFault::Syntax),
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
        return Ok((fits(Algorithm::EdDsa)?, Halves::of_ed25519(pair)?));
    }
    for algorithm in [Algorithm::Es256, Algorithm::Es384] {
        let Some((_, curve)) = algorithm.curve() else {
            continue;
        };
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve, der) {
            return Ok((fits(algorithm)?, Halves::of_ecdsa(algorithm, pair)?));
        }
    }
    // Looked at first: of a short key the library says no more than that it is refused.
    if let Some(bits) = modulus(der).map(bits_of)
        && bits < MIN_RSA
    {
        return Err(KeyFault::ShortRsa(bits));
    }
    let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
    let pair = pair.map_err(|_| KeyFault::Parts)?;
    let algorithm = asked.unwrap_or(Algorithm::Rs256);
    Ok((algorithm, Halves::of_rsa(algorithm, pair)?))
}

/// The modulus in an `RSAPrivateKey` (RFC 8017, A.1.2), which may be in a `PrivateKeyInfo` (RFC 5208, 5).
fn modulus(der: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, members, _) = element(der)? else {
        return None;
    };
    let (INTEGER, _version, rest) = element(members)? else {
        return None;
    };
    match element(rest)? {
        (INTEGER, modulus, _) => Some(modulus),
        (SEQUENCE, _algorithm, rest) => match element(rest)? {
            (OCTETS, key, _) => modulus(key),
            _ => None,
        },
        _ => None,
    }
}

/// A `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7).
fn public(der: &[u8], asked: Option<Algorithm>) -> Result<(Algorithm, Halves), KeyFault> {
    if let Ok(key) = RsaPublicKey::from_der(der) {
        let (n, e) = (key.modulus(), key.exponent());
        let algorithm = asked.unwrap_or(Algorithm::Rs256);
        let n = n.big_endian_without_leading_zero();
        let e = e.big_endian_without_leading_zero();
        return Ok((algorithm, Halves::of_rsa_public(algorithm, n, e)?));
    }
    // The library reads the algorithm identifier (an X25519 key is as long as an Ed25519 key); the key stands at the end.
    let is_key_of = |verifying: &'static dyn VerificationAlgorithm| {
        ParsedPublicKey::new(verifying, der).is_ok()
    };
    let key = |length: usize| {
        let start = der.len().checked_sub(length);
        start.and_then(|start| der.get(start..))
    };
    let (algorithm, halves) = match der.len() {
        44 if is_key_of(&signature::ED25519) => {
            (Algorithm::EdDsa, key(32).map(Halves::of_ed25519_public))
        }
        91 if is_key_of(&signature::ECDSA_P256_SHA256_FIXED) => {
            let point = |point| Halves::of_point(Algorithm::Es256, point);
            (Algorithm::Es256, key(65).map(point))
        }
        120 if is_key_of(&signature::ECDSA_P384_SHA384_FIXED) => {
            let point = |point| Halves::of_point(Algorithm::Es384, point);
            (Algorithm::Es384, key(97).map(point))
        }
        _ => return Err(KeyFault::Parts),
    };
    match asked {
        Some(asked) if asked != algorithm => Err(KeyFault::Kind(asked)),
        Some(_) | None => Ok((algorithm, halves.ok_or(KeyFault::Parts)??)),
    }
}

pub(super) fn write(
    id: &KeyId,
    algorithm: Algorithm,
    not_before: UnixTime,
    der: &[u8],
) -> Zeroizing<String> {
    let moment = UNIX_EPOCH + Duration::from_secs(not_before.0.min(253_402_300_799));
    let mut text = Zeroizing::new(format!(
        "kid: {}\nalg: {algorithm}\nnot-before: {}\n-----BEGIN PRIVATE KEY-----\n",
        id.as_str(),
        humantime::format_rfc3339_seconds(moment),
    ));
    let body = Zeroizing::new(BASE64_STANDARD.encode(der));
    let mut rest = &**body;
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}
