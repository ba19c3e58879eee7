mod coverage;
mod differences;
mod plain;
mod properties;

use super::*;
use crate::path::{Also, Tolerance};

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
        Access::MethodCase => "method case".into(),
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
fn the_most_specific_rule_decides_in_any_order() {
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
            ("GET", "x.internal.example", "/api/x", "role:x"),
            ("GET", "x.internal.example", "/api/admin/status", "role:x"),
            ("GET", "x.internal.example", "/other", "nobody"),
            ("POST", "", "/api/x", "no host"),
        ] {
            assert_eq!(
                decide(&policy, method, host, path),
                expected,
                "{method} {host} {path}"
            );
        }
    }
}

/// The order of the Gateway API: hosts in the order of `HTTPRouteSpec.hostnames`, then paths and methods in the order of
/// `HTTPRouteRule.matches`.
#[test]
fn precedence_is_host_then_path_then_method() {
    let policy = policy(&[
        ("/login", "", "", "login"),
        ("/admin/users", "GET", "", "role:everywhere"),
        ("/*", "", "api.example.com", "signed-in"),
        ("/open/*", "", "*.example.com", "public"),
        ("/v1/login", "", "*.example.com", "login"),
        ("/*", "", "*.com", "role:com"),
        ("/v2/*", "", "api.example.com", "role:prefix"),
        ("/v2/one", "", "api.example.com", "role:exact"),
        ("/v2/one", "POST", "api.example.com", "role:method"),
        ("/v2/one/*", "PUT", "api.example.com", "role:prefix-method"),
        ("/get/*", "GET", "www.example.com", "role:get"),
    ]);
    for (method, host, path, expected) in [
        // Host before path and method.
        ("GET", "api.example.com", "/admin/users", "signed-in"),
        ("GET", "other.org", "/admin/users", "role:everywhere"),
        ("GET", "api.example.com", "/open/x", "signed-in"),
        ("GET", "www.example.com", "/open/x", "public"),
        ("POST", "api.example.com", "/login", "signed-in"),
        // An exact host before a wildcard, a longer wildcard before a shorter one.
        ("GET", "a.b.example.com", "/open/x", "public"),
        ("GET", "a.b.example.com", "/other", "role:com"),
        ("GET", "example.com", "/open/x", "role:com"),
        // If no rule of a host covers the method and the path, the rules of the next host decide.
        ("GET", "www.example.com", "/get/x", "role:get"),
        ("POST", "www.example.com", "/get/x", "role:com"),
        ("POST", "other.org", "/login", "login"),
        // An endpoint of a host answers before rules of less specific hosts.
        ("POST", "www.example.com", "/v1/login", "login"),
        ("GET", "www.example.com", "/v1/login", "405"),
        ("GET", "api.example.com", "/v1/login", "signed-in"),
        // Exact before prefix, prefix by length, then the method.
        ("GET", "api.example.com", "/v2", "role:prefix"),
        ("GET", "api.example.com", "/v2/two", "role:prefix"),
        ("GET", "api.example.com", "/v2/one", "role:exact"),
        ("POST", "api.example.com", "/v2/one", "role:method"),
        ("PUT", "api.example.com", "/v2/one", "role:exact"),
        ("PUT", "api.example.com", "/v2/one/x", "role:prefix-method"),
        ("GET", "api.example.com", "/v2/one/x", "role:prefix"),
        ("GET", "api.example.com", "/v20", "signed-in"),
    ] {
        assert_eq!(
            decide(&policy, method, host, path),
            expected,
            "{method} {host}{path}"
        );
    }
}

#[test]
fn a_get_rule_covers_head_unless_a_rule_names_head() {
    let policy = policy(&[
        ("/*", "", "", "public"),
        ("/items/*", "GET", "", "role:reader"),
        ("/items/*", "POST", "", "role:writer"),
        ("/items/named", "GET", "", "role:reader"),
        ("/items/named", "HEAD", "", "signed-in"),
        ("/wide/*", "HEAD", "", "signed-in"),
        ("/wide/narrow", "GET", "", "role:reader"),
        ("/hosts", "GET", "admin.example", "role:admin"),
        ("/hosts", "HEAD", "", "signed-in"),
        ("/both", "GET HEAD", "", "signed-in"),
        ("/sign", "GET", "", "login"),
        ("/sign", "", "", "public"),
    ]);
    for (method, host, path, expected) in [
        ("HEAD", "a", "/items/1", "role:reader"),
        ("GET", "a", "/items/1", "role:reader"),
        ("POST", "a", "/items/1", "role:writer"),
        ("PUT", "a", "/items/1", "public"),
        ("HEAD", "a", "/items/named", "signed-in"),
        ("HEAD", "a", "/wide/x", "signed-in"),
        ("HEAD", "a", "/wide/narrow", "role:reader"),
        ("HEAD", "admin.example", "/hosts", "role:admin"),
        ("HEAD", "a", "/hosts", "signed-in"),
        ("GET", "a", "/hosts", "public"),
        ("HEAD", "a", "/both", "signed-in"),
        ("HEAD", "a", "/sign", "login"),
    ] {
        assert_eq!(
            decide(&policy, method, host, path),
            expected,
            "{method} {host}{path}"
        );
    }
}

#[test]
fn allowed_methods_are_those_that_the_rule_takes() {
    for (methods, expected) in [
        ("", vec!["POST"]),
        ("GET", vec!["GET", "HEAD"]),
        ("HEAD GET", vec!["HEAD", "GET"]),
        ("PUT", vec!["PUT"]),
    ] {
        assert_eq!(
            rule("/login", methods, "", "login").allowed_methods(),
            expected
        );
    }
}

#[test]
fn a_method_that_rules_name_is_refused_in_another_case() {
    let policy = policy(&[
        ("/cache/*", "PURGE", "", "role:ops"),
        ("/*", "", "", "public"),
        ("/odd", "Subscribe", "", "role:ops"),
    ]);
    for (method, path, expected) in [
        ("PURGE", "/cache/x", "role:ops"),
        ("Purge", "/cache/x", "method case"),
        ("purge", "/", "method case"),
        ("Subscribe", "/odd", "role:ops"),
        ("SUBSCRIBE", "/odd", "method case"),
        ("unheard-of", "/", "public"),
    ] {
        assert_eq!(
            decide(&policy, method, "", path),
            expected,
            "{method} {path}"
        );
    }
}

#[test]
fn methods_in_two_cases_are_faults() {
    let faults = |methods: &str| {
        let methods: Vec<_> = methods.split(' ').map(String::from).collect();
        Rule::new("/", &methods, &[], Demand::Public).unwrap_err()
    };
    let fault = RuleFault::MethodCase("Post".into(), "POST".into());
    assert!(fault.to_string().ends_with("write \"POST\""), "{fault}");
    assert_eq!(faults("GET Post"), [fault]);
    let rules = vec![
        rule("/a", "PURGE", "", "public"),
        rule("/b", "purge", "", "public"),
        rule("/c", "PURGE", "", "public"),
    ];
    let conflict = Conflict::MethodCase("PURGE".into(), "purge".into());
    assert_eq!(Policy::new(rules).unwrap_err(), [conflict]);
}

#[test]
fn a_request_without_a_rule_is_denied() {
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

/// Escapes make a path longer, but not more specific in the reading that decodes them.
#[test]
fn a_rule_is_as_specific_as_the_reading_that_matches() {
    let policy = policy(&[
        ("/%61%62%63/*", "", "", "nobody"),
        ("/abc/x/*", "", "", "public"),
    ]);
    for (path, expected) in [
        ("/abc/x/y", "public"),
        ("/%61%62%63/y", "nobody"),
        ("/%61%62%63/x/y", "two readings"),
        ("/abc/y", "two readings"),
    ] {
        assert_eq!(decide(&policy, "GET", "", path), expected, "{path}");
    }
}

#[test]
fn a_hundred_rules_that_tie_are_named_once_each() {
    let rules = vec![rule("/a", "GET POST", "x.y z.y", "public"); 100];
    let conflicts = Policy::new(rules).unwrap_err();
    assert_eq!(conflicts.len(), 99);
}

#[test]
fn configured_readings_with_another_demand_are_refused() {
    let policy = policy(&[
        ("/*", "", "", "public"),
        ("/admin/*", "", "", "role:admin"),
        ("/report", "", "", "role:auditor"),
        ("/report.csv", "", "", "signed-in"),
        ("/logo.png", "", "", "public"),
        ("/site", "", "", "public"),
        ("/login", "", "", "login"),
    ]);
    let decide = |path: &str, extension, trailing_dot| {
        let tolerance = Tolerance {
            also: Also {
                extension,
                trailing_dot,
            },
            ..Tolerance::default()
        };
        let path = Path::parse(path.as_bytes(), tolerance).unwrap();
        let get = Method::parse(b"GET").unwrap();
        match policy.access(get, Host::parse(b"").unwrap(), &path) {
            Access::Rule(rule) => rule.demand.to_string(),
            Access::TwoReadings(_) => "two readings".into(),
            Access::EndpointMethod(_) => "405".into(),
            Access::NoRule | Access::NoHost | Access::MethodCase => "refused".into(),
        }
    };
    for (path, as_it_is, extension, trailing_dot) in [
        ("/admin.json", "public", "two readings", "public"),
        ("/admin%2ejson", "public", "two readings", "public"),
        ("/admin.tar.gz", "public", "two readings", "public"),
        ("/Admin.json", "public", "two readings", "public"),
        ("/admin.json/", "public", "two readings", "public"),
        ("/admin/x.json", "role:admin", "role:admin", "role:admin"),
        ("/admin.json/x", "public", "public", "public"),
        ("/report.pdf", "public", "two readings", "public"),
        ("/report.csv", "signed-in", "signed-in", "signed-in"),
        ("/report.csv.gz", "public", "two readings", "public"),
        ("/logo.png", "public", "public", "public"),
        ("/site.css", "public", "public", "public"),
        ("/login.json", "public", "two readings", "public"),
        ("/admin.", "public", "two readings", "two readings"),
        ("/admin%20", "public", "public", "two readings"),
        ("/admin.%20/x", "public", "public", "two readings"),
        ("/report..", "public", "two readings", "two readings"),
        ("/report.csv.", "public", "two readings", "two readings"),
        ("/other.", "public", "public", "public"),
    ] {
        assert_eq!(decide(path, false, false), as_it_is, "{path}");
        assert_eq!(decide(path, true, false), extension, "{path}, extension");
        assert_eq!(
            decide(path, false, true),
            trailing_dot,
            "{path}, trailing-dot"
        );
        let either = [extension, trailing_dot].contains(&"two readings");
        let both = decide(path, true, true);
        assert!(!either || both == "two readings", "{path}, both: {both}");
    }
}

#[test]
fn a_login_route_answers_405_unless_another_rule_matches() {
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
fn invalid_rules_report_all_faults() {
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

#[test]
fn a_rule_is_named_by_its_methods_hosts_and_path() {
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
