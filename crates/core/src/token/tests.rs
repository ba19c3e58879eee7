use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    key::{Algorithm, Key},
    keyring::KeyState,
};

const NOW: UnixTime = UnixTime(1_800_000_000);
const SECRET: &[u8] = b"f3b1c2d4e5a60718293a4b5c6d7e8f90";

fn tokens() -> Verifier {
    Verifier::new(
        &Secret::parse(SECRET).unwrap(),
        TokenTerms {
            issuer: "doorward".into(),
            audience: "doorward".into(),
            lifetime: Duration::from_secs(3600),
            leeway: Duration::from_secs(30),
        },
    )
}

fn signer_of(secret: &Secret) -> Signer {
    let terms = tokens().terms;
    Signer::new(Arc::new(Keyring::of_secret(secret, terms.lasts())), terms)
}

fn signer() -> Signer {
    signer_of(&Secret::parse(SECRET).unwrap())
}

fn ada() -> Identity {
    Identity {
        subject: "42".into(),
        username: Username::parse("ada").unwrap(),
        roles: Roles::parse_list("admin,editor").unwrap(),
    }
}

fn claims() -> Value {
    json!({
        "sub": "42", "username": "ada", "admin": false, "roles": [], "iss": "doorward",
        "aud": "doorward", "iat": NOW.0, "exp": NOW.0 + 60, "jti": "x",
    })
}

fn sign(header: &str, claims: &str) -> String {
    let signed = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header),
        BASE64_URL_SAFE_NO_PAD.encode(claims)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn verify(token: &str) -> Result<Identity, TokenFault> {
    let verified = tokens().verify(Compact::parse(token).unwrap(), NOW, &Revocations::new(None));
    verified.map(|principal| principal.identity().clone())
}

fn with(member: &str, value: Value) -> Result<Identity, TokenFault> {
    let mut claims = claims();
    claims[member] = value;
    verify(&sign(HEADER, &claims.to_string()))
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn an_issued_token_identifies_its_user() {
    let tokens = tokens();
    let token = signer().issue(&ada(), Generation(0), None, NOW).unwrap();
    let compact = Compact::parse(token.expose()).unwrap();
    assert_eq!(
        tokens.verify(compact, NOW, &Revocations::new(None)),
        Ok(Arc::new(Principal::new(ada())))
    );
    let key = tokens.keys().signer(NOW).unwrap();
    assert!(token.expose().starts_with(key.header()));
    let statement = Statement::read(compact);
    let claims = statement.claims.unwrap();
    assert_eq!(claims["username"], "ada");
    assert_eq!(claims["admin"], true);
    assert_eq!(claims["roles"], json!(["admin", "editor"]));
    assert_eq!(claims["exp"], NOW.0 + 3600);
    assert_eq!(claims["jti"], token.id);
}

#[test]
fn times_are_checked_with_the_leeway() {
    assert_eq!(with("exp", json!(NOW.0 + 1)).err(), None);
    let mut claims = claims();
    claims["iat"] = json!(NOW.0 - 100);
    let at = |exp: u64| {
        let mut claims = claims.clone();
        claims["exp"] = json!(exp);
        verify(&sign(HEADER, &claims.to_string())).err()
    };
    assert_eq!(at(NOW.0 - 29), None);
    assert_eq!(at(NOW.0 - 30), Some(TokenFault::Expired));
    assert_eq!(with("nbf", json!(NOW.0 + 30)).err(), None);
    assert_eq!(
        with("nbf", json!(NOW.0 + 31)).err(),
        Some(TokenFault::NotYet)
    );
    assert_eq!(with("iat", json!(NOW.0 + 30)).err(), None);
    assert_eq!(
        with("iat", json!(NOW.0 + 31)).err(),
        Some(TokenFault::IssuedAt)
    );
    assert_eq!(with("exp", json!(NOW.0)).err(), Some(TokenFault::IssuedAt));
    assert_eq!(with("exp", json!(u64::MAX)).err(), None);
}

/// Revocations are removed when no token can match them any more under the current lifetime.
#[test]
fn the_current_lifetime_limits_older_tokens() {
    let mut claims = claims();
    for (age, fault) in [(3629, None), (3630, Some(TokenFault::Expired))] {
        claims["iat"] = json!(NOW.0 - age);
        claims["exp"] = json!(NOW.0 + 3600);
        assert_eq!(verify(&sign(HEADER, &claims.to_string())).err(), fault);
    }
}

#[test]
fn required_claims_must_be_present_and_typed() {
    for member in [
        "sub", "username", "admin", "roles", "iss", "aud", "iat", "exp", "jti",
    ] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(member);
        assert_eq!(
            verify(&sign(HEADER, &claims.to_string())),
            Err(TokenFault::Claims),
            "{member}"
        );
        assert_eq!(
            with(member, Value::Null),
            Err(TokenFault::Claims),
            "{member}"
        );
    }
    for (member, value) in [
        ("exp", json!("1900000000")),
        ("exp", json!(1.9e9 + 0.5)),
        ("exp", json!(-1)),
        ("exp", json!([1_900_000_000])),
        ("nbf", json!("soon")),
        ("iat", json!(true)),
        ("iss", json!(["doorward"])),
        ("iss", json!(1)),
        ("aud", json!(1)),
        ("aud", json!([1])),
        ("sub", json!(42)),
        ("admin", json!("true")),
        ("roles", json!("admin")),
    ] {
        assert_eq!(
            with(member, value.clone()),
            Err(TokenFault::Claims),
            "{member} {value}"
        );
    }
}

#[test]
fn issuer_audience_and_identity_are_exact() {
    assert_eq!(with("iss", json!("other")), Err(TokenFault::Issuer));
    assert_eq!(with("iss", json!("doorward/")), Err(TokenFault::Issuer));
    assert_eq!(with("aud", json!("other")), Err(TokenFault::Audience));
    assert_eq!(with("aud", json!([])), Err(TokenFault::Audience));
    assert_eq!(with("aud", json!(["other", "doorward"])).err(), None);
    assert_eq!(with("sub", json!("")), Err(TokenFault::Identity));
    assert_eq!(with("username", json!("a:b")), Err(TokenFault::Identity));
    assert_eq!(with("roles", json!(["a b"])), Err(TokenFault::Identity));
    assert_eq!(with("admin", json!(true)), Err(TokenFault::Identity));
    assert_eq!(with("roles", json!(["admin"])), Err(TokenFault::Identity));
}

#[test]
fn doubled_claims_and_trailing_bytes_are_refused() {
    let text = claims().to_string();
    let doubled = text.replacen('{', r#"{"sub":"1","#, 1);
    assert_eq!(verify(&sign(HEADER, &doubled)), Err(TokenFault::Claims));
    assert_eq!(
        verify(&sign(HEADER, &format!("{text} x"))),
        Err(TokenFault::Claims)
    );
    assert_eq!(verify(&sign(HEADER, "[]")), Err(TokenFault::Claims));
}

#[test]
fn only_allowed_header_members_and_values_are_accepted() {
    use TokenFault::{Algorithm, Header, KeyId, Type};
    let claims = claims().to_string();
    assert!(verify(&sign(r#"{"typ":"jwt","alg":"HS256"}"#, &claims)).is_ok());
    let own = Key::from_secret(&Secret::parse(SECRET).unwrap(), UnixTime(0));
    let own = json!({"typ": "JWT", "alg": "HS256", "kid": own.id().as_str()});
    assert!(verify(&sign(&own.to_string(), &claims)).is_ok());
    assert_eq!(
        verify(&sign(r#"{"typ":"JWT","alg":"HS256","kid":"k-1"}"#, &claims)),
        Err(TokenFault::UnknownKey)
    );
    for (header, fault) in [
        (r#"{"alg":"none","typ":"JWT"}"#, Algorithm),
        (r#"{"alg":"None","typ":"JWT"}"#, Algorithm),
        (r#"{"alg":"nOnE","typ":"JWT"}"#, Algorithm),
        (r#"{"alg":"HS512","typ":"JWT"}"#, Algorithm),
        (r#"{"alg":"RS256","typ":"JWT"}"#, Algorithm),
        (r#"{"alg":"hs256","typ":"JWT"}"#, Algorithm),
        (r#"{"alg":"HS256"}"#, Type),
        (r#"{"alg":"HS256","typ":"at+jwt"}"#, Type),
        (r#"{"typ":"JWT"}"#, Header),
        (r#"{"alg":"HS256","alg":"HS256","typ":"JWT"}"#, Header),
        (r#"{"alg":["HS256"],"typ":"JWT"}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","jwk":{}}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","jku":"x"}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","x5u":"x"}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","x5c":[]}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","crit":["b64"]}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","b64":false}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","zip":"DEF"}"#, Header),
        (r#"{"alg":"HS256","typ":"JWT","cty":"JWT"}"#, Header),
        (
            r#"{"alg":"HS256","typ":"JWT","kid":"../../etc/passwd"}"#,
            KeyId,
        ),
        (r#"{"alg":"HS256","typ":"JWT","kid":"' OR 1=1"}"#, KeyId),
        (r#"{"alg":"HS256","typ":"JWT","kid":""}"#, KeyId),
        ("[]", Header),
        ("x", Header),
    ] {
        assert_eq!(verify(&sign(header, &claims)), Err(fault), "{header}");
    }
}

#[test]
fn a_token_has_three_complete_parts() {
    let good = sign(HEADER, &claims().to_string());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for (token, fault) in [
        ("abc".to_owned(), TokenFault::Parts),
        ("a.b".into(), TokenFault::Parts),
        (signed.into(), TokenFault::Parts),
        (format!("{signed}."), TokenFault::Parts),
        (format!("{good}.x"), TokenFault::Parts),
        (format!(".{good}"), TokenFault::Parts),
        (format!("{good}="), TokenFault::Signature),
        (
            format!("{signed}.{}", &signature[..signature.len() - 1]),
            TokenFault::Signature,
        ),
    ] {
        assert_eq!(verify(&token), Err(fault), "{token}");
    }
}

#[test]
fn a_token_signed_with_another_secret_is_refused() {
    let other = Secret::parse(b"00f1e2d3c4b5a69788796a5b4c3d2e1f").unwrap();
    let token = signer_of(&other)
        .issue(&ada(), Generation(0), None, NOW)
        .unwrap();
    assert_eq!(verify(token.expose()), Err(TokenFault::UnknownKey));
}

#[test]
fn a_verifier_has_no_private_key() {
    for algorithm in [
        Algorithm::Hs256,
        Algorithm::Rs256,
        Algorithm::Es256,
        Algorithm::EdDsa,
    ] {
        let id = crate::key::KeyId::parse("k").unwrap();
        let file = Key::generate(&id, algorithm, UnixTime(0)).unwrap();
        let key = Key::read("k", file.as_bytes()).unwrap();
        let terms = tokens().terms;
        let keys = Arc::new(Keyring::new(vec![key], terms.lasts()).unwrap());
        let verifier = Verifier::of(&keys, terms.clone());
        let issue = |keys: &Arc<Keyring>| {
            let signer = Signer::new(Arc::clone(keys), terms.clone());
            signer.issue(&ada(), Generation(0), None, NOW)
        };
        let token = issue(&keys).unwrap();
        let compact = Compact::parse(token.expose()).unwrap();
        let verified = verifier.verify(compact, NOW, &Revocations::new(None));
        assert_eq!(verified, Ok(Arc::new(Principal::new(ada()))), "{algorithm}");
        assert!(issue(verifier.keys()).is_err(), "{algorithm}");
        assert!(verifier.keys().seal().is_none(), "{algorithm}");
        assert_eq!(verifier.keys().jwks(NOW), keys.jwks(NOW));
        assert_eq!(
            verifier.keys().state(&verifier.keys().keys()[0], NOW),
            KeyState::Signing
        );
    }
}

#[test]
fn weak_secrets_are_refused() {
    for weak in [
        "a".repeat(64),
        "abcdefghijkl".repeat(4),
        "your-256-bit-secret-your-256-bit-secret!".into(),
        "this-is-my-super-SECRET-key-for-jwt-1234".into(),
        "0123456789abcdef0123456789abcdef01".into(),
    ] {
        assert_eq!(
            Secret::parse(weak.as_bytes()).err(),
            Some(SecretFault::Guessable),
            "{weak}"
        );
    }
    assert_eq!(Secret::parse(b"short").err(), Some(SecretFault::Short(5)));
    assert_eq!(
        Secret::parse(&[SECRET, b"\r\n"].concat()).unwrap().expose(),
        SECRET
    );
    assert!(Secret::parse(Secret::generate().as_bytes()).is_ok());
}

#[test]
fn debug_shows_no_secret() {
    let tokens = tokens();
    let token = signer().issue(&ada(), Generation(0), None, NOW).unwrap();
    let shown = format!("{tokens:?} {token:?} {:?}", Secret::parse(SECRET));
    assert!(!shown.contains("f3b1") && !shown.contains("eyJ"), "{shown}");
}

proptest! {
    #[test]
    fn one_changed_character_never_verifies(position: prop::sample::Index, replacement in "[A-Za-z0-9_.=~-]") {
        let token = signer().issue(&ada(), Generation(0), None, NOW).unwrap();
        let mut changed: Vec<char> = token.expose().chars().collect();
        let position = position.index(changed.len());
        let replacement = replacement.chars().next().unwrap();
        prop_assume!(changed[position] != replacement);
        changed[position] = replacement;
        let changed: String = changed.into_iter().collect();
        if let Some(compact) = Compact::parse(&changed) {
            prop_assert!(tokens().verify(compact, NOW, &Revocations::new(None)).is_err());
        }
    }

    #[test]
    fn arbitrary_text_never_verifies_or_panics(token in "[A-Za-z0-9_.=~+/-]{0,200}") {
        if let Some(compact) = Compact::parse(&token) {
            prop_assert!(tokens().verify(compact, NOW, &Revocations::new(None)).is_err());
            let _ = Statement::read(compact);
        }
    }
}

/// An event between two verifications of a token.
#[derive(Clone, Debug)]
enum Event {
    Look(usize),
    Issue(u8),
    Logout(usize),
    LogoutAll(u8),
    Inactive(Option<u8>),
    Wait(u16),
    Retire(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..8_usize).prop_map(Event::Look),
        2 => (0..3_u8).prop_map(Event::Issue),
        1 => (0..8_usize).prop_map(Event::Logout),
        1 => (0..3_u8).prop_map(Event::LogoutAll),
        1 => prop::option::of(0..3_u8).prop_map(Event::Inactive),
        1 => any::<u16>().prop_map(Event::Wait),
        1 => (0..3_usize).prop_map(Event::Retire),
    ]
}

proptest! {
    // Each case makes dozens of token caches.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For any order of events, a verifier that has cached a token gives the same result as one that has not.
    #[test]
    fn a_cached_token_gets_the_same_result_as_an_uncached_one(events in prop::collection::vec(any_event(), 1..50)) {
        const FILES: [&str; 3] = ["a", "b", "c"];
        let file = |name: &str, since| {
            let id = crate::key::KeyId::parse(name).unwrap();
            Key::generate(&id, crate::key::Algorithm::EdDsa, UnixTime(since)).unwrap().to_string()
        };
        let files: Vec<_> = FILES.iter().zip(1..).map(|(name, since)| file(name, since)).collect();
        let terms = tokens().terms;
        let with = |alive: &[bool]| {
            let keys = files.iter().zip(alive).filter(|(_, alive)| **alive);
            let keys = keys.map(|(file, _)| Key::read("k.pem", file.as_bytes()).unwrap());
            // Each key signs for a long time, so that only retiring it invalidates its tokens.
            let keys = Arc::new(Keyring::new(keys.collect(), Duration::from_secs(1 << 40)).unwrap());
            (Verifier::of(&keys, terms.clone()), Signer::new(keys, terms.clone()))
        };
        let mut alive = [true; 3];
        let (mut tokens, mut signer) = with(&alive);
        let ended = Revocations::new(None);
        let (mut now, mut issued, mut generation) = (NOW, Vec::new(), 0);
        for event in events {
            match event {
                Event::Issue(user) => {
                    let identity = Identity { subject: user.to_string(), ..ada() };
                    if let Ok(token) = signer.issue(&identity, ended.generation(&identity.subject), None, now) {
                        issued.push(token);
                    }
                }
                Event::Look(which) => {
                    let Some(token) = issued.get(which) else { continue };
                    let compact = Compact::parse(token.expose()).unwrap();
                    let seen = tokens.verify(compact, now, &ended);
                    prop_assert_eq!(seen, with(&alive).0.verify(compact, now, &ended));
                }
                Event::Logout(which) => {
                    if let Some(token) = issued.get(which) {
                        ended.end(&token.id, UnixTime(u64::MAX));
                    }
                }
                Event::LogoutAll(user) => {
                    generation += 1;
                    ended.end_before(&user.to_string(), Generation(generation), UnixTime(u64::MAX));
                }
                Event::Inactive(user) => {
                    let ids = user.map(|user| user.to_string().into());
                    ended.set_inactive(ids.into_iter().collect());
                }
                Event::Wait(seconds) => now.0 += u64::from(seconds) / 16,
                Event::Retire(which) => {
                    alive[which] = !alive[which];
                    (tokens, signer) = with(&alive);
                }
            }
        }
    }

    #[test]
    fn a_cached_token_is_found_and_no_other(names in prop::collection::vec("[a-z]{1,3}", 1..200)) {
        let verified = TokenCache::new();
        for name in &names {
            let of = Hashed::of(name).fingerprint;
            let good = Good {
                principal: Arc::new(Principal::new(Identity { subject: name.clone(), ..ada() })),
                token: name.as_str().into(),
                session: None,
                generation: Generation(0),
                expires: NOW.0 + 60,
                issued: 0,
                since: None,
            };
            verified.remember(of, good, NOW.0);
            let known = verified.find(of).unwrap();
            prop_assert_eq!(&*known.1.token, name.as_str());
            let other = Hashed::of(&format!("{name}.")).fingerprint;
            prop_assert!(verified.find(other).is_none());
        }
        prop_assert!(verified.len() <= names.len());
    }
}
