//! `doorward policy coverage`: the operations of an OpenAPI document, and the rules that decide them.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Doorward, Home, Ran, repository};

const RULES: &str = r#"
[[route]]
path = "/v1/users/*"
allow = "signed-in"

[[route]]
path = "/v1/users/admin"
allow = "role:admin"

[[route]]
path = "/v1/status"
methods = ["GET"]
allow = "public"

[[route]]
path = "/old/*"
allow = "nobody"
"#;

const DOCUMENT: &str = r#"
openapi: 3.1.0
servers: [{ url: /v1 }]
paths:
  /users/{id}:
    get: { operationId: getUser }
  /status:
    get: {}
    post: {}
"#;

fn home(rules: &str, document: &str) -> (Home, String) {
    let home = Doorward::prepare(|settings| {
        settings.toml(rules);
    });
    let path = home.dir().join("openapi.yaml");
    fs::write(&path, document).unwrap();
    (home, path.display().to_string())
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_shown_with_their_rules() {
    let (home, document) = home(RULES, DOCUMENT);
    let ran = home.run(&["policy", "coverage", &document], "").await.ok();
    let lines: Vec<_> = ran.stdout.lines().map(str::trim_end).collect();
    let squeezed = lines.iter().map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.join(" ")
    });
    assert_eq!(
        squeezed.collect::<Vec<_>>(),
        [
            "METHOD PATH RULE ALLOW",
            "GET /v1/users/{id} /v1/users/* signed-in",
            "/v1/users/admin /v1/users/admin role:admin",
            "GET /v1/status GET /v1/status public",
            "POST /v1/status none denied: no rule is for this request",
            "",
            "3 operations: 1 public, 1 without a rule.",
            "Rules that decide no operation: /old/*.",
        ]
    );
    let strict = ["policy", "coverage", "--require-rule", &document];
    assert_eq!(home.run(&strict, "").await.status.code(), Some(1));
    let all = format!("{RULES}\n[[route]]\npath = \"/*\"\nallow = \"signed-in\"\n");
    let (home, document) = self::home(&all, DOCUMENT);
    let strict = ["policy", "coverage", "--require-rule", &document];
    home.run(&strict, "").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_json_and_documents_come_on_standard_input() {
    let (home, _) = home(RULES, "");
    let arguments = ["policy", "coverage", "-", "--output", "json"];
    let said = json_of(&home.run(&arguments, DOCUMENT).await.ok());
    assert_eq!(
        said["operations"][0],
        json!({
            "method": "GET", "host": "", "path": "/v1/users/{id}", "operation": "getUser",
            "public": false, "ruled": true,
            "decided": [
                {
                    "path": "/v1/users/any", "why": "it is the most specific rule",
                    "rule": "/v1/users/*", "allow": "signed-in", "decides": true,
                },
                {
                    "path": "/v1/users/admin", "why": "it is the most specific rule",
                    "rule": "/v1/users/admin", "allow": "role:admin", "decides": true,
                },
            ],
        })
    );
    assert_eq!(said["operations"][2]["ruled"], false);
    assert_eq!(said["rules_without_operation"], json!(["/old/*"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_with_hosts_need_a_host() {
    let rules = RULES.replace(
        "path = \"/old/*\"",
        "path = \"/*\"\nhosts = [\"api.example\"]",
    );
    let (home, document) = home(&rules, DOCUMENT);
    let ran = home.run(&["policy", "coverage", &document], "").await.ok();
    let hint = "Some rules name hosts, and the document does not: --host gives one.";
    assert!(ran.stdout.contains(hint), "{ran:?}");
    assert!(
        ran.stdout
            .contains("3 operations: 0 public, 3 without a rule."),
        "{ran:?}"
    );
    let with_host = ["policy", "coverage", "--host", "api.example", &document];
    let ran = home.run(&with_host, "").await.ok();
    assert!(ran.stdout.contains("api.example/v1/status"), "{ran:?}");
    assert!(
        ran.stdout
            .contains("3 operations: 0 public, 0 without a rule."),
        "{ran:?}"
    );
}

/// Doorward's own HTTP port, with the rules of the README's first steps.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_of_the_http_port_is_read() {
    let (home, _) = home("", "");
    let document = repository().join("docs/openapi.yaml");
    let document = document.to_str().unwrap();
    let arguments = ["policy", "coverage", document, "--output", "json"];
    let said = json_of(&home.run(&arguments, "").await.ok());
    assert!(said["operations"].as_array().unwrap().len() > 10, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_read_is_an_error_with_its_place() {
    for (document, fault) in [
        ("openapi: 3.1.0", "paths: it has none"),
        (
            "openapi: 3.1.0\npaths: {users: {get: {}}}",
            "it does not begin with a slash",
        ),
        (
            "openapi: 3.1.0\npaths: {/a%2fb: {get: {}}}",
            "Doorward refuses every request with this path",
        ),
    ] {
        let (home, path) = home(RULES, document);
        let ran = home.run(&["policy", "coverage", &path], "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(
            ran.stderr.contains("openapi.yaml") && ran.stderr.contains(fault),
            "{ran:?}"
        );
    }
}
