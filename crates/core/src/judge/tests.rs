mod keys;
mod keys_page;

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    account::{Identity, Roles, Username},
    body::Body,
    issuer::{Issuer, IssuerTerms},
    jws,
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    path::{Path, Tolerance},
    policy::Rule,
    request::{Host, Method, TokenForm, browser::Browser},
    revocation::Generation,
    token::{Secret, Signer, TokenTerms},
};

mod cookies;

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

fn terms() -> TokenTerms {
    TokenTerms {
        issuer: "doorward".into(),
        audience: "doorward".into(),
        lifetime: Duration::from_secs(3600),
        leeway: Duration::from_secs(30),
    }
}

fn keys() -> Keyring {
    let secret = Secret::parse(b"f3b1c2d4e5a60718293a4b5c6d7e8f90").unwrap();
    Keyring::of_secret(&secret, terms().lasts())
}

pub(crate) fn example() -> Judge {
    let rule = |path, allow| Rule::new(path, &[], &[], Demand::parse(allow).unwrap()).unwrap();
    Judge {
        policy: Policy::new(vec![
            rule("/public/*", "public"),
            rule("/login", "login"),
            rule("/me", "signed-in"),
            rule("/admin/*", "role:admin"),
            rule("/closed", "nobody"),
        ])
        .unwrap(),
        verifier: Verifier::of(&keys(), terms()),
        revoked: Arc::new(Revocations::new(None)),
        forwards_bearer: true,
        allows_preflight: false,
        keys: KeySource::Off,
        sign_in: None,
    }
}

pub(crate) fn token(roles: &str) -> String {
    let identity = Identity {
        subject: "7".into(),
        username: Username::parse("ada").unwrap(),
        roles: Roles::parse_list(roles).unwrap(),
    };
    let signer = Signer::new(Arc::new(keys()), terms());
    let token = signer.issue(&identity, Generation(0), None, NOW).unwrap();
    format!("Bearer {}", token.expose())
}

fn judge(rules: &Judge, method: &str, path: &str, authorization: &[&str]) -> String {
    let values = authorization.iter().map(|value| value.as_bytes());
    judge_credential(rules, method, path, Credential::parse(values))
}

fn judge_credential(rules: &Judge, method: &str, path: &str, credential: Credential<'_>) -> String {
    let request = Request {
        method: Method::parse(method.as_bytes()).unwrap(),
        host: Host::parse(b"gateway.example").unwrap(),
        path: Path::parse(path.as_bytes(), Tolerance::default()).unwrap(),
        credential,
        preflight: (method == "OPTIONS").then(|| Method::parse(b"GET").unwrap()),
        body: Body::Absent,
        all: false,
        form: TokenForm::Plain,
        answerable: Answerable::Anything,
        browser: Browser::default(),
    };
    match rules.judge(&request, NOW).step {
        Step::Act(_) => "attempt".into(),
        Step::Defer => "defer".into(),
        Step::Done(Decision::Done(_)) => "done".into(),
        Step::Done(Decision::Issue(_)) => "issue".into(),
        Step::Done(Decision::Deny(denial)) => denial.reason().name().into(),
        Step::Done(Decision::Allow(Admission {
            caller,
            authorization,
            ..
        })) => {
            let caller = match caller {
                Caller::Anonymous => "anonymous",
                Caller::Known(principal) if principal.key().is_some() => "key",
                Caller::Known(_) => "known",
            };
            let header = match authorization {
                Forwarding::Keep => "keep",
                Forwarding::Strip => "strip",
            };
            format!("{caller} {header}")
        }
    }
}

/// The core table: every credential on every kind of route.
#[test]
fn the_core_table() {
    let rules = example();
    let (plain, admin) = (token(""), token("admin"));
    let bad = format!("{plain}x");
    let basic = "Basic YWRhOnNlY3JldA==";
    let credentials: [&[&str]; 7] = [
        &[],
        &[basic],
        &[&plain],
        &[&admin],
        &[&bad],
        &["Digest x"],
        &[&plain, &plain],
    ];
    for (method, path, expected) in [
        (
            "GET",
            "/public/x",
            [
                "anonymous keep",
                "anonymous strip",
                "known keep",
                "known keep",
                "anonymous strip",
                "anonymous strip",
                "malformed-authorization",
            ],
        ),
        (
            "POST",
            "/login",
            [
                "missing-credentials",
                "attempt",
                "missing-credentials",
                "missing-credentials",
                "missing-credentials",
                "missing-credentials",
                "malformed-authorization",
            ],
        ),
        ("GET", "/login", ["endpoint-method"; 7]),
        (
            "GET",
            "/me",
            [
                "missing-token",
                "missing-token",
                "known keep",
                "known keep",
                "token-signature",
                "missing-token",
                "malformed-authorization",
            ],
        ),
        (
            "GET",
            "/admin/x",
            [
                "missing-token",
                "missing-token",
                "missing-role",
                "known keep",
                "token-signature",
                "missing-token",
                "malformed-authorization",
            ],
        ),
        ("GET", "/closed", ["no-rule"; 7]),
        ("GET", "/elsewhere", ["no-rule"; 7]),
        ("GET", "/ADMIN/x", ["two-readings"; 7]),
    ] {
        for (credential, expected) in credentials.iter().zip(expected) {
            assert_eq!(
                judge(&rules, method, path, credential),
                expected,
                "{path} {credential:?}"
            );
        }
    }
}

#[test]
fn bearer_tokens_are_removed_if_forwarding_is_off() {
    let mut rules = example();
    rules.forwards_bearer = false;
    let plain = token("");
    assert_eq!(judge(&rules, "GET", "/me", &[&plain]), "known strip");
    assert_eq!(judge(&rules, "GET", "/public/x", &[]), "anonymous keep");
}

#[test]
fn our_tokens_are_removed_while_revocations_are_unknown() {
    let mut rules = example();
    let plain = token("");
    // Revocations have not been read yet.
    rules.revoked = Arc::new(Revocations::new(Some(Duration::from_secs(30))));
    assert_eq!(
        judge(&rules, "GET", "/public/x", &[&plain]),
        "anonymous strip"
    );
    assert_eq!(
        judge(&rules, "GET", "/public/x", &["Bearer opaque"]),
        "anonymous keep"
    );
}

/// A token of another issuer may belong to the service, unless it is revoked here.
#[test]
fn tokens_of_other_issuers_stay_unless_they_are_revoked() {
    let id = KeyId::parse("theirs").unwrap();
    let file = Key::generate(&id, Algorithm::Es256, UnixTime(0)).unwrap();
    let key = Key::read("k", file.as_bytes()).unwrap();
    let issuer = Issuer::new(IssuerTerms {
        issuer: "https://id.example.com/".into(),
        audience: "my-api".into(),
        prefix: "corp/".into(),
        username: "login".into(),
        roles: None,
        accept_roles: Roles::default(),
        grant: Roles::default(),
        algorithms: vec![Algorithm::Es256],
    });
    let document = json!({"keys": [key.public()]});
    issuer.take(document.to_string().as_bytes()).unwrap();
    let mut rules = example();
    rules.verifier = rules.verifier.believing(Arc::new([issuer]));
    let of = |audience: &str| {
        let claims = json!({
            "iss": "https://id.example.com/", "aud": audience, "sub": "7", "login": "ada",
            "iat": NOW.0, "exp": NOW.0 + 60,
        });
        let signed = jws::sign(claims.to_string().as_bytes(), &key).unwrap();
        format!("Bearer {signed}")
    };
    let (ours, theirs) = (of("my-api"), of("their-api"));
    let public = |rules: &Judge, token: &str| judge(rules, "GET", "/public/x", &[token]);
    assert_eq!(public(&rules, &ours), "known keep");
    assert_eq!(public(&rules, &theirs), "anonymous keep");
    let subject = "https://id.example.com/|7";
    rules.revoked.set_inactive([subject.into()].into());
    assert_eq!(public(&rules, &ours), "anonymous strip");
    assert_eq!(public(&rules, &theirs), "anonymous keep");
}

#[test]
fn preflights_pass_if_configured_and_a_rule_allows_somebody() {
    let mut rules = example();
    assert_eq!(judge(&rules, "OPTIONS", "/me", &[]), "missing-token");
    rules.allows_preflight = true;
    assert_eq!(judge(&rules, "OPTIONS", "/me", &[]), "anonymous keep");
    assert_eq!(judge(&rules, "OPTIONS", "/admin/x", &[]), "anonymous keep");
    assert_eq!(judge(&rules, "OPTIONS", "/closed", &[]), "no-rule");
    assert_eq!(judge(&rules, "OPTIONS", "/elsewhere", &[]), "no-rule");
    assert_eq!(judge(&rules, "OPTIONS", "/login", &[]), "endpoint-method");
    assert_eq!(
        judge(&rules, "OPTIONS", "/me", &["Digest x"]),
        "missing-token"
    );
}

#[test]
fn a_rule_that_names_options_decides_preflights() {
    let rule = |path: &str, methods: &[&str], allow| {
        let methods: Vec<_> = methods.iter().map(ToString::to_string).collect();
        Rule::new(path, &methods, &[], Demand::parse(allow).unwrap()).unwrap()
    };
    let mut rules = example();
    rules.allows_preflight = true;
    rules.policy = Policy::new(vec![
        rule("/*", &[], "signed-in"),
        rule("/closed/*", &[], "public"),
        rule("/closed/*", &["OPTIONS"], "nobody"),
        rule("/closed/open/*", &[], "signed-in"),
        rule("/known", &["GET"], "public"),
        rule("/known", &["OPTIONS", "PUT"], "signed-in"),
        rule("/asked", &["OPTIONS"], "public"),
    ])
    .unwrap();
    for (path, expected) in [
        ("/", "anonymous keep"),
        ("/closed/x", "no-rule"),
        ("/Closed/x", "two-readings"),
        ("/closed/open/x", "anonymous keep"),
        ("/known", "missing-token"),
        ("/asked", "anonymous keep"),
    ] {
        assert_eq!(judge(&rules, "OPTIONS", path, &[]), expected, "{path}");
    }
}
