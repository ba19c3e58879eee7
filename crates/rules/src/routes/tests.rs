use std::time::Instant;

use doorward_core::path::Also;

use super::*;
use crate::tables::Document;

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
    keys: true,
    assertions: Some("doorward"),
};

/// Reads rules as the settings do.
fn read(text: &str, options: RouteOptions<'_>) -> Result<Vec<String>, Vec<String>> {
    let document = Document::new("rules.toml", text);
    let (mut tables, mut faults) = (Vec::new(), Vec::new());
    for (member, value) in &document.parse().unwrap() {
        let place = format!("{}: {}", document.at(member.span().start), member.get_ref());
        let (read, wrong) = ROUTE.of_toml(&document, value, place);
        tables.extend(read);
        faults.extend(wrong.iter().map(ToString::to_string));
    }
    match policy(&tables, options) {
        Ok(policy) if faults.is_empty() => {
            Ok(policy.rules().iter().map(ToString::to_string).collect())
        }
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more.iter().map(ToString::to_string));
            Err(faults)
        }
    }
}

fn toml(text: &str) -> Result<Vec<String>, Vec<String>> {
    read(text, ALL)
}

#[test]
fn tables_become_rules() {
    let rules = toml(
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
    let expected = [
        r#"path = "/admin/*", methods = ["GET"], hosts = ["a.example", "*.b.example"], allow = "role:admin or role:ops""#,
        r#"path = "/*", allow = "signed-in""#,
    ];
    assert_eq!(rules.unwrap(), expected);
}

#[test]
fn every_fault_has_its_place() {
    let faults = toml(
        r#"# Rules with faults
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
        "rules.toml:4: route[0].alow: is not a setting; did you mean allow?",
        "rules.toml:9: route[1].methods: is neither a string nor a list of strings",
        "rules.toml:2: route[0]: \"allow\" is missing; write",
        "rules.toml:7: route[1].hosts: is an empty list",
        "rules.toml:8: route[1].allow: \"everybody\" is not a demand",
    ];
    assert_begin(&faults.unwrap_err(), &expected);

    let not_a_list = toml("route = \"/a\"").unwrap_err();
    assert_begin(
        &not_a_list,
        &["rules.toml:1: route: is not a list of tables; write [[route]]"],
    );
    let not_a_table = toml("route = [\"/a\"]").unwrap_err();
    assert_begin(
        &not_a_table,
        &["rules.toml:1: route[0]: is not a table; write [[route]]"],
    );
    let broken = Document::new("rules.toml", "[[route]]\npath = \n");
    let not_toml = broken.parse().unwrap_err().to_string();
    assert_begin(&[not_toml], &["rules.toml:2: not TOML: "]);
}

#[test]
fn rules_that_tie_are_refused() {
    let text = "[[route]]\npath = \"/a\"\nallow = \"public\"\n".repeat(2);
    assert_begin(
        &toml(&text).unwrap_err(),
        &["rules.toml:1: route[0]: two rules decide the same request"],
    );
}

/// Work that is repeated for every rule would take a hundred times as long for ten times the rules.
#[test]
fn reading_rules_takes_linear_time() {
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
fn a_rule_for_a_disabled_endpoint_is_a_fault() {
    let rule = "[[route]]\npath = \"/token\"\nallow = \"refresh\"\n";
    assert!(toml(rule).is_ok());
    let some = RouteOptions {
        endpoints: &[Endpoint::Login],
        ..ALL
    };
    assert_begin(
        &read(rule, some).unwrap_err(),
        &[
            "rules.toml:1: route[0]: allow = \"refresh\" names an endpoint that is switched off; set refresh.enabled",
        ],
    );
}

fn assert_begin(faults: &[String], expected: &[&str]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}\n{expected}");
    }
}

#[test]
fn a_file_of_rules_has_routes_and_no_other_settings() {
    let read = |text: &str| of_file("next.toml", text, ALL);
    let good = "[[route]]\npath = '/a'\nallow = 'public'\n";
    assert_eq!(read(good).unwrap().rules().len(), 1);
    for (text, place, what) in [
        ("", "next.toml", "has no [[route]]"),
        (
            "[jwt]\nissuer = 'x'\n",
            "next.toml:1: jwt",
            "only [[route]]",
        ),
        ("route = 7\n", "next.toml:1: route", "not a list of tables"),
        ("route = []\n", "next.toml", "has no [[route]]"),
        ("[[route]\n", "next.toml:1", "not TOML"),
        (
            "[[route]]\npath = '/a'\n",
            "next.toml:1: route[0]",
            "\"allow\" is missing",
        ),
        (
            &format!("x = 1\n{good}"),
            "next.toml:1: x",
            "only [[route]]",
        ),
        (&format!("{good}{good}"), "next.toml:1", "two rules decide"),
    ] {
        let faults = read(text).unwrap_err();
        let all: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(faults[0].place.starts_with(place), "{text}: {all:?}");
        assert!(all[0].contains(what), "{text}: {all:?}");
    }
}

#[test]
fn an_audience_is_one_of_assertions_that_services_get() {
    let rule = |allow: &str, audience: &str| {
        format!("[[route]]\npath = \"/bills/*\"\nallow = \"{allow}\"\naudience = {audience}\n")
    };
    let good = toml(&rule("public", "\"billing\"")).unwrap();
    assert_eq!(
        good,
        [r#"path = "/bills/*", allow = "public", audience = "billing""#]
    );
    let off = RouteOptions {
        assertions: None,
        ..ALL
    };
    for (text, options, expected) in [
        (rule("public", "\"billing\""), off, "set identity.assertion"),
        (rule("public", "\"doorward\""), ALL, "is jwt.audience"),
        (rule("public", "\"\""), ALL, "1 to 255 bytes"),
        (rule("public", "\"a\\nb\""), ALL, "1 to 255 bytes"),
        (rule("public", "[\"a\"]"), ALL, "1 to 255 bytes"),
        (
            rule("login", "\"billing\""),
            ALL,
            "services get an assertion only where",
        ),
        (
            rule("nobody", "\"billing\""),
            ALL,
            "services get an assertion only where",
        ),
    ] {
        let faults = read(&text, options).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(expected), "{faults:?}");
    }
}

#[test]
fn basic_keys_is_refused_if_keys_are_off_or_allow_accepts_none() {
    let rule = |allow: &str, keys: &str| {
        format!("[[route]]\npath = \"/git/*\"\nallow = \"{allow}\"\nbasic-keys = {keys}\n")
    };
    let good = toml(&rule("signed-in", "true")).unwrap();
    assert_eq!(
        good,
        [r#"path = "/git/*", allow = "signed-in", basic-keys = true"#]
    );
    assert!(toml(&rule("login", "false")).is_ok());
    let off = RouteOptions { keys: false, ..ALL };
    for (text, options, expected) in [
        (rule("role:ops", "true"), off, "set keys.enabled = true"),
        (rule("login", "true"), ALL, "keys are accepted only where"),
        (rule("nobody", "true"), ALL, "keys are accepted only where"),
        (rule("public", "\"yes\""), ALL, "write true or false"),
        (rule("public", "[\"true\"]"), ALL, "write true or false"),
    ] {
        let faults = read(&text, options).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(expected), "{faults:?}");
    }
}
