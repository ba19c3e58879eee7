use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    account::{Identity, Roles, Username},
    issuer::{Issuer, IssuerTerms},
    jws,
    key::{Algorithm, Key, KeyId},
    keyring::Keyring,
    machine_key::{KeyName, MachineKey},
    machine_keys::{KeyEntry, KeyLimits, MachineKeys, Owner, OwnerState},
    path::{Path, Tolerance},
    policy::Rule,
    request::{Host, Method},
    revocation::Generation,
    token::{Secret, Signer, TokenTerms},
};

const NOW: UnixTime = UnixTime(1_800_000_000);

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

fn example() -> Judge {
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
    }
}

fn token(roles: &str) -> String {
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

/// The example with keys, one rule that takes them as a password, and keys of an owner with the role `ops`.
struct WithKeys {
    judge: Judge,
    keys: Arc<MachineKeys>,
}

impl WithKeys {
    fn new() -> Self {
        let rule = |path: &str, allow| {
            let rule = Rule::new(path, &[], &[], Demand::parse(allow).unwrap()).unwrap();
            match path.contains("git") {
                true => rule.taking_basic_keys().unwrap(),
                false => rule,
            }
        };
        let keys = Arc::new(MachineKeys::default());
        keys.have_been_read();
        let policy = Policy::new(vec![
            rule("/public/*", "public"),
            rule("/public/git", "public"),
            rule("/login", "login"),
            rule("/logout", "logout"),
            rule("/password", "password"),
            rule("/me", "signed-in"),
            rule("/git/*", "signed-in"),
            rule("/ops/*", "role:ops"),
            rule("/admin/*", "role:admin"),
            rule("/closed", "nobody"),
        ]);
        Self {
            judge: Judge {
                policy: policy.unwrap(),
                keys: KeySource::Here(Arc::clone(&keys)),
                ..example()
            },
            keys,
        }
    }

    fn add(&self, roles: Option<&str>, paths: &[&str], expires: UnixTime) -> String {
        let key = MachineKey::generate().unwrap();
        let roles = roles.map(|roles| Roles::parse_list(roles).unwrap());
        let limits = KeyLimits::new(roles, paths.iter().copied()).unwrap();
        let entry = KeyEntry {
            hash: key.hash(),
            name: KeyName::parse("deploy").unwrap(),
            limits: Some(Arc::new(limits)),
            expires: Some(expires),
            ended: false,
        };
        let owner = Owner {
            subject: "7".into(),
            username: Username::parse("ada").unwrap(),
            state: OwnerState::Active(Arc::new(Roles::parse_list("ops").unwrap())),
        };
        self.keys.set(key.id(), entry, Arc::new(owner));
        key.expose().to_owned()
    }
}

fn basic(password: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("any:{password}"))
    )
}

/// The core table again, with keys in each place.
#[test]
fn keys_by_place_and_demand() {
    let with = WithKeys::new();
    let later = UnixTime(NOW.0 + 60);
    let good = with.add(None, &[], later);
    let limited = with.add(Some("admin"), &["/me"], later);
    let expired = with.add(None, &[], NOW);
    let cut = good[..80].to_owned();
    let keys = [&good, &limited, &expired, &cut];
    let by_token = |path: &str, method: &str| {
        keys.map(|key| {
            let bearer = judge(&with.judge, method, path, &[&format!("Bearer {key}")]);
            let header = Credential::parse_key([key.as_bytes()]);
            let header = judge_credential(&with.judge, method, path, header);
            assert_eq!(bearer, header, "{path}");
            bearer
        })
    };
    let by_password = |path: &str| keys.map(|key| judge(&with.judge, "GET", path, &[&basic(key)]));
    for (path, token, password) in [
        (
            "/public/x",
            [
                "key strip",
                "anonymous strip",
                "anonymous strip",
                "anonymous strip",
            ],
            ["anonymous strip"; 4],
        ),
        (
            "/public/git",
            [
                "key strip",
                "anonymous strip",
                "anonymous strip",
                "anonymous strip",
            ],
            [
                "key strip",
                "anonymous strip",
                "anonymous strip",
                "anonymous strip",
            ],
        ),
        (
            "/me",
            ["key strip", "key strip", "key-expired", "key-malformed"],
            ["missing-token"; 4],
        ),
        (
            "/git/x",
            ["key strip", "key-path", "key-expired", "key-malformed"],
            ["key strip", "key-path", "key-expired", "key-malformed"],
        ),
        (
            "/ops/x",
            ["key strip", "missing-role", "key-expired", "key-malformed"],
            ["missing-token"; 4],
        ),
        (
            "/admin/x",
            [
                "missing-role",
                "missing-role",
                "key-expired",
                "key-malformed",
            ],
            ["missing-token"; 4],
        ),
        ("/closed", ["no-rule"; 4], ["no-rule"; 4]),
        ("/elsewhere", ["no-rule"; 4], ["no-rule"; 4]),
        ("/ME", ["two-readings"; 4], ["two-readings"; 4]),
    ] {
        let token = match path {
            // Its path is refused before its roles are looked at.
            "/ops/x" | "/admin/x" => [token[0], "key-path", token[2], token[3]],
            _ => token,
        };
        assert_eq!(by_token(path, "GET"), token, "{path}");
        assert_eq!(by_password(path), password, "{path}");
    }
    for path in ["/logout", "/password"] {
        assert_eq!(by_token(path, "POST"), ["key-not-accepted"; 4], "{path}");
    }
    assert_eq!(by_token("/login", "POST"), ["missing-credentials"; 4]);
}

#[test]
fn where_keys_are_taken_as_a_password_nothing_else_is() {
    let with = WithKeys::new();
    let judge = |path, shown: &[&str]| judge(&with.judge, "GET", path, shown);
    let token = token("ops");
    for (shown, expected) in [
        (&[][..], "missing-key"),
        (&["Digest x"], "missing-key"),
        (&[&basic("secret")], "key-malformed"),
        (&["Basic !"], "key-malformed"),
        (&[&token], "known keep"),
    ] {
        assert_eq!(judge("/git/x", shown), expected, "{shown:?}");
    }
    assert_eq!(judge("/public/git", &[&basic("secret")]), "anonymous strip");
}

/// Without keys, a key is a token like any other that is not ours.
#[test]
fn keys_that_are_off_change_nothing() {
    let mut with = WithKeys::new();
    let key = with.add(None, &[], UnixTime(NOW.0 + 60));
    let shown = [&*format!("Bearer {key}"), &basic(&key)];
    let all = |judge_: &Judge| {
        shown.map(|shown| {
            ["/me", "/git/x", "/public/x", "/logout"]
                .map(|path| judge(judge_, "GET", path, &[shown]))
        })
    };
    let on = all(&with.judge);
    with.judge.keys = KeySource::Off;
    let off = all(&with.judge);
    assert_ne!(on, off);
    let malformed = "token-parts";
    let post = "endpoint-method";
    assert_eq!(off[0], [malformed, malformed, "anonymous keep", post]);
    let missing = "missing-token";
    assert_eq!(off[1], [missing, missing, "anonymous strip", post]);
}

/// The module inside Envoy has no keys: it decides what does not depend on them, and leaves the rest.
#[test]
fn keys_elsewhere_are_never_judged_here() {
    let mut with = WithKeys::new();
    let key = with.add(None, &[], UnixTime(NOW.0 + 60));
    with.judge.keys = KeySource::Elsewhere;
    let judge = |path, shown: &[&str]| judge(&with.judge, "GET", path, shown);
    let bearer = format!("Bearer {key}");
    for path in ["/me", "/git/x", "/public/x", "/public/git", "/admin/x"] {
        assert_eq!(judge(path, &[&bearer]), "defer", "{path}");
        assert_eq!(judge(path, &[&bearer, &bearer]), "malformed-authorization");
    }
    assert_eq!(judge("/git/x", &[&basic(&key)]), "defer");
    assert_eq!(judge("/me", &[&basic(&key)]), "missing-token");
    assert_eq!(judge("/git/x", &[]), "missing-key");
    assert_eq!(judge("/closed", &[&bearer]), "no-rule");
    assert_eq!(judge("/elsewhere", &[&bearer]), "no-rule");
    assert_eq!(judge("/me", &[&token("")]), "known keep");
}

#[test]
fn keys_wait_for_revocations_too() {
    let mut with = WithKeys::new();
    let key = with.add(None, &[], UnixTime(NOW.0 + 60));
    with.judge.revoked = Arc::new(Revocations::new(Some(Duration::from_secs(30))));
    let bearer = format!("Bearer {key}");
    let judge = |path| judge(&with.judge, "GET", path, &[&bearer]);
    assert_eq!(judge("/me"), "revocations-stale");
    assert_eq!(judge("/public/x"), "anonymous strip");
}
