//! One test for each rule. Each test's tokens break only that rule, and are signed with a key of the ring.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    credential::Compact,
    revocation::Revocations,
    token::{TokenTerms, Verifier},
};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// A key file of each algorithm, named by it, and of a second key that is in no ring.
static FILES: LazyLock<HashMap<(Algorithm, bool), String>> = LazyLock::new(|| {
    let mut files = HashMap::new();
    for (n, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        for known in [true, false] {
            let id = KeyId::parse(algorithm.name()).unwrap();
            let since = UnixTime(NOW.0 - 20 + n as u64);
            let file = Key::generate(&id, algorithm, since).unwrap();
            files.insert((algorithm, known), file.to_string());
        }
    }
    files
});

/// All of these keys, and the RSA key of RS256 a second time for PS256.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let terms = TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    };
    let mut keys: Vec<_> = Algorithm::ALL.into_iter().map(own).collect();
    keys.push(same_rsa_for_pss());
    let keys = Keyring::new(keys, terms.lasts()).unwrap();
    Verifier::of(&keys, terms)
});

const CURVES: [Algorithm; 2] = [Algorithm::Es256, Algorithm::Es384];

fn own(algorithm: Algorithm) -> Key {
    Key::read("k", FILES[&(algorithm, true)].as_bytes()).unwrap()
}

fn strangers(algorithm: Algorithm) -> Key {
    Key::read("k", FILES[&(algorithm, false)].as_bytes()).unwrap()
}

fn same_rsa_for_pss() -> Key {
    let file = FILES[&(Algorithm::Rs256, true)]
        .replace("alg: RS256", "alg: PS256")
        .replace("kid: RS256", "kid: same-rsa")
        .replace("not-before:", "since:");
    Key::read("k", file.as_bytes()).unwrap()
}

fn header(algorithm: &str, kid: &str) -> String {
    json!({"alg": algorithm, "typ": "JWT", "kid": kid}).to_string()
}

fn claims() -> Value {
    json!({
        "sub": "42", "username": "ada", "admin": false, "roles": [], "iss": "doorward",
        "aud": "doorward", "iat": NOW.0, "exp": NOW.0 + 60, "jti": "x",
    })
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with these two parts unchanged, and a signature over them.
fn over(header: &str, payload: &str, key: &Key) -> String {
    let signed = format!("{header}.{payload}");
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature))
}

fn token(header: &str, key: &Key) -> String {
    over(&encode(header), &encode(claims().to_string()), key)
}

fn good(algorithm: Algorithm) -> String {
    token(&header(algorithm.name(), algorithm.name()), &own(algorithm))
}

/// Why the token is refused; the credential parser refuses some tokens before.
fn refusal(token: &str) -> Option<TokenFault> {
    let Some(compact) = Compact::parse(token) else {
        return Some(TokenFault::Parts);
    };
    VERIFIER.verify(compact, NOW, &Revocations::new(None)).err()
}

fn with_signature(token: &str, signature: &[u8]) -> String {
    let (signed, _) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", encode(signature))
}

fn signature_of(token: &str) -> Vec<u8> {
    let (_, signature) = token.rsplit_once('.').unwrap();
    BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()
}

#[test]
fn a_valid_token_of_every_algorithm_is_accepted() {
    for algorithm in Algorithm::ALL {
        assert_eq!(refusal(&good(algorithm)), None, "{algorithm}");
        assert_eq!(verify(&good(algorithm), &own(algorithm)).err(), None);
    }
}

#[test]
fn the_algorithm_none_is_refused() {
    let payload = encode(claims().to_string());
    for none in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        " none",
        "none\\u0000",
        "null",
    ] {
        for kid in [
            "",
            r#","kid":"HS256""#,
            r#","kid":"RS256""#,
            r#","kid":"none""#,
        ] {
            let header = encode(format!(r#"{{"alg":"{none}","typ":"JWT"{kid}}}"#));
            let bare = format!("{header}.{payload}");
            for (token, fault) in [
                (bare.clone(), TokenFault::Parts),
                (format!("{bare}."), TokenFault::Parts),
                (format!("{bare}.{}", encode("x")), TokenFault::Algorithm),
                (
                    over(&header, &payload, &own(Algorithm::Hs256)),
                    TokenFault::Algorithm,
                ),
            ] {
                assert_eq!(refusal(&token), Some(fault), "{none:?} {kid}");
            }
        }
    }
    for header in [r#"{"typ":"JWT"}"#, r#"{"alg":null,"typ":"JWT"}"#] {
        let token = token(header, &own(Algorithm::Hs256));
        assert_eq!(refusal(&token), Some(TokenFault::Header), "{header}");
    }
}

/// Every key has one algorithm, whatever a header says.
#[test]
fn a_key_is_used_only_for_its_own_algorithm() {
    for key in Algorithm::ALL {
        for claimed in Algorithm::ALL.into_iter().filter(|other| *other != key) {
            let header = header(claimed.name(), key.name());
            for signer in [key, claimed] {
                let token = token(&header, &own(signer));
                let fault = refusal(&token);
                assert_eq!(fault, Some(TokenFault::Algorithm), "{key} as {claimed}");
                assert_eq!(verify(&token, &own(key)), Err(TokenFault::Algorithm));
            }
        }
    }
    for unknown in [
        "HS384", "HS512", "PS384", "ES512", "ES256K", "Ed25519", "eddsa",
    ] {
        let token = token(&header(unknown, "HS256"), &own(Algorithm::Hs256));
        assert_eq!(refusal(&token), Some(TokenFault::Algorithm), "{unknown}");
    }
}

#[test]
fn rsa_pss_and_pkcs1_padding_are_not_interchangeable() {
    use Algorithm::{Ps256, Rs256, Rs384};
    let pss = same_rsa_for_pss();
    assert_eq!(refusal(&token(&header("PS256", "same-rsa"), &pss)), None);
    for (header, signer) in [
        (header("PS256", "same-rsa"), own(Rs256)),
        (header("RS256", "RS256"), pss),
        (header("PS256", "PS256"), own(Rs256)),
        (header("RS256", "RS256"), own(Rs384)),
    ] {
        let refused = refusal(&token(&header, &signer));
        assert_eq!(refused, Some(TokenFault::Signature), "{header}");
    }
    let crossed = token(&header("PS256", "RS256"), &own(Ps256));
    assert_eq!(refusal(&crossed), Some(TokenFault::Algorithm));
}

#[test]
fn a_kid_selects_exactly_one_key() {
    use TokenFault::{Algorithm as NotThat, Header, KeyId, Signature, UnknownKey};
    for algorithm in Algorithm::ALL {
        let stranger = strangers(algorithm);
        let name = algorithm.name();
        let refused = |token: &str| refusal(token).unwrap();
        assert_eq!(refused(&token(&header(name, name), &stranger)), Signature);
        assert_eq!(refused(&token(&header(name, "k-1"), &stranger)), UnknownKey);
        let nameless = json!({"alg": name, "typ": "JWT"}).to_string();
        if algorithm == Algorithm::Hs256 {
            assert_eq!(refusal(&token(&nameless, &own(algorithm))), None);
            assert_eq!(refused(&token(&nameless, &stranger)), Signature);
        } else {
            assert_eq!(refused(&token(&nameless, &own(algorithm))), NotThat);
        }
    }
    let key = own(Algorithm::Es256);
    for (kid, fault) in [
        (json!("es256"), UnknownKey),
        (json!("ES256.pem"), UnknownKey),
        (json!(".."), UnknownKey),
        (json!("../keys/ES256"), KeyId),
        (json!("/dev/null"), KeyId),
        (json!("ES256\u{0}"), KeyId),
        (json!("ES256\n"), KeyId),
        (json!(" ES256"), KeyId),
        (json!("ES256' OR '1'='1"), KeyId),
        (json!("\"ES256\""), KeyId),
        (json!("ES256;id"), KeyId),
        (json!("$(id)"), KeyId),
        (json!("%45S256"), KeyId),
        (json!("ЕS256"), KeyId),
        (json!(""), KeyId),
        (json!("x".repeat(64)), UnknownKey),
        (json!("x".repeat(65)), KeyId),
        (json!(256), Header),
        (json!(null), Header),
        (json!(["ES256"]), Header),
        (json!({"ES256": 1}), Header),
    ] {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid}).to_string();
        assert_eq!(refusal(&token(&header, &key)), Some(fault), "{kid}");
    }
}

/// Keys come only from the ring, and a header that asks for special processing is refused.
#[test]
fn other_header_members_are_refused() {
    let stranger = strangers(Algorithm::Es256);
    let mut jwk = json!(stranger.public());
    for signer in [&stranger, &own(Algorithm::Es256)] {
        for kid in ["", r#","kid":"ES256""#] {
            for member in [
                format!(r#""jwk":{jwk}"#),
                r#""jku":"https://example.com/jwks.json""#.into(),
                r#""x5u":"https://example.com/key.pem""#.into(),
                r#""x5c":["MIIB"]"#.into(),
                r#""x5t":"x""#.into(),
                r#""x5t#S256":"x""#.into(),
                r#""crit":["exp"]"#.into(),
                r#""crit":[]"#.into(),
                r#""b64":false"#.into(),
                r#""b64":true"#.into(),
                r#""crit":["b64"],"b64":false"#.into(),
                r#""zip":"DEF""#.into(),
                r#""cty":"JWT""#.into(),
                r#""enc":"A256GCM""#.into(),
                r#""epk":{}"#.into(),
                r#""p2c":2147483647"#.into(),
                r#""ALG":"none""#.into(),
                r#""nonce":1"#.into(),
            ] {
                let header = format!(r#"{{"alg":"ES256","typ":"JWT"{kid},{member}}}"#);
                let token = token(&header, signer);
                assert_eq!(refusal(&token), Some(TokenFault::Header), "{header}");
                assert_eq!(verify(&token, signer), Err(TokenFault::Header));
            }
        }
    }
    // A key with the id of one in the ring is not used either.
    jwk["kid"] = json!("ES256");
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": "ES256", "jwk": jwk}).to_string();
    assert_eq!(
        refusal(&token(&header, &stranger)),
        Some(TokenFault::Header)
    );
}

#[test]
fn a_header_is_one_object_of_strings() {
    let key = own(Algorithm::Es256);
    for header in [
        r#"{"alg":"ES256","alg":"ES256","typ":"JWT","kid":"ES256"}"#,
        r#"{"alg":"none","alg":"ES256","typ":"JWT","kid":"ES256"}"#,
        r#"{"alg":"ES256","\u0061lg":"none","typ":"JWT","kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":"JWT","typ":"JWT","kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":"JWT","kid":"ES256","kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":"JWT","kid":"RS256","kid":"ES256"}"#,
        r#"{"alg":{"name":"ES256"},"typ":"JWT","kid":"ES256"}"#,
        r#"{"alg":["ES256"],"typ":"JWT","kid":"ES256"}"#,
        r#"{"alg":1,"typ":"JWT","kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":1,"kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":null,"kid":"ES256"}"#,
        r#"{"alg":"ES256","typ":"JWT","kid":"ES256"} "x""#,
        r#"{"alg":"ES256","typ":"JWT","kid":"ES256"}{}"#,
        r#"{"alg":"ES256","typ":"JWT","kid":"ES256",}"#,
        r#"[{"alg":"ES256","typ":"JWT","kid":"ES256"}]"#,
        r#"["ES256","JWT","ES256"]"#,
        r#""ES256""#,
        "{'alg':'ES256','typ':'JWT','kid':'ES256'}",
        "\u{feff}{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"ES256\"}",
        "null",
        " ",
    ] {
        let refused = refusal(&token(header, &key));
        assert_eq!(refused, Some(TokenFault::Header), "{header}");
    }
    let wide: Vec<u8> = (header("ES256", "ES256").encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let wide = over(&encode(wide), &encode(claims().to_string()), &key);
    assert_eq!(refusal(&wide), Some(TokenFault::Header));
    let broken = over(&encode(b"{\"alg\":\"\xff\"}"), "e30", &key);
    assert_eq!(refusal(&broken), Some(TokenFault::Header));
}

#[test]
fn claims_are_unique_and_typed() {
    let key = own(Algorithm::EdDsa);
    let header = encode(header("EdDSA", "EdDSA"));
    let judged = |payload: &str| refusal(&over(&header, &encode(payload), &key));
    let text = claims().to_string();
    for doubled in [
        r#""sub":"1""#,
        r#""username":"root""#,
        r#""admin":true"#,
        r#""roles":["admin"]"#,
        r#""iss":"doorward""#,
        r#""aud":"doorward""#,
        r#""iat":1"#,
        r#""exp":9000000000"#,
        r#""\u0065xp":9000000000"#,
        r#""jti":"y""#,
        r#""nbf":1,"nbf":1"#,
        r#""gen":1,"gen":2"#,
        r#""sid":"a","sid":"b""#,
    ] {
        let payload = text.replacen('{', &format!("{{{doubled},"), 1);
        assert_eq!(judged(&payload), Some(TokenFault::Claims), "{payload}");
    }
    for (member, values) in [
        (
            "exp",
            vec![
                json!("1"),
                json!(1.5),
                json!(-1),
                json!(null),
                json!([1]),
                json!(true),
            ],
        ),
        (
            "nbf",
            vec![
                json!("1"),
                json!(1.5),
                json!(-1),
                json!(null),
                json!([1]),
                json!(false),
            ],
        ),
        (
            "iat",
            vec![
                json!("1"),
                json!(1.5),
                json!(-1),
                json!(null),
                json!({}),
                json!(true),
            ],
        ),
        (
            "aud",
            vec![
                json!(1),
                json!(null),
                json!({"doorward": 1}),
                json!([null]),
                json!([["doorward"]]),
            ],
        ),
        (
            "iss",
            vec![json!(1), json!(null), json!(["doorward"]), json!({})],
        ),
        (
            "sub",
            vec![json!(42), json!(null), json!(["42"]), json!(true)],
        ),
        ("jti", vec![json!(1), json!(null), json!(["x"]), json!({})]),
        (
            "gen",
            vec![json!("1"), json!(1.0), json!(-1), json!(null), json!([1])],
        ),
        ("sid", vec![json!(1), json!(null), json!(["s"]), json!({})]),
        ("admin", vec![json!("false"), json!(0), json!(null)]),
        (
            "roles",
            vec![
                json!("admin"),
                json!(null),
                json!([1]),
                json!({"admin": true}),
            ],
        ),
        ("username", vec![json!(1), json!(null), json!(["ada"])]),
    ] {
        for value in values {
            let mut claims = claims();
            claims[member] = value.clone();
            let refused = judged(&claims.to_string());
            assert_eq!(refused, Some(TokenFault::Claims), "{member}: {value}");
        }
    }
    for number in [
        "1e400",
        "1800000060.0",
        "18446744073709551616",
        "0x6b49d23c",
        "+1800000060",
        "01800000060",
        "NaN",
    ] {
        let payload = text.replace(
            &format!("\"exp\":{}", NOW.0 + 60),
            &format!("\"exp\":{number}"),
        );
        assert_ne!(payload, text);
        assert_eq!(judged(&payload), Some(TokenFault::Claims), "{number}");
    }
    let (from, to) = (NOW.0, NOW.0 + 60);
    let name = "doorward";
    let values = json!([
        "42",
        "ada",
        false,
        [],
        name,
        name,
        from,
        from,
        to,
        "x",
        0,
        "s"
    ]);
    for payload in [
        "",
        "null",
        "[]",
        "\"\"",
        "1",
        "{}",
        &values.to_string(),
        &format!("[{text}]"),
        &format!("{text}{text}"),
    ] {
        let fault = if payload.is_empty() {
            TokenFault::Parts
        } else {
            TokenFault::Claims
        };
        assert_eq!(judged(payload), Some(fault), "{payload}");
    }
}

/// Each part has one spelling, so the bytes that are read are the bytes that were signed.
#[test]
fn base64url_has_one_spelling() {
    for algorithm in Algorithm::ALL {
        let key = own(algorithm);
        // Lengths that leave unused bits at the end.
        let loose = |text: &str| {
            let spellings = ["", " "].map(|blank| encode(format!("{text}{blank}")));
            spellings
                .into_iter()
                .find(|part| part.len() % 4 != 0)
                .unwrap()
        };
        let name = algorithm.name();
        let header = loose(&header(name, name));
        let payload = loose(&claims().to_string());
        let good = over(&header, &payload, &key);
        assert_eq!(refusal(&good), None, "{algorithm}");
        let (_, signature) = good.rsplit_once('.').unwrap();
        let signature = signature.to_owned();
        for broken in misspelt(&header) {
            let token = over(&broken, &payload, &key);
            assert!(refusal(&token).is_some(), "{algorithm} header {broken:?}");
            assert!(
                verify(&token, &key).is_err(),
                "{algorithm} header {broken:?}"
            );
        }
        for broken in misspelt(&payload) {
            let token = over(&header, &broken, &key);
            assert!(refusal(&token).is_some(), "{algorithm} payload {broken:?}");
            assert!(
                verify(&token, &key).is_err(),
                "{algorithm} payload {broken:?}"
            );
        }
        for broken in misspelt(&signature) {
            let token = format!("{header}.{payload}.{broken}");
            assert!(
                refusal(&token).is_some(),
                "{algorithm} signature {broken:?}"
            );
            assert!(verify(&token, &key).is_err(), "{algorithm} {broken:?}");
        }
    }
}

/// Spellings of a part that lenient decoders accept.
fn misspelt(part: &str) -> Vec<String> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = part.split_at(part.len() - 1);
    let value = ALPHABET.find(last).unwrap();
    // With two extra characters, four bits are unused; with three, two.
    let unused = match part.len() % 4 {
        0 => 1,
        2 => 16,
        _ => 4,
    };
    assert_eq!(value % unused, 0);
    let mut spellings: Vec<_> = (1..unused)
        .map(|bits| format!("{rest}{}", &ALPHABET[value + bits..=value + bits]))
        .collect();
    let (left, right) = part.split_at(8);
    for foreign in [
        "=", "\n", "\r\n", " ", "\t", "+", "/", "!", "%3D", "\u{0}", "é",
    ] {
        spellings.push(format!("{left}{foreign}{right}"));
        spellings.push(format!("{part}{foreign}"));
        spellings.push(format!("{foreign}{part}"));
    }
    spellings.push(format!("{part}=="));
    spellings
}

#[test]
fn a_token_has_three_parts() {
    for algorithm in Algorithm::ALL {
        let good = good(algorithm);
        let parts: Vec<_> = good.split('.').collect();
        let (h, p, s) = (parts[0], parts[1], parts[2]);
        for token in [
            String::new(),
            ".".into(),
            "..".into(),
            "...".into(),
            h.into(),
            format!("{h}.{p}"),
            format!("{h}.{p}."),
            format!("{h}..{s}"),
            format!(".{p}.{s}"),
            format!("..{s}"),
            format!("{h}.."),
            format!("{good}."),
            format!(".{good}"),
            format!("{good}.{s}"),
            format!("{h}.{good}"),
            format!("{h}.{p}.{p}.{s}"),
            format!("{h}.{p}.{s}.{s}.{s}"),
            format!("{h}.{p}..{p}.{s}"),
            "....".into(),
        ] {
            assert_eq!(refusal(&token), Some(TokenFault::Parts), "{token}");
            assert_eq!(verify(&token, &own(algorithm)), Err(TokenFault::Parts));
        }
    }
}

#[test]
fn oversize_and_deeply_nested_tokens_are_refused() {
    let key = own(Algorithm::Hs256);
    let mut claims = claims();
    claims["x"] = json!("x".repeat(8 * 1024));
    let own_header = encode(header("HS256", "HS256"));
    let huge = over(&own_header, &encode(claims.to_string()), &key);
    assert!(Compact::parse(&huge).is_none());
    let (open, close) = ("[".repeat(1500), "]".repeat(1500));
    for header in [
        format!(r#"{{"alg":{open}{close},"typ":"JWT"}}"#),
        format!(r#"{{"alg":"HS256","typ":"JWT","x":{open}{close}}}"#),
        format!("{open}{close}"),
        open.clone(),
        r#"{"alg":"#.repeat(700),
    ] {
        assert_eq!(refusal(&token(&header, &key)), Some(TokenFault::Header));
    }
    for payload in [
        format!(r#"{{"sub":{open}{close}}}"#),
        format!(r#"{{"aud":{open}{close}}}"#),
        format!("{open}{close}"),
        open.clone(),
        r#"{"sub":"#.repeat(700),
    ] {
        let token = over(&own_header, &encode(payload), &key);
        assert_eq!(refusal(&token), Some(TokenFault::Claims));
    }
    // Longer than any signature.
    for length in [1025, 4000] {
        let long = with_signature(&good(Algorithm::Hs256), &vec![7; length]);
        assert_eq!(refusal(&long), Some(TokenFault::Signature));
    }
}

#[test]
fn ecdsa_signatures_are_two_numbers_of_full_length() {
    // The group order (SEC 2); both numbers of a signature must be less.
    let orders = [
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    ];
    for (algorithm, order) in CURVES.into_iter().zip(orders) {
        let good = good(algorithm);
        let signature = signature_of(&good);
        let half = signature.len() / 2;
        assert_eq!(
            half,
            if algorithm == Algorithm::Es256 {
                32
            } else {
                48
            }
        );
        let (r, s) = signature.split_at(half);
        let order: Vec<u8> = (0..half)
            .map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let zero = vec![0; half];
        let mut one = zero.clone();
        one[half - 1] = 1;
        for broken in [
            der(r, s),
            [&zero, s].concat(),
            [r, &zero].concat(),
            [&*zero, &zero].concat(),
            [&*one, &one].concat(),
            [&order, s].concat(),
            [r, &order].concat(),
            [&*order, &order].concat(),
            [&*vec![0xff; half], &vec![0xff; half]].concat(),
            [s, r].concat(),
            signature[1..].to_vec(),
            signature[..signature.len() - 1].to_vec(),
            [&[0], &*signature].concat(),
            [&*signature, &[0]].concat(),
            [&[0], r, &[0], s].concat(),
            [&*signature, &signature].concat(),
            r.to_vec(),
            vec![0],
        ] {
            let token = with_signature(&good, &broken);
            let refused = refusal(&token);
            assert_eq!(
                refused,
                Some(TokenFault::Signature),
                "{algorithm} {broken:x?}"
            );
            assert_eq!(verify(&token, &own(algorithm)), Err(TokenFault::Signature));
        }
    }
}

/// An ECDSA signature in the DER format (RFC 3279, 2.2.3).
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let start = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[start..];
        let sign: &[u8] = if number[0] < 0x80 { &[] } else { &[0] };
        let length = u8::try_from(sign.len() + number.len()).unwrap();
        [&[2, length], sign, number].concat()
    };
    let both = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()][..], &both].concat()
}

#[test]
fn signatures_of_every_algorithm_have_one_encoding() {
    // Ed25519: S must be less than the order (RFC 8032, 5.1.7); otherwise every signature would have a second form.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let ed = good(Algorithm::EdDsa);
    let mut second = signature_of(&ed);
    let mut carry = 0;
    for (byte, more) in second[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(
        refusal(&with_signature(&ed, &second)),
        Some(TokenFault::Signature)
    );
    for algorithm in Algorithm::ALL {
        let good = good(algorithm);
        let signature = signature_of(&good);
        let length = signature.len();
        for broken in [
            signature[..length - 1].to_vec(),
            signature[1..].to_vec(),
            signature[..length / 2].to_vec(),
            [&[0], &*signature].concat(),
            [&*signature, &[0]].concat(),
            vec![0; length],
            vec![0xff; length],
            vec![0],
        ] {
            let refused = refusal(&with_signature(&good, &broken));
            assert_eq!(refused, Some(TokenFault::Signature), "{algorithm}");
        }
    }
}
