use super::*;
use crate::{
    machine_key::{KeyName, MachineKey},
    machine_keys::{KeyEntry, KeyLimits, MachineKeys, Owner, OwnerState},
};

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
fn with_basic_keys_any_other_password_is_a_malformed_key() {
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
fn no_key_is_accepted_while_revocations_are_stale() {
    let mut with = WithKeys::new();
    let key = with.add(None, &[], UnixTime(NOW.0 + 60));
    with.judge.revoked = Arc::new(Revocations::new(Some(Duration::from_secs(30))));
    let bearer = format!("Bearer {key}");
    let judge = |path| judge(&with.judge, "GET", path, &[&bearer]);
    assert_eq!(judge("/me"), "revocations-stale");
    assert_eq!(judge("/public/x"), "anonymous strip");
}

/// A key beside a cookie counts alone, as `Authorization` does, and the service sees neither.
#[test]
fn a_key_counts_and_the_cookie_beside_it_does_not() {
    let mut with = WithKeys::new();
    with.judge.sign_in = cookies::rules().sign_in;
    let good = with.add(None, &[], UnixTime(NOW.0 + 60));
    let cut = good[..80].to_owned();
    let own = cookies::cookie("admin");
    let both = format!("theme=dark; {own}");
    for (name, of) in [
        ("x-api-key", str::to_owned as fn(&str) -> String),
        ("authorization", |key| format!("Bearer {key}")),
        ("authorization", basic),
    ] {
        let (good, cut) = (of(&good), of(&cut));
        for (path, key, expected) in [
            ("/git/x", &good, "key with theme=dark"),
            ("/public/git", &good, "key with theme=dark"),
            ("/public/git", &cut, "anonymous with theme=dark"),
            ("/git/x", &cut, "key-malformed"),
        ] {
            let shown = [
                ("cookie", &*both),
                (name, key),
                ("sec-fetch-mode", "navigate"),
            ];
            let found = cookies::judged(&with.judge, "GET", path, &shown);
            assert_eq!(found, expected, "{name} {path}");
        }
        let shown = [("cookie", &*own), (name, &*good)];
        let found = cookies::judged(&with.judge, "GET", "/ops/x", &shown);
        // A password counts as a key only where a rule says so.
        let expected = match good.starts_with("Basic") {
            true => "missing-token",
            false => "key without cookies",
        };
        assert_eq!(found, expected, "{name}");
        // The keys elsewhere decide, too.
        let mut away = example();
        away.policy = with.judge.policy.clone();
        away.sign_in = with.judge.sign_in.clone();
        away.keys = KeySource::Elsewhere;
        assert_eq!(cookies::judged(&away, "GET", "/git/x", &shown), "defer");
    }
    // Without a key, the cookie counts, and somebody without either gets the form or, as a program, the challenge.
    let shown = [("cookie", &*own)];
    let found = cookies::judged(&with.judge, "GET", "/git/x", &shown);
    assert_eq!(found, "known without cookies");
    let found = cookies::judged(&with.judge, "GET", "/git/x", &[]);
    assert_eq!(found, "missing-key");
    let shown = [("sec-fetch-mode", "navigate")];
    let found = cookies::judged(&with.judge, "GET", "/git/x", &shown);
    assert_eq!(found, "missing-token -> /sign-in?return=/git/x");
}
