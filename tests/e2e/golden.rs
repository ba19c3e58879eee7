//! The decision for every kind of caller on every route of the example rules, as a committed table. After an intended
//! change, run `DOORWARD_GOLDEN=write cargo test --test e2e golden` and review the diff.

use std::{env, fmt::Write as _, fs};

use serde_json::Value;

use crate::harness::{Doorward, repository};

const ROUTES: [(&str, &str); 19] = [
    ("GET", "/"),
    ("GET", "/profile"),
    ("DELETE", "/profile"),
    ("POST", "/login"),
    ("GET", "/login"),
    ("POST", "/login/"),
    ("POST", "/Login"),
    ("GET", "/healthz"),
    ("HEAD", "/healthz"),
    ("get", "/healthz"),
    ("POST", "/healthz"),
    ("GET", "/healthz/x"),
    ("GET", "/admin"),
    ("GET", "/admin/"),
    ("GET", "/admin/users"),
    ("POST", "/admin/users"),
    ("HEAD", "/admin/users"),
    ("GET", "/administration"),
    ("GET", "/ADMIN"),
];

const CALLERS: [(&str, &[&str]); 4] = [
    ("no token", &[]),
    ("a user", &["--role", "user"]),
    ("an editor", &["--role", "editor"]),
    ("an administrator", &["--role", "admin"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_example_rules_decide_as_reviewed() {
    let rules = fs::read_to_string(repository().join("examples/doorward.toml")).unwrap();
    let home = Doorward::prepare(|settings| {
        settings.toml(rules);
    });
    let mut table = String::new();
    for (method, path) in ROUTES {
        for (caller, flags) in CALLERS {
            let arguments = [
                &["policy", "check", method, path, "--output", "json"],
                flags,
            ]
            .concat();
            let ran = home.run(&arguments, "").await;
            let said: Value =
                serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
            let verdict = if said["passes"] == true {
                "passes"
            } else {
                "refused"
            };
            let (status, reason) = (&said["status"], said["reason"].as_str().unwrap());
            writeln!(
                table,
                "{method:<7}{path:<17}{caller:<18}{verdict:<9}{status} {reason}"
            )
            .unwrap();
        }
    }
    let golden = repository().join("tests/golden/example-rules.txt");
    if env::var_os("DOORWARD_GOLDEN").is_some_and(|value| value == "write") {
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        fs::write(&golden, &table).unwrap();
    }
    let reviewed = fs::read_to_string(&golden).unwrap();
    assert!(
        table == reviewed,
        "{} says otherwise; now it is\n{table}",
        golden.display()
    );
}
