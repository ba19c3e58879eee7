//! Arbitrary tokens, valid tokens with changed bytes, and arbitrary claims with a valid signature.

#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use doorward::domain::{
    account::Identity,
    credential::Compact,
    revocation::Revocations,
    token::{Statement, TokenFault, Verifier},
};
use doorward_fuzz::{ADMIN, NOW, PLAIN, SECRET, tokens};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

static TOKENS: LazyLock<Verifier> = LazyLock::new(tokens);
static ENDED: LazyLock<Revocations> = LazyLock::new(Revocations::default);
static KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, SECRET));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = std::str::from_utf8(bytes) {
        unsigned(token);
    }
    for token in [PLAIN, ADMIN] {
        unsigned(&changed(token, bytes));
    }
    signed(bytes);
});

/// Asserts that only tokens that the key has signed are accepted, byte for byte.
fn unsigned(token: &str) {
    let good = [PLAIN, ADMIN].contains(&token);
    match Compact::parse(token) {
        Some(compact) => {
            assert_eq!(TOKENS.verify(compact, NOW, &ENDED).is_ok(), good, "{token}");
            let _ = Statement::read(compact);
        }
        None => assert!(!good),
    }
}

/// The token with changes; each change has a position and a byte.
fn changed(token: &str, changes: &[u8]) -> String {
    let mut token = token.to_owned();
    for change in changes.chunks_exact(3) {
        let [high, low, put] = change else { continue };
        let place = usize::from(u16::from_be_bytes([*high, *low])) % (token.len() + 1);
        match put {
            // A control character removes the character at this position.
            0..b' ' if place < token.len() => {
                token.remove(place);
            }
            // A byte with its high bit set inserts, which also works at the end.
            0x80.. => token.insert(place, char::from(put & 0x7f)),
            _ if place < token.len() => {
                token.replace_range(place..=place, char::from(*put).encode_utf8(&mut [0; 4]));
            }
            _ => token.push(char::from(*put)),
        }
    }
    token
}

/// Signs a header and claims, given in two lines, with the key.
fn signed(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(header), Some(claims)) = (lines.next(), lines.next()) else {
        return;
    };
    let signed = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let signed = signed.join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&KEY, signed.as_bytes()));
    let token = format!("{signed}.{signature}");
    let Some(compact) = Compact::parse(&token) else {
        return;
    };
    match TOKENS.verify(compact, NOW, &ENDED) {
        Ok(principal) => stands_for(principal.identity(), header, claims),
        // A part is empty, or the header is refused before the signature is checked.
        Err(fault) => assert_ne!(fault, TokenFault::Signature),
    }
}

fn stands_for(identity: &Identity, header: &[u8], claims: &[u8]) {
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header["alg"], "HS256");
    assert!(header["typ"].as_str().unwrap().eq_ignore_ascii_case("JWT"));
    // A claim that Doorward ignores may contain a number out of range.
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else {
        return;
    };
    assert_eq!(claims["iss"], "doorward");
    let audience = &claims["aud"];
    let named = |one: &Value| *one == "doorward";
    assert!(named(audience) || audience.as_array().unwrap().iter().any(named));
    let seconds = |name: &str| claims[name].as_u64().unwrap();
    assert!(seconds("exp") > NOW.0 - 30 && seconds("iat") <= NOW.0 + 30);
    assert!(claims["nbf"].is_null() || seconds("nbf") <= NOW.0 + 30);
    assert_eq!(claims["sub"], *identity.subject);
    assert_eq!(claims["username"], identity.username.as_str());
    assert_eq!(claims["admin"], identity.roles.admin());
    let roles = claims["roles"].as_array().unwrap();
    assert!(
        roles
            .iter()
            .all(|role| identity.roles.iter().any(|known| *role == known.as_str()))
    );
}
