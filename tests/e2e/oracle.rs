//! Tokens and keys, checked in both directions against another implementation: PyJWT with OpenSSL. Doorward signs with
//! jsonwebtoken and verifies with aws-lc.

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use doorward::domain::{
    account::{Identity, Roles, Username},
    credential::Compact,
    issuer::{Issuer, IssuerTerms},
    jws,
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    revocation::{Generation, Revocations},
    secret::Secret,
    time::UnixTime,
    token::{Signer, Token, TokenTerms, Verifier},
};
use serde_json::{Map, Value, json};

use crate::harness::{fed, repository, tool};

fn asked(question: &Value) -> Value {
    let mut oracle = Command::new("python3");
    oracle
        .arg(repository().join("tests/tools/jwt-oracle"))
        .env("PYTHONPATH", tool("pyjwt"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let ran = fed(&mut oracle, question.to_string().as_bytes());
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime(since.as_secs())
}

fn terms() -> TokenTerms {
    TokenTerms {
        issuer: "doorward".into(),
        audience: "my-api".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    }
}

fn ring(key: Key) -> Arc<Keyring> {
    Arc::new(Keyring::new(vec![key], terms().lasts()).unwrap())
}

fn issued(key: Key) -> Token {
    let ada = Identity {
        subject: "42".into(),
        username: Username::parse("ada").unwrap(),
        roles: Roles::parse_list("admin,editor").unwrap(),
    };
    let signer = Signer::new(ring(key), terms());
    signer.issue(&ada, Generation(0), None, now()).unwrap()
}

fn claims() -> Value {
    let now = now().0;
    json!({
        "sub": "42", "username": "ada", "admin": false, "roles": ["editor"], "iss": "doorward",
        "aud": "my-api", "iat": now, "exp": now + 600, "jti": "x",
    })
}

/// The user that the token identifies, if this key verifies it.
fn speaks_for(token: &str, key: Key) -> Option<String> {
    let compact = Compact::parse(token).unwrap();
    let verifier = Verifier::of(&ring(key), terms());
    let identity = verifier.verify(compact, now(), &Revocations::new(None));
    identity
        .ok()
        .map(|identity| identity.identity().username.as_str().to_owned())
}

/// The token with one changed bit in its signature.
fn tampered(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{other}{}", &signature[1..])
}

/// Files with a new key of each algorithm, named by it. In one keyring, each key starts to sign at its own time.
fn generated() -> Vec<(Algorithm, String)> {
    let file = |(at, algorithm): (u64, Algorithm)| {
        let id = KeyId::parse(algorithm.name()).unwrap();
        let file = Key::generate(&id, algorithm, UnixTime(at)).unwrap();
        (algorithm, file.to_string())
    };
    (0..).zip(Algorithm::ALL).map(file).collect()
}

fn read(file: &str) -> Key {
    Key::read("k", file.as_bytes()).unwrap()
}

#[test]
fn others_verify_doorwards_tokens() {
    let files = generated();
    let mut shown = Map::new();
    let mut secrets = Map::new();
    for (algorithm, file) in &files {
        let token = issued(read(file));
        shown.insert(algorithm.name().into(), token.expose().into());
        if *algorithm == Algorithm::Hs256 {
            secrets.insert(algorithm.name().into(), json!(file));
        }
    }
    let keys = files.iter().map(|(_, file)| read(file)).collect();
    let ring = Keyring::new(keys, terms().lasts()).unwrap();
    let jwks: Value = serde_json::from_str(&ring.jwks(now())).unwrap();
    // All keys with a public half. Keys that no longer sign would have expired by now.
    let all: Vec<_> = (files.iter())
        .filter_map(|(_, file)| read(file).public().cloned())
        .collect();
    assert_eq!(all.len(), Algorithm::ALL.len() - 1);
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    assert!(json!(all).as_array().unwrap().contains(&jwks["keys"][0]));
    let shown = asked(&json!({
        "do": "verify", "jwks": {"keys": all}, "tokens": shown, "secrets": secrets,
        "audience": "my-api", "issuer": "doorward",
    }));
    for algorithm in Algorithm::ALL {
        let claims = &shown[algorithm.name()];
        assert_eq!(claims["username"], "ada", "{algorithm}");
        assert_eq!(claims["roles"], json!(["admin", "editor"]), "{algorithm}");
    }
}

#[test]
fn doorward_verifies_tokens_that_others_sign_with_its_keys() {
    let files = generated();
    let keys: Map<_, _> = (files.iter())
        .map(|(algorithm, file)| (algorithm.name().into(), json!(file)))
        .collect();
    let algorithms: Map<_, _> = (Algorithm::ALL.iter())
        .map(|algorithm| (algorithm.name().into(), algorithm.name().into()))
        .collect();
    let signed =
        asked(&json!({"do": "sign", "keys": keys, "algorithms": algorithms, "claims": claims()}));
    for (algorithm, file) in &files {
        let token = signed[algorithm.name()].as_str().unwrap();
        assert_eq!(speaks_for(token, read(file)).unwrap(), "ada", "{algorithm}");
        assert_eq!(
            speaks_for(&tampered(token), read(file)),
            None,
            "{algorithm}"
        );
    }
}

#[test]
fn keys_of_others_are_read_in_every_form() {
    let secret = Secret::generate();
    let names = Algorithm::ALL.map(Algorithm::name);
    let made = asked(&json!({
        "do": "issue", "algorithms": names, "secret": &*secret, "claims": claims(),
    }));
    for algorithm in Algorithm::ALL {
        let made = &made[algorithm.name()];
        let token = made["token"].as_str().unwrap();
        // PEM states neither the key id nor, for RSA, the algorithm; other programs skip the lines before it.
        let read = |text: &Value| {
            let text = text.as_str().unwrap();
            match text.starts_with('{') {
                true => read(text),
                false => read(&format!("kid: {algorithm}\nalg: {algorithm}\n{text}")),
            }
        };
        let private = made["private"].as_object().unwrap();
        let public = made["public"].as_object().unwrap();
        let forms = match algorithm {
            Algorithm::Hs256 => (1, 0),
            Algorithm::EdDsa => (2, 2),
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Es256
            | Algorithm::Es384 => (3, 2),
        };
        assert_eq!((private.len(), public.len()), forms, "{algorithm}");
        for (form, text) in private {
            assert!(read(text).can_sign());
            let found = speaks_for(token, read(text));
            assert_eq!(found.unwrap(), "ada", "{algorithm} {form}");
            assert_eq!(speaks_for(&tampered(token), read(text)), None);
            // A token signed here is verified with each public form of the key.
            let own = issued(read(text));
            for (half, text) in public {
                let half = format!("{algorithm} {form} {half}");
                assert!(!read(text).can_sign(), "{half}");
                assert!(jws::verify(own.expose(), &read(text)).is_ok(), "{half}");
                assert!(jws::verify(token, &read(text)).is_ok(), "{half}");
                let token = tampered(token);
                assert!(jws::verify(&token, &read(text)).is_err(), "{half}");
            }
        }
    }
}

/// The JWK Set and the tokens of another issuer.
#[test]
fn issuers_are_trusted_by_their_published_keys() {
    let mut claims = claims();
    claims["iss"] = json!("https://id.example.com/");
    let names = IssuerTerms::ALGORITHMS.map(Algorithm::name);
    let made = asked(&json!({"do": "issue", "algorithms": names, "claims": claims}));
    let keys = names.map(|name| {
        let jwk = made[name]["public"]["jwk"].as_str().unwrap();
        serde_json::from_str::<Value>(jwk).unwrap()
    });
    let issuer = Issuer::new(IssuerTerms {
        issuer: "https://id.example.com/".into(),
        audience: "my-api".into(),
        prefix: "corp/".into(),
        username: "username".into(),
        roles: None,
        accept_roles: Roles::default(),
        grant: Roles::default(),
        algorithms: IssuerTerms::ALGORITHMS.into(),
    });
    let document = json!({"keys": keys}).to_string();
    assert_eq!(issuer.take(document.as_bytes()), Ok(true));
    assert_eq!(issuer.key_names(), names);
    let own = Key::from_secret(
        &Secret::parse(Secret::generate().as_bytes()).unwrap(),
        UnixTime(0),
    );
    let verifier = Verifier::of(&ring(own), terms()).believing(Arc::new([issuer]));
    for name in names {
        let token = made[name]["token"].as_str().unwrap();
        let verify = |token: &str| {
            let compact = Compact::parse(token).unwrap();
            verifier.verify(compact, now(), &Revocations::new(None))
        };
        assert_eq!(
            verify(token).unwrap().identity().username.as_str(),
            "corp/ada"
        );
        assert!(verify(&tampered(token)).is_err(), "{name}");
    }
}
