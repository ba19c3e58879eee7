use std::sync::LazyLock;

use aws_lc_rs::signature::KeyPair as _;
use proptest::prelude::*;

use super::*;
use crate::jws;

const NOW: UnixTime = UnixTime(1_800_000_000);

/// A key file of each algorithm; generating an RSA key is slow.
static FILES: LazyLock<Vec<(Algorithm, String)>> = LazyLock::new(|| {
    let id = KeyId::parse("k-1").unwrap();
    Algorithm::ALL
        .into_iter()
        .map(|algorithm| {
            let file = Key::generate(&id, algorithm, NOW).unwrap();
            (algorithm, file.to_string())
        })
        .collect()
});

fn read(file: &str) -> Key {
    Key::read("another-name.pem", file.as_bytes()).unwrap()
}

#[test]
fn generated_keys_read_back_sign_and_verify() {
    for (algorithm, file) in &*FILES {
        let key = read(file);
        assert_eq!(
            (key.id().as_str(), key.algorithm(), key.not_before()),
            ("k-1", *algorithm, NOW)
        );
        let token = jws::sign(b"{}", &key).unwrap();
        assert_eq!(jws::verify(&token, &key), Ok(b"{}".to_vec()), "{algorithm}");
        let other = Key::generate(key.id(), *algorithm, NOW).unwrap();
        assert!(jws::verify(&token, &read(&other)).is_err(), "{algorithm}");
        assert!(!format!("{key:?}").contains(&file[file.len() - 40..file.len() - 30]));
        assert_eq!(key.public().is_some(), *algorithm != Algorithm::Hs256);
    }
}

fn der_of_ed25519() -> Vec<u8> {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    der.as_ref().to_vec()
}

/// A `SubjectPublicKeyInfo` of each kind, as `openssl pkey -pubout` writes it.
#[test]
fn pem_public_keys_are_identified_by_their_algorithm() {
    let pem = |der: &[u8]| {
        let body = base64::prelude::BASE64_STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    };
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = ed25519.public_key().as_der().unwrap();
    let key = read(&pem(der.as_ref()));
    assert_eq!(key.algorithm(), Algorithm::EdDsa);
    let x = BASE64_URL_SAFE_NO_PAD.encode(ed25519.public_key());
    assert_eq!(json!(key.public())["x"], x);

    for algorithm in [Algorithm::Es256, Algorithm::Es384] {
        let curve = algorithm.curve().unwrap();
        let pair = EcdsaKeyPair::generate(curve).unwrap();
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = read(&pem(der.as_ref()));
        assert_eq!(key.algorithm(), algorithm);
        let point = &pair.public_key().as_ref()[1..];
        let x = BASE64_URL_SAFE_NO_PAD.encode(&point[..point.len() / 2]);
        assert_eq!(json!(key.public())["x"], x);
    }

    // X25519 (RFC 8410, 4) differs from Ed25519 in one byte of its identifier; P-256 differs from secp256k1 in more.
    let mut x25519 = der_of_x25519();
    let refused = |der: &[u8]| Key::read("k.pem", pem(der).as_bytes()).unwrap_err();
    assert_eq!(refused(&x25519), KeyFault::Parts);
    x25519.truncate(40);
    assert_eq!(refused(&x25519), KeyFault::Parts);
}

fn der_of_x25519() -> Vec<u8> {
    let mut der = hex::decode("302a300506032b656e032100").unwrap();
    let private = aws_lc_rs::agreement::PrivateKey::generate(&aws_lc_rs::agreement::X25519);
    let public = private.unwrap().compute_public_key().unwrap();
    der.extend_from_slice(public.as_ref());
    der
}

/// A key read from its published half verifies what is signed here. `tests/e2e` also asks another implementation.
#[test]
fn published_keys_verify() {
    for (algorithm, file) in &*FILES {
        let key = read(file);
        let Some(public) = key.public() else {
            continue;
        };
        let token = jws::sign(br#"{"sub":"7"}"#, &key).unwrap();
        let published = Key::from_jwk(&json!(public).to_string()).unwrap();
        assert!(!published.can_sign());
        assert!(jws::verify(&token, &published).is_ok(), "{algorithm}");
        assert_eq!(json!(public)["use"], "sig");
        assert_eq!(json!(public)["alg"], algorithm.name());
        assert_eq!(json!(public)["kid"], "k-1");
        let issuers = Key::from_published(public.clone()).unwrap();
        assert!(jws::verify(&token, &issuers).is_ok(), "{algorithm}");
    }
}

/// A public key is not a secret and signs nothing.
#[test]
fn a_public_key_is_never_used_as_an_hmac_secret() {
    for (algorithm, file) in &*FILES {
        let key = read(file);
        let Some(public) = key.public() else {
            continue;
        };
        let public = json!(public);
        for confused in [
            public.to_string().into_bytes(),
            BASE64_URL_SAFE_NO_PAD
                .decode(public["n"].as_str().or(public["x"].as_str()).unwrap())
                .unwrap(),
        ] {
            let header = format!(
                r#"{{"alg":"HS256","typ":"JWT","kid":"{}"}}"#,
                key.id().as_str()
            );
            let signed = format!("{}.e30", BASE64_URL_SAFE_NO_PAD.encode(header));
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &confused);
            let tag = hmac::sign(&secret, signed.as_bytes());
            let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()));
            assert!(jws::verify(&token, &key).is_err(), "{algorithm}");
        }
    }
}

#[test]
fn weak_and_malformed_keys_are_refused_with_their_fault() {
    let short = BASE64_URL_SAFE_NO_PAD.encode([0xc5; 128]);
    for (jwk, fault) in [
        ("{".to_owned(), KeyFault::Syntax),
        ("x".to_owned(), KeyFault::Syntax),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n".to_owned(),
            KeyFault::Syntax,
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(),
            KeyFault::Parts,
        ),
        (
            r#"{"kty":"oct","alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Secret(SecretFault::Short(5)),
        ),
        (
            format!(
                r#"{{"kty":"oct","alg":"HS256","k":"{}"}}"#,
                BASE64_URL_SAFE_NO_PAD.encode([b'a'; 64])
            ),
            KeyFault::Secret(SecretFault::Guessable),
        ),
        (
            r#"{"kty":"oct","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Algorithm,
        ),
        (
            r#"{"kty":"oct","alg":"none","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Algorithm,
        ),
        (
            r#"{"kty":"oct","alg":"RS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Kind(Algorithm::Rs256),
        ),
        (
            format!(r#"{{"kty":"RSA","alg":"RS256","n":"{short}","e":"AQAB"}}"#),
            KeyFault::ShortRsa(1024),
        ),
        (
            r#"{"kty":"RSA","alg":"HS256","n":"AQAB","e":"AQAB"}"#.to_owned(),
            KeyFault::Kind(Algorithm::Hs256),
        ),
        (
            r#"{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"}"#.to_owned(),
            KeyFault::Parts,
        ),
        (
            r#"{"kty":"EC","crv":"P-384","alg":"ES256","x":"AQAB","y":"AQAB"}"#.to_owned(),
            KeyFault::Kind(Algorithm::Es256),
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519"}"#.to_owned(),
            KeyFault::Parts,
        ),
        // A `SubjectPublicKeyInfo` instead of the key.
        (
            format!(
                r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#,
                BASE64_URL_SAFE_NO_PAD.encode(der_of_ed25519())
            ),
            KeyFault::Parts,
        ),
        (
            r#"{"kty":"oct","kid":"../x","alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Id,
        ),
        (
            r#"{"kty":"oct","kty":"oct","alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Syntax,
        ),
        (
            r#"{"kty":"oct","use":"enc","alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Kind(Algorithm::Hs256),
        ),
        (
            r#"{"kty":"oct","key_ops":["encrypt"],"alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Kind(Algorithm::Hs256),
        ),
        (
            r#"{"kty":"oct","key_ops":[],"alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Kind(Algorithm::Hs256),
        ),
        (
            r#"{"kty":"oct","key_ops":["verify"],"alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            KeyFault::Secret(SecretFault::Short(5)),
        ),
    ] {
        assert_eq!(
            Key::read("k.jwk", jwk.as_bytes()).err(),
            Some(fault),
            "{jwk}"
        );
    }
    for (_, file) in &*FILES {
        let broken = file
            .replace("alg: ", "alg: X")
            .replace("\"alg\": \"", "\"alg\": \"X");
        assert_eq!(
            Key::read("k", broken.as_bytes()).err(),
            Some(KeyFault::Algorithm)
        );
    }
}

proptest! {
    #[test]
    fn reading_a_key_never_panics(bytes: Vec<u8>, file in 0..8_usize, cut in 0..2000_usize, put: u8) {
        let _ = Key::read("k.pem", &bytes);
        let whole = &FILES[file].1;
        let mut broken = whole.clone().into_bytes();
        let _ = Key::read("k", &broken[..cut.min(broken.len())]);
        let at = cut % broken.len();
        broken[at] = put;
        let _ = Key::read("k", &broken);
    }
}
