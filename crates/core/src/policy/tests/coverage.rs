//! Which rules decide the requests of an operation.

use proptest::prelude::*;

use super::*;

fn covered(policy: &Policy, method: &str, template: &str) -> Vec<String> {
    let template = PathTemplate::parse(template).unwrap();
    let method = Method::parse(method.as_bytes()).unwrap();
    let host = Host::parse(b"").unwrap();
    let found = cover(policy, method, host, &template, Tolerance::default()).unwrap();
    let shown = found.into_iter().map(|(by, path)| {
        let rule = by.rule(policy).map(|rule| rule.name().to_string());
        format!("{path}: {by:?} {}", rule.unwrap_or_default())
    });
    shown.collect()
}

#[test]
fn an_operation_is_shown_with_every_rule_that_decides_some_of_its_requests() {
    let policy = policy(&[
        ("/users/*", "", "", "signed-in"),
        ("/users/admin", "", "", "role:admin"),
        ("/users/me/photo.png", "", "", "public"),
        ("/docs", "GET", "", "public"),
        ("/login", "", "", "login"),
    ]);
    for (method, template, expected) in [
        ("GET", "/users", &["/users: Rule(4) /users/*"][..]),
        (
            "GET",
            "/users/{id}",
            &[
                "/users/any: Rule(4) /users/*",
                "/users/admin: Rule(1) /users/admin",
            ],
        ),
        (
            "GET",
            "/users/{id}/photo.{format}",
            &[
                "/users/any/photo.any: Rule(4) /users/*",
                "/users/me/photo.png: Rule(0) /users/me/photo.png",
            ],
        ),
        (
            "GET",
            "/users/{id}/photo-{size}",
            &["/users/any/photo-any: Rule(4) /users/*"],
        ),
        ("GET", "/docs", &["/docs: Rule(3) GET /docs"]),
        ("PUT", "/docs", &["/docs: NoRule "]),
        ("GET", "/login", &["/login: EndpointMethod(2) POST /login"]),
        ("GET", "/Docs", &["/Docs: TwoReadings(3) GET /docs"]),
        (
            "POST",
            "/{anything}",
            &[
                "/any: NoRule ",
                "/login: Rule(2) POST /login",
                "/users: Rule(4) /users/*",
            ],
        ),
    ] {
        let mut found = covered(&policy, method, template);
        found.sort();
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(found, expected, "{method} {template}");
    }
}

#[test]
fn a_free_value_is_none_that_a_rule_names() {
    let policy = policy(&[
        ("/*", "", "", "signed-in"),
        ("/ANY", "", "", "nobody"),
        ("/any1/*", "", "", "public"),
    ]);
    assert_eq!(
        covered(&policy, "GET", "/{x}").first().unwrap(),
        "/any2: Rule(2) /*"
    );
}

#[test]
fn templates_that_are_none_are_refused() {
    for (text, fault) in [
        ("users", TemplateFault::NotAbsolute),
        ("", TemplateFault::NotAbsolute),
        ("/{id", TemplateFault::Braces),
        ("/id}", TemplateFault::Braces),
        ("/a}{b}", TemplateFault::Braces),
        ("/{a{b}}", TemplateFault::Braces),
        ("/{a/b}", TemplateFault::Braces),
    ] {
        assert_eq!(PathTemplate::parse(text), Err(fault), "{text}");
    }
    let template = PathTemplate::parse("/a b/{id}").unwrap();
    let get = Method::parse(b"GET").unwrap();
    let found = cover(
        &policy(&[]),
        get,
        Host::parse(b"").unwrap(),
        &template,
        Tolerance::default(),
    );
    assert_eq!(found, Err(crate::path::PathFault::Character));
}

fn a_rule() -> impl Strategy<Value = (String, String, String)> {
    (
        "(/(a|b|a\\.b|any)){1,3}(/\\*)?",
        prop::sample::select(vec!["", "GET", "POST"]),
        prop::sample::select(vec!["public", "signed-in", "role:admin", "nobody", "login"]),
    )
        .prop_map(|(path, methods, allow)| (path, methods.into(), allow.into()))
}

proptest! {
    /// Whatever the parameters are, what decides is among what covers the operation; and each example is of the operation.
    #[test]
    fn every_request_of_an_operation_is_covered(
        rules in prop::collection::vec(a_rule(), 0..8),
        operation in prop::collection::vec(prop::sample::select(vec!["a", "b", "{x}", "{x}.b", "a.{x}"]), 1..4),
        values in prop::collection::vec(prop::sample::select(vec!["a", "b", "any", "a.b", "z", "ANY", "any1"]), 3),
    ) {
        let mut apart: Vec<Rule> = Vec::new();
        for (path, methods, allow) in &rules {
            apart.push(rule(path, methods, "", allow));
            if Policy::new(apart.clone()).is_err() {
                apart.pop();
            }
        }
        let policy = Policy::new(apart).unwrap();
        let template = PathTemplate::parse(&format!("/{}", operation.join("/"))).unwrap();
        let (get, host) = (Method::parse(b"GET").unwrap(), Host::parse(b"").unwrap());
        let found = cover(&policy, get, host, &template, Tolerance::default()).unwrap();
        let segments = operation.iter().zip(&values).map(|(own, value)| own.replace("{x}", value));
        let path = segments.fold(String::new(), |path, own| format!("{path}/{own}"));
        let read = Path::parse(path.as_bytes(), Tolerance::default()).unwrap();
        let side = Side { policy: &policy, precedence: Precedence::HostFirst };
        let by = side.decided_by(policy.access(get, host, &read));
        prop_assert!(
            matches!(by, DecidedBy::TwoReadings(_)) || found.iter().any(|(own, _)| *own == by),
            "{path}: {by:?} {found:?}"
        );
        for (by, path) in &found {
            let read = Path::parse(path.as_bytes(), Tolerance::default()).unwrap();
            prop_assert_eq!(*by, side.decided_by(policy.access(get, host, &read)));
            prop_assert_eq!(path.split('/').count(), operation.len() + 1);
        }
    }
}
