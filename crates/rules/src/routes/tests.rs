use std::time::Instant;

use doorward_core::path::Also;
use serde_json::json;

use super::*;

const ALL: RouteOptions<'_> = RouteOptions {
    endpoints: &Endpoint::ALL,
    tolerance: Tolerance {
        encoded_slash: false,
        encoded_percent: false,
        semicolon: false,
        double_slash: false,
        also: Also {
            extension: false,
            trailing_dot: false,
        },
    },
};

fn toml(text: &str) -> Result<Vec<String>, Vec<String>> {
    shown(of_toml(&Document::new("rules.toml", text), ALL))
}

fn json(value: &Json) -> Result<Vec<String>, Vec<String>> {
    shown(of_json("rules", value, ALL))
}

fn shown(read: Result<Policy, RouteFaults>) -> Result<Vec<String>, Vec<String>> {
    let rules = read.map(|policy| policy.rules().iter().map(ToString::to_string).collect());
    rules.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn toml_and_json_make_the_same_rules() {
    let from_toml = toml(
        r#"
[[route]]
path = "/admin/*"
methods = "GET"
hosts = ["a.example", "*.b.example"]
allow = ["admin", "ops"]

[[route]]
path = "/*"
allow = "signed-in"
"#,
    );
    let from_json = json(&json!([
        {"path": "/*", "allow": "signed-in"},
        {"path": "/admin/*", "methods": ["GET"], "hosts": ["a.example", "*.b.example"], "allow": ["admin", "ops"]},
    ]));
    let expected = [
        r#"path = "/admin/*", methods = ["GET"], hosts = ["a.example", "*.b.example"], allow = "role:admin or role:ops""#,
        r#"path = "/*", allow = "signed-in""#,
    ];
    assert_eq!(from_toml.unwrap(), expected);
    assert_eq!(from_json.unwrap(), expected);
}

#[test]
fn every_fault_has_its_place() {
    let faults = toml(
        r#"rout = 1
[[route]]
path = "/a"
alow = "public"
[[route]]
path = "/b"
hosts = []
allow = "everybody"
methods = [1]
"#,
    );
    let expected = [
        "rules.toml:1: rout: is not a setting; did you mean route?",
        "rules.toml:4: route[0].alow: is not a setting; did you mean allow?",
        "rules.toml:9: route[1].methods: is neither a string nor a list of strings",
        "rules.toml:2: route[0]: \"allow\" is missing; write",
        "rules.toml:7: route[1].hosts: is an empty list",
        "rules.toml:8: route[1].allow: \"everybody\" is not a demand",
    ];
    assert_begin(&faults.unwrap_err(), &expected);

    let faults = json(&json!([
        {"path": "/a", "alow": "public"},
        {"path": "/b", "hosts": [], "allow": "everybody", "methods": [1]},
        "/c",
        {"path": "/d", "allow": true},
    ]));
    let expected = [
        "rules[0].alow: is not a setting; did you mean allow?",
        "rules[1].methods: is neither a string nor a list of strings",
        "rules[2]: is not a table; write [[route]]",
        "rules[3].allow: is neither a string nor a list of strings",
        "rules[0]: \"allow\" is missing; write",
        "rules[1].hosts: is an empty list",
        "rules[1].allow: \"everybody\" is not a demand",
        "rules[3]: \"allow\" is missing; write",
    ];
    assert_begin(&faults.unwrap_err(), &expected);

    let not_toml = toml("[[route]]\npath = \n").unwrap_err();
    assert_begin(&not_toml, &["rules.toml:2: not TOML: "]);
    let not_a_list = json(&json!({"path": "/a", "allow": "public"})).unwrap_err();
    assert_begin(&not_a_list, &["rules: is not a list of tables"]);
}

#[test]
fn rules_that_tie_are_refused_in_either_form() {
    let tie = "two rules decide the same request";
    let text = "[[route]]\npath = \"/a\"\nallow = \"public\"\n".repeat(2);
    assert_begin(
        &toml(&text).unwrap_err(),
        &[&format!("rules.toml:1: route[0]: {tie}")],
    );
    let rule = json!({"path": "/a", "allow": "public"});
    assert_begin(
        &json(&json!([rule, rule])).unwrap_err(),
        &[&format!("rules[0]: {tie}")],
    );
}

#[test]
fn no_rules_are_a_fault() {
    let faults = [
        toml("# still being written\n").unwrap_err(),
        json(&json!([])).unwrap_err(),
    ];
    for (faults, place) in faults.iter().zip(["rules.toml", "rules"]) {
        assert_begin(faults, &[&format!("{place}: has no rules")]);
    }
}

/// What is looked at again for every rule costs a hundred times as much for ten times the rules.
#[test]
fn ten_times_the_rules_take_about_ten_times_as_long() {
    let took = |rules: usize| {
        let text: String = (0..rules)
            .map(|rule| format!("[[route]]\npath = \"/service/{rule}/*\"\nmethods = [\"GET\"]\nallow = \"public\"\n"))
            .collect();
        let times = (0..3).map(|_| {
            let start = Instant::now();
            assert_eq!(toml(&text).unwrap().len(), rules);
            start.elapsed()
        });
        times.min().unwrap()
    };
    let (some, many) = (took(500), took(5_000));
    assert!(many < some * 30, "{some:?}, {many:?}");
}

#[test]
fn only_endpoints_that_are_on_are_known() {
    let rule = json!([{"path": "/token", "allow": "refresh"}]);
    assert!(json(&rule).is_ok());
    let some = RouteOptions {
        endpoints: &[Endpoint::Login],
        ..ALL
    };
    let faults = shown(of_json("rules", &rule, some)).unwrap_err();
    assert_begin(
        &faults,
        &[
            "rules[0]: allow = \"refresh\" names an endpoint that is switched off; set refresh.enabled",
        ],
    );
}

fn assert_begin(faults: &[String], expected: &[&str]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\n{expected}");
    }
}
