//! `Authorization` values, one per line, and login bodies.

#![no_main]

use base64::{Engine as _, prelude::BASE64_STANDARD};
use doorward::domain::body::{Body, MAX_BODY};
use doorward::domain::credential::{Credential, CredentialFault, Login, MAX_BASIC, MAX_CREDENTIAL};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let values: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    let read = Credential::parse(values.iter().copied());
    match &*values {
        [value] => one(value, read),
        _ => assert_eq!(read, Credential::Malformed(CredentialFault::Several)),
    }
    body(bytes);
});

fn one(value: &[u8], read: Credential<'_>) {
    let (scheme, rest) = match value.iter().position(|byte| *byte == b' ') {
        Some(at) => (&value[..at], value[at..].trim_ascii_start()),
        None => (value, &b""[..]),
    };
    match read {
        Credential::Absent => panic!("there is a value"),
        Credential::Bearer(compact) => {
            assert!(scheme.eq_ignore_ascii_case(b"bearer"));
            assert_eq!(compact.expose().as_bytes(), rest);
            assert!(!rest.is_empty() && value.len() <= MAX_CREDENTIAL);
            assert!(!rest.iter().any(|byte| b", \t\"".contains(byte)));
        }
        Credential::Basic(basic) => {
            assert!(scheme.eq_ignore_ascii_case(b"basic"));
            if let Ok(Login { username, password }) = Login::from_basic(basic) {
                let pair = format!("{}:{}", username.as_str(), password.expose());
                assert!(pair.len() <= MAX_BASIC);
                assert_eq!(
                    BASE64_STANDARD.encode(&pair).as_bytes(),
                    rest,
                    "two spellings"
                );
                possible(username.as_str(), password.expose());
                assert!(!username.as_str().contains(':'));
            }
        }
        // Only the judge reads cookies.
        Credential::Cookie(_) => panic!("a cookie in Authorization"),
        Credential::Foreign => {
            assert!(!scheme.eq_ignore_ascii_case(b"bearer"));
            assert!(!scheme.eq_ignore_ascii_case(b"basic"));
            assert!(!scheme.contains(&b','), "two values in one");
        }
        Credential::Key(_) => panic!("that is another header"),
        Credential::Malformed(_) => {}
    }
}

fn body(bytes: &[u8]) {
    let Ok(Login { username, password }) = Login::from_body(Body::Json(bytes)) else {
        return;
    };
    assert!(bytes.len() <= MAX_BODY);
    possible(username.as_str(), password.expose());
    // A member that a login ignores may contain a number out of range.
    if let Ok(body) = serde_json::from_slice::<Value>(bytes) {
        assert_eq!(body["username"], username.as_str());
        assert_eq!(body["password"], password.expose());
    }
}

fn possible(username: &str, password: &str) {
    for text in [username, password] {
        assert!(!text.is_empty() && !text.contains(char::is_control));
    }
}
