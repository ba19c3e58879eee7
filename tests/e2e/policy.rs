//! Commands that prove rules: cases, differences, and the schema of the settings.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{Doorward, Home, Process, Ran, fed, repository, tool, until};

fn home(rules: &str) -> Home {
    Doorward::prepare(|settings| {
        settings.toml(rules);
    })
}

fn write(home: &Home, name: &str, text: &str) -> String {
    let path = home.dir().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"))
}

/// How long a busy machine may take to see a change.
const LIMIT: Duration = Duration::from_secs(30);

const RULES: &str = r#"
[[route]]
path = "/*"
allow = "signed-in"

[[route]]
path = "/admin/*"
allow = "role:admin"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_cases_of_the_examples_pass_and_show_every_rule() {
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let home = home(&rules);
    let cases = repository().join("examples/cases.toml");
    let cases = cases.to_str().unwrap();
    let ran = home
        .run(&["policy", "test", "--strict", cases], "")
        .await
        .ok();
    assert_eq!(ran.stdout, "11 of 11 cases pass; every rule is shown.\n");
}

/// The requests of the Gateway API's conformance tests for HTTPRoute.
#[tokio::test(flavor = "multi_thread")]
async fn rules_match_as_routes_of_the_gateway_api_do() {
    let mut tests = 0;
    for entry in fs::read_dir(repository().join("tests/gateway-api")).unwrap() {
        let dir = entry.unwrap().path();
        let home = home(&fs::read_to_string(dir.join("doorward.toml")).unwrap());
        let cases = dir.join("cases.toml");
        let arguments = [
            "policy",
            "test",
            cases.to_str().unwrap(),
            "--output",
            "json",
        ];
        let ran = home.run(&arguments, "").await;
        let said = json_of(&ran);
        assert_eq!(said["passed"], true, "{dir:?}\n{said:#}");
        assert!(said["cases"].as_array().unwrap().len() >= 5, "{dir:?}");
        tests += 1;
    }
    assert_eq!(tests, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_case_says_what_decided_and_why() {
    let home = home(RULES);
    home.add_user("ada", "correct-horse-battery", &["--admin"])
        .await;
    let cases = write(
        &home,
        "cases.toml",
        r#"
[[case]]
name = "<admins> & users"
request = "GET /admin/x"
as = "signed-in"
expect = "pass"

[[case]]
request = "GET /admin/x"
as = "user:ada"
rule = "/*"
expect = "pass"

[[case]]
request = "GET /x"
as = "signed-in"
expect = "pass"
"#,
    );
    let ran = home.run(&["policy", "test", &cases], "").await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    for said in [
        "cases.toml:2: <admins> & users",
        "expected pass, was 403 missing-role",
        "rule  path = \"/admin/*\", allow = \"role:admin\"",
        "why   it is the most specific rule for the request",
        "expected the rule \"/*\" to decide, was \"/admin/*\"",
        "1 of 3 cases pass.",
    ] {
        assert!(ran.stdout.contains(said), "{said}\n{}", ran.stdout);
    }
    let ran = home
        .run(&["policy", "test", &cases, "--output", "json"], "")
        .await;
    let said = json_of(&ran);
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(said["cases"][0]["was"], "403 missing-role");
    assert_eq!(said["cases"][0]["passed"], false);
    assert_eq!(said["cases"][2]["passed"], true);
    assert_eq!(said["rules"][1]["gap"], "no case shows whom it keeps out");

    let arguments = ["policy", "test", "--strict", &cases, "--output", "junit"];
    let ran = home.run(&arguments, "").await;
    assert_eq!(ran.status.code(), Some(1));
    for said in [
        "<testcase name=\"&lt;admins&gt; &amp; users\"",
        "tests=\"3\" failures=\"2\"",
        "<failure message=\"expected pass, was 403 missing-role\">",
        "<testsuite name=\"rules\" tests=\"2\" failures=\"1\"",
    ] {
        assert!(ran.stdout.contains(said), "{said}\n{}", ran.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_for_machines_are_tested() {
    let rules = format!(
        "[keys]\nenabled = true\n{RULES}\n[[route]]\npath = \"/repo/*\"\nallow = \"role:editor\"\nbasic-keys = true\n"
    );
    let cases = r#"
[keys]
git = { roles = ["editor"], paths = ["/repo/*", "/admin/*"] }
bare = {}

[[case]]
request = "GET /repo/x"
as = "key:git"
expect = "pass"

[[case]]
request = "GET /repo/x"
as = "basic-key:git"
expect = "pass"

[[case]]
request = "GET /repo/x"
as = "key:bare"
expect = "403 missing-role"

[[case]]
request = "GET /admin/x"
as = "key:git"
expect = "403 missing-role"

[[case]]
request = "GET /x"
as = "key:git"
expect = "403 key-path"

[[case]]
request = "GET /x"
as = "basic-key:bare"
expect = "401 missing-token"
"#;
    let on = home(&rules);
    let file = write(&on, "cases.toml", cases);
    let ran = on.run(&["policy", "test", &file], "").await.ok();
    assert_eq!(ran.stdout, "6 of 6 cases pass.\n");
    // Without keys.enabled, none is accepted.
    let off = home(RULES);
    let file = write(&off, "cases.toml", cases);
    let ran = off.run(&["policy", "test", &file], "").await;
    assert_eq!(ran.status.code(), Some(1));
    let said = ran.stdout.contains("expected pass, was 401");
    assert!(said, "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_wants_every_rule_and_whom_it_keeps_out() {
    let home = home(RULES);
    // A denial without a token does not show that a role is wanted.
    let case = |path: &str, who: &str, expect: &str| {
        format!("[[case]]\nrequest = \"GET {path}\"\nas = \"{who}\"\nexpect = \"{expect}\"\n")
    };
    for (cases, code, gaps) in [
        (vec![case("/x", "signed-in", "pass")], 1, 2),
        (vec![case("/x", "anonymous", "401 missing-token")], 1, 1),
        (
            vec![
                case("/x", "anonymous", "401"),
                case("/admin", "anonymous", "401"),
            ],
            1,
            1,
        ),
        (
            vec![
                case("/x", "anonymous", "401"),
                case("/admin", "role:user", "403 missing-role"),
            ],
            0,
            0,
        ),
    ] {
        let file = write(&home, "cases.toml", &cases.concat());
        let ran = home.run(&["policy", "test", &file], "").await;
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        let ran = home.run(&["policy", "test", "--strict", &file], "").await;
        assert_eq!(ran.status.code(), Some(code), "{ran:?}");
        assert_eq!(ran.stdout.matches("GAP ").count(), gaps, "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_file_is_written_from_the_rules_once() {
    for rules in [
        fs::read_to_string(repository().join("examples/doorward.toml")).unwrap(),
        RULES.replace("/admin/*", "/Admin/*"),
        "[[route]]\npath = \"/a\"\nmethods = [\"PURGE\"]\nhosts = [\"*.example.com\"]\nallow = [\"x\", \"y\"]\n"
            .into(),
    ] {
        let home = home(&rules);
        let file = home.dir().join("first.toml").display().to_string();
        let init = ["policy", "test", "--init", &*file];
        let ran = home.run(&init, "").await.ok();
        assert!(ran.stdout.contains("--strict"), "{ran:?}");
        let ran = home.run(&["policy", "test", "--strict", &file], "").await.ok();
        assert!(ran.stdout.contains("every rule is shown"), "{ran:?}");
        let before = fs::read_to_string(&file).unwrap();
        let ran = home.run(&init, "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tested_is_an_error() {
    let home = home(RULES);
    home.run(&["migrate"], "").await.ok();
    let cases = write(&home, "cases.toml", "[[case]]\nrequest = \"GET\"\n");
    let unknown = write(
        &home,
        "unknown.toml",
        "[[case]]\nrequest = \"GET /\"\nas = \"user:eve\"\nexpect = \"pass\"\n",
    );
    let missing = home.dir().join("missing.toml").display().to_string();
    for (file, why) in [
        (
            &cases,
            "cases.toml:2: case.request: \"GET\" is not a method",
        ),
        (&cases, "cases.toml:1: \"expect\" is missing"),
        (&unknown, "there is no user of that name"),
        (&missing, "missing.toml cannot be read"),
    ] {
        let ran = home.run(&["policy", "test", file], "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(ran.stderr.contains(why), "{why}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_run_again_when_the_rules_change() {
    let home = home(RULES);
    let cases = write(
        &home,
        "cases.toml",
        "[[case]]\nrequest = \"GET /admin\"\nas = \"signed-in\"\nexpect = \"403\"\n",
    );
    let mut command = home.command(&["policy", "test", "--watch", &cases]);
    let process = Process::start("watch", &mut command, home.dir());
    let waits_for = async |text: &str| {
        until(text, LIMIT, async || {
            process.output().contains(text).then_some(())
        })
        .await;
    };
    waits_for("1 of 1 cases pass.").await;
    let rules = home.dir().join("doorward.toml");
    fs::write(&rules, RULES.replace("role:admin", "public")).unwrap();
    waits_for("expected 403, was pass").await;
    fs::write(&rules, "[[route]]\n").unwrap();
    waits_for("\"allow\" is missing").await;
    fs::write(&rules, RULES.replace("role:admin", "nobody")).unwrap();
    until("a second success", LIMIT, async || {
        (process.output().matches("1 of 1 cases pass.").count() == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_of_two_files_are_told_with_examples() {
    let home = home("");
    let old = write(&home, "old.toml", RULES);
    let new = write(
        &home,
        "new.toml",
        &RULES
            .replace("role:admin", "role:ops")
            .replace("signed-in", "public"),
    );
    let diff = async |more: &[&str], files: [&str; 2]| {
        let arguments = [&["policy", "diff"], more, &files].concat();
        home.run(&arguments, "").await
    };
    let ran = diff(&[], [&old, &old]).await.ok();
    assert_eq!(ran.stdout, "No request is decided differently.\n");
    let ran = diff(&[], [&old, &new]).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    for said in [
        "OPENS   /*\n  for   without a valid token, any method, any host\n  was   401 missing-token, by path = \"/*\", allow = \"signed-in\"\n  is    pass, by path = \"/*\", allow = \"public\"\n  as    GET /any without a token\n",
        "OPENS   /admin/*\n  for   users with ops and without admin",
        "CLOSES  /admin/*\n  for   users with admin and without ops",
        "  as    GET /admin/any with admin\n",
        "Changes that open: 2, that close: 1, that answer otherwise: 0. Settings that differ: 0.",
    ] {
        assert!(ran.stdout.contains(said), "{said}\n{}", ran.stdout);
    }
    let said = json_of(&diff(&["--output", "json"], [&old, &new]).await);
    assert_eq!(said["changes"][0]["direction"], "opens");
    assert_eq!(
        said["changes"][2]["example"],
        json!({"method": "GET", "host": "", "path": "/admin/any", "roles": ["admin"]})
    );

    // The order that an upgrade changes, and settings that decide, too.
    let hosts = write(
        &home,
        "hosts.toml",
        &format!(
            "{RULES}\n[[route]]\npath = \"/*\"\nhosts = [\"a.example\"]\nallow = \"public\"\n"
        ),
    );
    let ran = diff(&["--old-precedence", "path-first"], [&hosts, &hosts]).await;
    assert!(
        ran.stdout
            .contains("was   401 missing-token, by path = \"/admin/*\""),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("GET a.example/admin/any"), "{ran:?}");
    let tolerant = format!("[paths]\ntolerate = [\"semicolon\"]\n{RULES}");
    let tolerant = write(&home, "tolerant.toml", &tolerant);
    let ran = diff(&[], [&old, &tolerant]).await;
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(
        ran.stdout
            .contains("SETTING paths.tolerate\n  was   []\n  is    [\"semicolon\"]")
    );
    let ran = diff(&[], [&old, "/nowhere.toml"]).await;
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
}

/// Every file of settings in the repository.
fn files_of_settings(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_of_settings(&path, found);
        } else if path.file_name().is_some_and(|name| name == "doorward.toml") {
            found.push(path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_accepts_every_example_and_refuses_what_is_wrong() {
    let home = home("");
    let ran = home.run(&["config", "schema"], "").await.ok();
    let golden = repository().join("docs/doorward.schema.json");
    if env::var_os("DOORWARD_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(&golden, &ran.stdout).unwrap();
    }
    assert!(
        fs::read_to_string(&golden).is_ok_and(|own| own == ran.stdout),
        "docs/doorward.schema.json differs; write it with DOORWARD_GOLDEN=write cargo test --test e2e -- policy::the_schema"
    );
    let schema = json_of(&ran);
    let mut files = Vec::new();
    for dir in ["examples", "k8s", "tests"] {
        files_of_settings(&repository().join(dir), &mut files);
    }
    assert!(files.len() >= 10, "{files:?}");
    let read = |text: &str| -> Value { toml::from_str(text).unwrap() };
    let texts: Vec<_> = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let good: Vec<_> = texts.iter().map(|text| read(text)).collect();
    for (file, faults) in files.iter().zip(faults(&schema, &good)) {
        assert_eq!(faults, [""; 0], "{}", file.display());
    }
    let wrong = [
        ("listn = 1", "/"),
        ("[listen]\ngrp = \"x\"", "/listen"),
        (
            "[throttle]\naccount_failures = 0",
            "/throttle/account_failures",
        ),
        (
            "[throttle]\naccount_failures = \"5\"",
            "/throttle/account_failures",
        ),
        ("[database]\ntls = \"maybe\"", "/database/tls"),
        ("[jwt]\nlifetime = \"long\"", "/jwt/lifetime"),
        ("[cors]\nallow_preflight = \"yes\"", "/cors/allow_preflight"),
        ("[[route]]\npath = \"/a\"", "/route/0"),
        (
            "[[route]]\npath = \"a\"\nallow = \"public\"",
            "/route/0/path",
        ),
        ("[[route]]\npath = \"/\"\nallow = []", "/route/0/allow"),
        (
            "[[route]]\npath = \"/\"\nallow = \"public\"\nmethod = \"GET\"",
            "/route/0",
        ),
    ];
    let documents: Vec<_> = wrong.iter().map(|(text, _)| read(text)).collect();
    for ((text, place), found) in wrong.iter().zip(faults(&schema, &documents)) {
        let said = found
            .iter()
            .any(|fault| fault.starts_with(&format!("{place}: ")));
        assert!(said, "{text}: {found:?}");
    }
    // The default of every setting has the form that the schema asks for.
    let mut defaults = Vec::new();
    with_defaults(&schema, &mut defaults);
    assert!(defaults.len() > 50, "{}", defaults.len());
    let (properties, defaults): (Vec<_>, Vec<_>) = defaults.into_iter().unzip();
    let each = json!({"prefixItems": properties});
    assert_eq!(faults(&each, &[json!(defaults)])[0], [""; 0]);
}

fn with_defaults(schema: &Value, found: &mut Vec<(Value, Value)>) {
    let properties = schema["properties"].as_object();
    for property in properties.into_iter().flat_map(|all| all.values()) {
        if let Some(default) = property.get("default") {
            found.push((property.clone(), default.clone()));
        }
        with_defaults(property, found);
    }
}

/// What a schema says about documents.
fn faults(schema: &Value, documents: &[Value]) -> Vec<Vec<String>> {
    let mut validate = Command::new("python3");
    validate
        .arg(repository().join("tests/schema/validate.py"))
        .env("PYTHONPATH", tool("manifests"));
    let question = json!({"schema": schema, "documents": documents}).to_string();
    let ran = fed(&mut validate, question.as_bytes());
    assert!(ran.status.success(), "{ran:?}");
    serde_json::from_slice(&ran.stdout).unwrap()
}
