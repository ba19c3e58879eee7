use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    credential::Compact,
    key::{Key, KeyId},
    revocation::Revocations,
    token::{Secret, TokenTerms, Verifier},
    token_cache::HASHED,
};

const NOW: UnixTime = UnixTime(1_800_000_000);
const NAME: &str = "https://id.example.com/";
const SECRET: &[u8] = b"f3b1c2d4e5a60718293a4b5c6d7e8f90";

/// A key of the issuer, a key of Doorward, and a key that belongs to neither.
static KEYS: LazyLock<[Key; 3]> = LazyLock::new(|| ["theirs", "ours", "nobody"].map(generated));

fn generated(id: &str) -> Key {
    let id = KeyId::parse(id).unwrap();
    let file = Key::generate(&id, Algorithm::Es256, UnixTime(0)).unwrap();
    Key::read("k", file.as_bytes()).unwrap()
}

fn terms() -> IssuerTerms {
    IssuerTerms {
        issuer: NAME.into(),
        audience: "my-api".into(),
        prefix: "corp/".into(),
        username: "profile.login".into(),
        roles: Some("realm_access.roles".into()),
        accept_roles: Roles::parse_list("editor,viewer").unwrap(),
        grant: Roles::parse_list("member").unwrap(),
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
    }
}

fn document(keys: &[&Key]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
    json!({"keys": keys}).to_string().into_bytes()
}

static OWN_KEY: LazyLock<String> = LazyLock::new(|| {
    let file = Key::generate(KEYS[1].id(), Algorithm::Es256, UnixTime(0)).unwrap();
    file.to_string()
});

fn own_key() -> Key {
    Key::read("k", OWN_KEY.as_bytes()).unwrap()
}

fn verifier(terms: IssuerTerms) -> Verifier {
    let issuer = Issuer::new(terms);
    issuer.take(&document(&[&KEYS[0]])).unwrap();
    let own = TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    };
    let keys = vec![
        own_key(),
        Key::from_secret(&Secret::parse(SECRET).unwrap(), UnixTime(0)).only_verifying(),
    ];
    let ring = Keyring::new(keys, own.lasts()).unwrap();
    Verifier::of(&ring, own).believing(Arc::new([issuer]))
}

fn claims() -> Value {
    json!({
        "iss": NAME, "aud": ["other", "my-api"], "sub": "7", "exp": NOW.0 + 60, "iat": NOW.0,
        "profile": {"login": "ada"}, "realm_access": {"roles": ["editor", "admin", "a b"]},
    })
}

const HEADER: &str = r#"{"alg":"ES256","kid":"theirs"}"#;

fn signed(header: &str, claims: &str, key: &Key) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let signed = format!("{header}.{claims}");
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn token(claims: &Value) -> String {
    signed(HEADER, &claims.to_string(), &KEYS[0])
}

fn ask(tokens: &Verifier, token: &str) -> Result<Identity, TokenFault> {
    let ended = Revocations::new(None);
    let compact = Compact::parse(token).unwrap();
    let first = tokens.verify(compact, NOW, &ended);
    // The cached result equals the first one, and no other caller sees the claims.
    assert_eq!(tokens.verify(compact, NOW, &ended), first);
    assert_eq!(tokens.claims(compact, NOW, &ended).is_ok(), first.is_ok());
    assert!(tokens.open(compact, NOW, &ended).is_err() || first.is_ok());
    first.map(|principal| principal.identity().clone())
}

fn verify(token: &str) -> Result<Identity, TokenFault> {
    ask(&verifier(terms()), token)
}

fn with(member: &str, value: Value) -> Result<Identity, TokenFault> {
    let mut claims = claims();
    claims[member] = value;
    verify(&token(&claims))
}

#[test]
fn a_token_of_another_issuer_identifies_its_subject() {
    let tokens = verifier(terms());
    let text = token(&claims());
    let identity = ask(&tokens, &text).unwrap();
    assert_eq!(identity.subject, "https://id.example.com/|7");
    assert_eq!(identity.username.as_str(), "corp/ada");
    assert_eq!(identity.roles.to_string(), "editor,member");
    let compact = Compact::parse(&text).unwrap();
    let ended = Revocations::new(None);
    let shown = tokens.claims(compact, NOW, &ended).unwrap();
    let judged = json!({
        "iss": NAME, "aud": "my-api", "sub": "https://id.example.com/|7", "exp": NOW.0 + 60, "iat": NOW.0,
        "username": "corp/ada", "admin": false, "roles": ["editor", "member"], "issuer_claims": claims(),
    });
    assert_eq!(
        serde_json::from_slice::<Value>(&shown.claims).unwrap(),
        judged
    );
    // A logout does not accept it.
    assert!(tokens.open(compact, NOW, &ended).is_err());
    let later = UnixTime(NOW.0 + 90);
    assert_eq!(
        tokens.verify(compact, later, &ended),
        Err(TokenFault::Expired)
    );
    ended.set_inactive(["https://id.example.com/|7".into()].into());
    assert_eq!(tokens.verify(compact, NOW, &ended), Err(TokenFault::Ended));
}

#[test]
fn only_allowed_header_members_and_values_are_accepted() {
    use TokenFault::{Algorithm, KeyId, Type, UnknownKey};
    let claims = claims().to_string();
    let ask = |header: &str| verify(&signed(header, &claims, &KEYS[0])).err();
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        let header = json!({"alg": "ES256", "kid": "theirs", "typ": typ});
        assert_eq!(ask(&header.to_string()), None, "{typ}");
    }
    for (header, fault) in [
        (
            r#"{"alg":"ES256","kid":"theirs","typ":"dpop+jwt"}"#,
            Some(Type),
        ),
        (
            r#"{"alg":"ES256","kid":"other","typ":"JWT"}"#,
            Some(UnknownKey),
        ),
        (r#"{"alg":"ES256","kid":"","typ":"JWT"}"#, Some(KeyId)),
        (r#"{"alg":"ES256","kid":"a b","typ":"JWT"}"#, Some(KeyId)),
        (r#"{"alg":"RS256","kid":"theirs"}"#, Some(Algorithm)),
        (r#"{"alg":"ES384","kid":"theirs"}"#, Some(Algorithm)),
        (r#"{"alg":"HS256","kid":"theirs"}"#, Some(Algorithm)),
        (r#"{"alg":"none","kid":"theirs"}"#, Some(Algorithm)),
        (r#"{"alg":"es256","kid":"theirs"}"#, Some(Algorithm)),
    ] {
        let found = ask(header);
        assert!(
            found.is_some() && (found == fault || !header.contains("JWT")),
            "{header}: {found:?}"
        );
    }
    for header in [
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":null}"#,
        r#"{"alg":"ES256","kid":7}"#,
        r#"{"kid":"theirs"}"#,
        r#"{"alg":"ES256","kid":"theirs","kid":"theirs"}"#,
        r#"{"alg":"ES256","kid":"theirs","jwk":{}}"#,
        r#"{"alg":"ES256","kid":"theirs","jku":"https://x"}"#,
        r#"{"alg":"ES256","kid":"theirs","x5c":[]}"#,
        r#"{"alg":"ES256","kid":"theirs","crit":["exp"]}"#,
        r#"{"alg":"ES256","kid":"theirs","cty":"JWT"}"#,
        "[]",
        "",
    ] {
        assert!(ask(header).is_some(), "{header}");
    }
}

#[test]
fn a_public_key_is_not_accepted_as_an_hmac_secret() {
    let claims = claims().to_string();
    let public = json!(KEYS[0].public());
    let point = BASE64_URL_SAFE_NO_PAD.decode(public["x"].as_str().unwrap());
    for secret in [public.to_string().into_bytes(), point.unwrap()] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        for header in [
            r#"{"alg":"HS256","kid":"theirs","typ":"JWT"}"#,
            r#"{"alg":"HS256","typ":"JWT"}"#,
        ] {
            let [header, claims] = [header, &claims].map(|p| BASE64_URL_SAFE_NO_PAD.encode(p));
            let signed = format!("{header}.{claims}");
            let tag = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&secret, signed.as_bytes()));
            assert!(verify(&format!("{signed}.{tag}")).is_err());
        }
    }
}

#[test]
fn a_signature_must_be_by_the_key_that_kid_names() {
    let claims = claims().to_string();
    assert_eq!(
        verify(&signed(HEADER, &claims, &KEYS[2])),
        Err(TokenFault::Signature)
    );
    let text = token(&serde_json::from_str(&claims).unwrap());
    let (rest, _) = text.rsplit_once('.').unwrap();
    assert!(verify(&format!("{rest}.")).is_err());
    assert!(verify(&format!("{rest}.AAAA")).is_err());
}

/// The key of one issuer is not accepted for the name of the other.
#[test]
fn our_keys_and_an_issuers_keys_are_never_confused() {
    let tokens = verifier(terms());
    let own = &own_key();
    let ours = json!({
        "sub": "42", "username": "ada", "admin": false, "roles": [], "iss": "doorward",
        "aud": "doorward", "iat": NOW.0, "exp": NOW.0 + 60, "jti": "x",
    });
    let own_header = |alg: &str| json!({"typ": "JWT", "alg": alg, "kid": "ours"}).to_string();
    let text = signed(&own_header("ES256"), &ours.to_string(), own);
    assert_eq!(ask(&tokens, &text).unwrap().subject, "42");
    for header in [HEADER.to_owned(), own_header("ES256")] {
        // Doorward's claims, and the issuer's claims with Doorward's name, signed by the issuer's key.
        assert!(ask(&tokens, &signed(&header, &ours.to_string(), &KEYS[0])).is_err());
        let mut renamed = claims();
        renamed["iss"] = "doorward".into();
        renamed["aud"] = "doorward".into();
        assert!(ask(&tokens, &signed(&header, &renamed.to_string(), &KEYS[0])).is_err());
        // The issuer's claims, and Doorward's claims with the issuer's name, signed by Doorward's key.
        assert!(ask(&tokens, &signed(&header, &claims().to_string(), own)).is_err());
        let mut renamed = ours.clone();
        renamed["iss"] = NAME.into();
        renamed["aud"] = "my-api".into();
        assert!(ask(&tokens, &signed(&header, &renamed.to_string(), own)).is_err());
    }
    // An issuer gains nothing by publishing a key with the id of Doorward's key, or by using Doorward's name.
    let impostor = generated("ours");
    let issuer = &verifier(terms());
    let taken = Issuer::new(IssuerTerms {
        issuer: "doorward".into(),
        ..terms()
    });
    taken.take(&document(&[&impostor, &KEYS[0]])).unwrap();
    let own_terms = TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    };
    let tokens = Verifier::of(issuer.keys(), own_terms).believing(Arc::new([taken]));
    let mut renamed = claims();
    renamed["iss"] = "doorward".into();
    for (header, key) in [
        (own_header("ES256"), &impostor),
        (HEADER.to_owned(), &KEYS[0]),
    ] {
        assert!(ask(&tokens, &signed(&header, &renamed.to_string(), key)).is_err());
    }
}

#[test]
fn issuers_are_chosen_by_their_exact_name() {
    for name in [
        json!("https://id.example.com"),
        json!("https://id.example.com//"),
        json!("HTTPS://id.example.com/"),
        json!(""),
        json!([NAME]),
        json!(null),
    ] {
        assert!(with("iss", name.clone()).is_err(), "{name}");
    }
    let text = claims().to_string();
    let doubled = text.replacen('{', &format!(r#"{{"iss":"{NAME}","#), 1);
    assert!(verify(&signed(HEADER, &doubled, &KEYS[0])).is_err());
}

#[test]
fn claims_are_required_typed_and_unique() {
    use TokenFault::{Audience, Claims, Expired, Identity, IssuedAt, NotYet};
    let long = "x".repeat(201);
    for (member, value, fault) in [
        ("aud", json!("my-api"), None),
        ("aud", json!(["my-api"]), None),
        ("aud", json!("my-ap"), Some(Audience)),
        ("aud", json!([]), Some(Audience)),
        ("aud", json!(["My-Api"]), Some(Audience)),
        ("aud", json!(["my-api", 1]), Some(Claims)),
        ("aud", json!([["my-api"]]), Some(Claims)),
        ("aud", json!({"my-api": true}), Some(Claims)),
        ("aud", json!(7), Some(Claims)),
        ("aud", json!(null), Some(Claims)),
        ("exp", json!(NOW.0 - 29), Some(IssuedAt)),
        ("exp", json!(NOW.0 - 30), Some(Expired)),
        ("exp", json!((NOW.0 + 60).to_string()), Some(Claims)),
        ("exp", json!(1.9e9 + 0.5), Some(Claims)),
        ("exp", json!(-1), Some(Claims)),
        ("exp", json!(null), Some(Claims)),
        ("nbf", json!(NOW.0 + 30), None),
        ("nbf", json!(NOW.0 + 31), Some(NotYet)),
        ("nbf", json!("soon"), Some(Claims)),
        ("nbf", json!(null), Some(Claims)),
        ("iat", json!(NOW.0 + 30), None),
        ("iat", json!(NOW.0 + 31), Some(IssuedAt)),
        ("iat", json!(true), Some(Claims)),
        ("sub", json!("x".repeat(200)), None),
        ("sub", json!(long), Some(Identity)),
        ("sub", json!(""), Some(Identity)),
        ("sub", json!("a\nb"), Some(Identity)),
        ("sub", json!(7), Some(Claims)),
        ("profile", json!({}), Some(Identity)),
        ("profile", json!("ada"), Some(Identity)),
        ("profile", json!({"login": 7}), Some(Identity)),
        ("profile", json!({"login": ""}), Some(Identity)),
        ("profile", json!({"login": "a:b"}), Some(Identity)),
        ("profile", json!({"login": "a\nb"}), Some(Identity)),
        ("profile", json!({"login": "x".repeat(251)}), Some(Identity)),
        ("realm_access", json!({"roles": 7}), Some(Identity)),
        (
            "realm_access",
            json!({"roles": ["editor", 7]}),
            Some(Identity),
        ),
        ("realm_access", json!({"roles": null}), Some(Identity)),
    ] {
        assert_eq!(with(member, value.clone()).err(), fault, "{member} {value}");
    }
    for (member, fault) in [
        ("aud", Claims),
        ("exp", Claims),
        ("sub", Claims),
        ("profile", Identity),
    ] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(member);
        assert_eq!(verify(&token(&claims)), Err(fault), "{member}");
    }
    for member in ["iat", "realm_access"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(member);
        assert!(verify(&token(&claims)).is_ok(), "{member}");
    }
    let text = claims().to_string();
    for doubled in [
        r#"{"sub":"8","#,
        r#"{"profile":{"login":"bob"},"#,
        r#"{"x":1,"x":1,"#,
    ] {
        let doubled = text.replacen('{', doubled, 1);
        assert_eq!(verify(&signed(HEADER, &doubled, &KEYS[0])), Err(Claims));
    }
    assert!(verify(&signed(HEADER, &format!("{text} x"), &KEYS[0])).is_err());
    assert!(verify(&signed(HEADER, "[]", &KEYS[0])).is_err());
}

#[test]
fn names_and_roles_follow_the_issuers_terms() {
    let identity = |terms, member: &str, value| {
        let mut claims = claims();
        claims[member] = value;
        ask(&verifier(terms), &token(&claims)).unwrap()
    };
    let by = |username: &str, prefix: &str| IssuerTerms {
        username: username.into(),
        prefix: prefix.into(),
        ..terms()
    };
    let name = |terms, member: &str, value| identity(terms, member, value).username;
    assert_eq!(name(by("sub", ""), "sub", json!("x")).as_str(), "x");
    assert_eq!(
        name(by("a.b.c", "p-"), "a", json!({"b": {"c": "x"}})).as_str(),
        "p-x"
    );
    // A claim name that contains dots, as at Auth0.
    let url = "https://app.example.com/name";
    assert_eq!(name(by(url, ""), url, json!("x")).as_str(), "x");

    let roles = |roles: Option<&str>, value| {
        let terms = IssuerTerms {
            roles: roles.map(Into::into),
            ..terms()
        };
        identity(terms, "scope", value).roles.to_string()
    };
    assert_eq!(
        roles(Some("scope"), json!("viewer admin  editor")),
        "editor,member,viewer"
    );
    assert_eq!(roles(Some("scope"), json!(["viewer admin"])), "member");
    assert_eq!(roles(Some("nothing"), json!("editor")), "member");
    assert_eq!(roles(None, json!("editor")), "member");
    // Only the terms make a user an administrator.
    for (accept, grant, admin) in [
        ("admin", "", true),
        ("", "admin", true),
        ("editor", "", false),
    ] {
        let terms = IssuerTerms {
            accept_roles: Roles::parse_list(accept).unwrap(),
            grant: Roles::parse_list(grant).unwrap(),
            ..terms()
        };
        let roles = identity(terms, "x", json!(1)).roles;
        assert_eq!(roles.admin(), admin, "{accept} {grant}");
    }
}

#[test]
fn documents_are_read_leniently_and_keys_strictly() {
    let issuer = Issuer::new(terms());
    let good = &json!(KEYS[0].public());
    let but = |member: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[member] = value;
        jwk
    };
    let secret = json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": BASE64_URL_SAFE_NO_PAD.encode(SECRET)});
    let short = BASE64_URL_SAFE_NO_PAD.encode([0xc5; 128]);
    let skipped = [
        but("use", json!("enc")),
        but("use", json!(7)),
        but("kid", json!(null)),
        but("kid", json!("a b")),
        but("kid", json!("x".repeat(257))),
        but("kty", json!("new")),
        but("crv", json!("P-521")),
        but("alg", json!("HS256")),
        but("d", json!("AAAA")),
        but("x", json!("AAAA")),
        secret,
        json!({"kty": "RSA", "kid": "r", "alg": "RS256", "n": short, "e": "AQAB"}),
        json!("key"),
        json!(null),
    ];
    for jwk in &skipped {
        let document = json!({"keys": [jwk]}).to_string();
        assert_eq!(
            issuer.take(document.as_bytes()),
            Err(DocumentFault::NoKey),
            "{jwk}"
        );
    }
    let all: Vec<_> = skipped.iter().chain([good]).collect();
    let document = json!({"keys": all, "more": 1}).to_string();
    assert_eq!(issuer.take(document.as_bytes()), Ok(true));
    assert_eq!(issuer.take(document.as_bytes()), Ok(false));
    for (document, fault) in [
        (json!({"keys": []}), DocumentFault::NoKey),
        (json!({}), DocumentFault::Syntax),
        (json!([good]), DocumentFault::Syntax),
        (json!({"keys": vec![good; 65]}), DocumentFault::Many),
        (
            json!({"keys": [good], "x": "x".repeat(256 * 1024)}),
            DocumentFault::Long,
        ),
    ] {
        assert_eq!(issuer.take(document.to_string().as_bytes()), Err(fault));
    }
    // Key ids in the style of other issuers.
    let odd = but("kid", json!("aGk+/w=="));
    assert_eq!(
        issuer.take(json!({"keys": [odd]}).to_string().as_bytes()),
        Ok(true)
    );
    assert_eq!(issuer.key_names(), ["aGk+/w=="]);
}

#[test]
fn the_token_cache_is_dropped_with_its_keys() {
    let text = token(&claims());
    let issuers: Issuers = Arc::new([Issuer::new(terms())]);
    let tokens = verifier(terms()).believing(Arc::clone(&issuers));
    let issuer = &issuers[0];
    assert_eq!(ask(&tokens, &text), Err(TokenFault::UnknownKey));
    assert!(issuer.wants_keys());
    issuer.wish_is_heard();
    issuer.take(&document(&[&KEYS[0]])).unwrap();
    assert!(ask(&tokens, &text).is_ok() && issuer.recall(Hashed::of(&text).fingerprint).is_some());
    // A document that cannot be used changes nothing.
    assert!(issuer.take(b"{}").is_err());
    assert!(issuer.recall(Hashed::of(&text).fingerprint).is_some() && !issuer.wants_keys());
    issuer.take(&document(&[&KEYS[2]])).unwrap();
    assert_eq!(ask(&tokens, &text), Err(TokenFault::UnknownKey));
    assert!(issuer.wants_keys());
}

/// A token is hashed once, however many issuers have a cache that may know it.
#[test]
fn a_token_of_another_issuer_is_hashed_once() {
    let others = ["https://a.example/", "https://b.example/"].map(|issuer| {
        let issuer = issuer.to_owned();
        Issuer::new(IssuerTerms { issuer, ..terms() })
    });
    let issuers: Issuers = others.into_iter().chain([Issuer::new(terms())]).collect();
    issuers[2].take(&document(&[&KEYS[0]])).unwrap();
    let tokens = verifier(terms()).believing(issuers);
    let text = token(&claims());
    let compact = Compact::parse(&text).unwrap();
    let ended = Revocations::new(None);
    for way in ["verified", "cached"] {
        HASHED.with(|hashed| hashed.set(0));
        assert!(tokens.verify(compact, NOW, &ended).is_ok());
        assert_eq!(HASHED.with(std::cell::Cell::get), 1, "{way}");
    }
}

proptest! {
    #[test]
    fn reading_a_jwk_set_never_panics(bytes: Vec<u8>, cut in 0..500_usize, put: u8) {
        let _ = read(&bytes);
        let mut broken = document(&[&KEYS[0]]);
        let at = cut % broken.len();
        broken[at] = put;
        let _ = read(&broken);
    }

    /// A changed token is never accepted.
    #[test]
    fn a_changed_token_is_never_accepted(at in 0..1000_usize, put in "[A-Za-z0-9_.-]") {
        static VERIFIER: LazyLock<(Verifier, String)> =
            LazyLock::new(|| (verifier(terms()), token(&claims())));
        let (tokens, text) = &*VERIFIER;
        let at = at % text.len();
        let mut broken = text.clone();
        broken.replace_range(at..=at, &put);
        if broken != *text && let Some(compact) = Compact::parse(&broken) {
            let verdict = tokens.verify(compact, NOW, &Revocations::new(None));
            prop_assert!(verdict.is_err());
        }
    }

    /// Arbitrary claims besides the required ones.
    #[test]
    fn the_claims_that_are_shown_are_those_that_were_judged(
        members in prop::collection::hash_map(
            prop_oneof![
                Just("admin".to_owned()), Just("roles".to_owned()), Just("username".to_owned()),
                Just("jti".to_owned()), Just("nbf".to_owned()), Just("issuer_claims".to_owned()), "[a-z_]{1,8}",
            ],
            prop_oneof![Just(json!(true)), Just(json!(["admin"])), Just(json!("ada")), Just(json!(0)), Just(json!({}))],
            0..8,
        ),
    ) {
        static TOKENS: LazyLock<Verifier> = LazyLock::new(|| verifier(terms()));
        let tokens = &*TOKENS;
        let mut all = claims();
        for (member, value) in members {
            if claims().get(&member).is_none() {
                all[member] = value;
            }
        }
        let text = token(&all);
        let (compact, ended) = (Compact::parse(&text).unwrap(), Revocations::new(None));
        let verified = tokens.verify(compact, NOW, &ended);
        let shown = tokens.claims(compact, NOW, &ended);
        prop_assert_eq!(verified.is_ok(), shown.is_ok());
        if let (Ok(principal), Ok(shown)) = (verified, shown) {
            let identity = principal.identity();
            let shown: Map<String, Value> = serde_json::from_slice(&shown.claims).unwrap();
            let names: Vec<_> = shown.keys().map(String::as_str).collect();
            let expected = ["admin", "aud", "exp", "iat", "iss", "issuer_claims", "roles", "sub", "username"];
            prop_assert_eq!(names, expected);
            prop_assert_eq!(&shown["sub"], &json!(&identity.subject));
            prop_assert_eq!(&shown["username"], &json!(identity.username.as_str()));
            prop_assert_eq!(&shown["admin"], &json!(false));
            prop_assert_eq!(&shown["roles"], &json!(["editor", "member"]));
            prop_assert_eq!(&shown["issuer_claims"], &all);
        }
    }

    #[test]
    fn any_claims_are_read_without_a_panic(text in ".{0,200}", name in "[a-z.]{0,12}") {
        static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new(terms()));
        prop_assert!(ISSUER.check(text.as_bytes(), NOW, Duration::ZERO).is_err());
        prop_assert!(find(&Map::new(), &name).is_none());
    }
}
