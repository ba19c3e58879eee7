use proptest::prelude::*;

use super::*;
use crate::domain::path::Tolerance;

fn rule(path: &str, methods: &str, hosts: &str, allow: &str) -> Rule {
    let list = |text: &str| {
        text.split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let demand = Demand::parse(allow).unwrap();
    Rule::new(path, &list(methods), &list(hosts), demand).unwrap()
}

fn policy(rules: &[(&str, &str, &str, &str)]) -> Policy {
    let rules = rules
        .iter()
        .map(|(path, methods, hosts, allow)| rule(path, methods, hosts, allow));
    Policy::new(rules.collect()).unwrap()
}

fn decide(policy: &Policy, method: &str, host: &str, path: &str) -> String {
    let parsed = Path::parse(path.as_bytes(), Tolerance::default()).unwrap();
    match policy.access(
        Method::parse(method.as_bytes()).unwrap(),
        Host::parse(host.as_bytes()).unwrap(),
        &parsed,
    ) {
        Access::Rule(rule) => rule.demand.to_string(),
        Access::EndpointMethod(_) => "405".into(),
        Access::NoRule => "no rule".into(),
        Access::TwoReadings(_) => "two readings".into(),
        Access::NoHost => "no host".into(),
    }
}

#[test]
fn the_built_in_rules_are_the_endpoints_and_signed_in() {
    let policy = Policy::built_in(&[Endpoint::Login, Endpoint::Logout]);
    assert_eq!(policy.rules().len(), 3);
    assert_eq!(decide(&policy, "POST", "", "/logout"), "logout");
    assert_eq!(decide(&policy, "GET", "", "/logout"), "405");
    assert_eq!(decide(&policy, "POST", "", "/refresh"), "signed-in");
    assert_eq!(decide(&policy, "POST", "", "/login"), "login");
    assert_eq!(decide(&policy, "GET", "", "/login"), "405");
    assert_eq!(decide(&policy, "GET", "", "/login/x"), "signed-in");
    assert_eq!(decide(&policy, "GET", "", "/"), "signed-in");
    assert_eq!(decide(&policy, "GET", "", "/a/b"), "signed-in");
}

#[test]
fn the_most_specific_rule_decides_whatever_the_order() {
    let mut rules = vec![
        ("/*", "", "", "nobody"),
        ("/api/*", "", "", "signed-in"),
        ("/api/*", "GET", "", "public"),
        ("/api/admin/*", "", "", "role:admin"),
        ("/api/admin/status", "", "", "public"),
        ("/api/*", "", "*.internal.example", "role:internal"),
        ("/api/*", "", "x.internal.example", "role:x"),
    ];
    for _ in 0..rules.len() {
        rules.rotate_left(1);
        let policy = policy(&rules);
        for (method, host, path, expected) in [
            ("POST", "a", "/api", "signed-in"),
            ("POST", "a", "/api/x", "signed-in"),
            ("GET", "a", "/api/x", "public"),
            ("GET", "a", "/apix", "nobody"),
            ("GET", "a", "/api/admin", "role:admin"),
            ("GET", "a", "/api/admin/status", "public"),
            ("GET", "a", "/api/admin/status/x", "role:admin"),
            ("GET", "a", "/api/adminx", "public"),
            ("POST", "y.internal.example", "/api/x", "role:internal"),
            ("POST", "a.b.internal.example", "/api/x", "role:internal"),
            ("POST", "X.Internal.Example:99", "/api/x", "role:x"),
            ("POST", "internal.example", "/api/x", "signed-in"),
            ("GET", "x.internal.example", "/api/x", "public"),
            ("POST", "", "/api/x", "no host"),
            ("get", "a", "/api/x", "signed-in"),
        ] {
            assert_eq!(
                decide(&policy, method, host, path),
                expected,
                "{method} {host} {path}"
            );
        }
    }
}

#[test]
fn no_rule_is_nobody() {
    let policy = policy(&[("/a", "GET", "", "public")]);
    assert_eq!(decide(&policy, "GET", "", "/b"), "no rule");
    assert_eq!(decide(&policy, "POST", "", "/a"), "no rule");
    assert_eq!(decide(&policy, "GET", "", "/a/b"), "no rule");
}

#[test]
fn readings_with_different_demands_are_refused() {
    let policy = policy(&[
        ("/*", "", "", "signed-in"),
        ("/admin/*", "", "", "role:admin"),
        ("/metrics", "", "", "role:ops"),
        ("/docs/*", "", "", "public"),
        ("/API/*", "", "", "role:api"),
        ("/login", "", "", "login"),
    ]);
    for (path, expected) in [
        ("/admin", "role:admin"),
        ("/admin/", "role:admin"),
        ("/Admin", "two readings"),
        ("/%61dmin", "two readings"),
        ("/admin%3fx", "two readings"),
        ("/admin/%61", "role:admin"),
        ("/metrics/", "two readings"),
        ("/METRICS", "two readings"),
        ("/docs/Caf%C3%A9", "public"),
        ("/DOCS/x", "two readings"),
        ("/api/x", "two readings"),
        ("/API/x", "role:api"),
        ("/%61bout", "signed-in"),
        ("/About/", "signed-in"),
        ("/Login", "two readings"),
    ] {
        assert_eq!(decide(&policy, "GET", "", path), expected, "{path}");
    }
}

#[test]
fn a_login_answers_other_methods_unless_another_rule_takes_them() {
    let policy = policy(&[
        ("/login", "", "", "login"),
        ("/login", "GET", "", "public"),
        ("/*", "", "", "signed-in"),
    ]);
    assert_eq!(decide(&policy, "POST", "", "/login"), "login");
    assert_eq!(decide(&policy, "GET", "", "/login"), "public");
    assert_eq!(decide(&policy, "PUT", "", "/login"), "405");
}

#[test]
fn ties_are_faults() {
    let tie = |rules: &[(&str, &str, &str, &str)]| {
        Policy::new(rules.iter().map(|(p, m, h, a)| rule(p, m, h, a)).collect()).is_err()
    };
    assert!(tie(&[
        ("/a", "", "", "public"),
        ("/a", "", "", "signed-in")
    ]));
    assert!(tie(&[
        ("/a", "GET PUT", "", "public"),
        ("/a", "PUT", "", "signed-in")
    ]));
    assert!(tie(&[
        ("/a", "", "x.y", "public"),
        ("/a", "", "x.y z.y", "signed-in")
    ]));
    assert!(tie(&[
        ("/a", "", "", "public"),
        ("/A", "", "", "signed-in")
    ]));
    assert!(!tie(&[
        ("/a", "GET", "", "public"),
        ("/a", "PUT", "", "signed-in")
    ]));
    assert!(!tie(&[
        ("/a", "GET", "", "public"),
        ("/a", "", "", "signed-in")
    ]));
    assert!(!tie(&[
        ("/a", "", "", "public"),
        ("/a/*", "", "", "signed-in")
    ]));
    assert!(!tie(&[
        ("/a", "", "x.y", "public"),
        ("/a", "", "*.y", "signed-in")
    ]));
}

#[test]
fn impossible_rules_say_everything_that_is_wrong() {
    let faults = Rule::new(
        "/a//b",
        &["GE T".into()],
        &["a:80".into(), "*".into()],
        Demand::Public,
    )
    .unwrap_err();
    assert_eq!(faults.len(), 4, "{faults:?}");
    for path in ["", "a", "/a*", "/a/*/b", "/a/", "/a?b", "/%2e/", "*"] {
        assert!(Rule::new(path, &[], &[], Demand::Public).is_err(), "{path}");
    }
    for word in ["", "Public", "role:", "role:a b", "admin"] {
        assert!(Demand::parse(word).is_err(), "{word}");
    }
    assert!(Demand::roles([]).is_err());
}

fn a_rule() -> impl Strategy<Value = (String, String, String, String)> {
    (
        "(/[ab]{1,2}){1,3}(/\\*)?",
        prop::sample::select(vec!["", "GET", "POST", "GET POST"]),
        prop::sample::select(vec!["", "x.example", "*.example"]),
        prop::sample::select(vec!["public", "signed-in", "role:admin", "nobody"]),
    )
        .prop_map(|(p, m, h, a)| (p, m.into(), h.into(), a.into()))
}

proptest! {
    #[test]
    fn a_new_rule_changes_only_what_it_matches(
        rules in prop::collection::vec(a_rule(), 0..6),
        new in a_rule(),
        path in "(/[ab]{1,2}){1,4}",
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        host in prop::sample::select(vec!["x.example", "y.example", "other"]),
    ) {
        let make = |r: &(String, String, String, String)| rule(&r.0, &r.1, &r.2, &r.3);
        let before: Vec<_> = rules.iter().map(make).collect();
        let mut after = before.clone();
        after.push(make(&new));
        let (Ok(before), Ok(after)) = (Policy::new(before), Policy::new(after)) else { return Ok(()); };
        let new = make(&new);
        let matched = new.path.matches(&path, Reading::Raw)
            && new.covers_method(Method::parse(method.as_bytes()).unwrap())
            && new.host_rank(Host::parse(host.as_bytes()).unwrap()).is_some();
        if !matched {
            prop_assert_eq!(decide(&before, method, host, &path), decide(&after, method, host, &path));
        }
    }
}

#[test]
fn rules_have_names_of_their_own() {
    let name = |path, methods: &[&str], hosts: &[&str]| {
        let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rule = Rule::new(path, &own(methods), &own(hosts), Demand::SignedIn).unwrap();
        rule.name().to_string()
    };
    assert_eq!(name("/*", &[], &[]), "/*");
    assert_eq!(name("/users", &["GET"], &[]), "GET /users");
    assert_eq!(
        name("/users/*", &["GET", "PUT"], &["a.example", "*.b.example"]),
        "GET,PUT a.example,*.b.example/users/*"
    );
}
