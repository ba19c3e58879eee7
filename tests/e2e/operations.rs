//! The runbook: it describes every reason and every log line, names only things that exist, and its commands work.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::{
    direct::{bearer, judged, login},
    docs,
    front::{ADA, BOB},
    harness::{Doorward, PATIENCE, repository, until},
};

fn runbook() -> String {
    fs::read_to_string(repository().join("docs/operations.md")).unwrap()
}

/// The rows of the table below a heading, with their first cells.
fn rows(heading: &str) -> Vec<(String, String)> {
    let text = runbook();
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ");
        let first = cells.next().unwrap().trim().to_owned();
        (first, cells.collect::<Vec<_>>().join(" | "))
    })
    .collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The source files without their tests.
fn sources(dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.file_name().unwrap() != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            all.push(code.to_owned());
        }
    }
}

/// The string literals in code, without escapes.
fn literals(code: &str) -> Vec<&str> {
    code.split('"').skip(1).step_by(2).collect()
}

/// The code up to the parenthesis that closes an open one.
fn within(code: &str) -> &str {
    let (mut depth, mut is_text) = (1, false);
    let end = code.find(|letter| {
        match letter {
            '"' => is_text = !is_text,
            '(' if !is_text => depth += 1,
            ')' if !is_text => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &code[..end.unwrap()]
}

fn code() -> Vec<String> {
    let mut all = Vec::new();
    for dir in ["src", "crates"] {
        sources(&repository().join(dir), &mut all);
    }
    assert!(all.len() > 80);
    all
}

#[test]
fn the_runbook_knows_every_reason() {
    let mut reasons = BTreeSet::new();
    for file in code() {
        // The list of all reasons, and the functions that name token faults.
        let list = file.split("\nreasons! {\n").skip(1);
        let functions = file.split("fn reason(self) -> &'static str").skip(1);
        let bodies = (list.filter_map(|body| body.split("\n}\n").next()))
            .chain(functions.filter_map(|body| body.split("\n    }\n").next()));
        for body in bodies {
            reasons.extend(literals(body).into_iter().map(str::to_owned));
        }
    }
    assert!(reasons.len() > 50, "{reasons:?}");
    let known: Vec<_> = rows("Reasons");
    let known: BTreeSet<String> = known
        .iter()
        .flat_map(|(names, _)| quoted(names))
        .map(str::to_owned)
        .collect();
    assert_eq!(known, reasons);
}

#[test]
fn the_runbook_knows_every_line() {
    let lines = rows("Lines without a reason");
    let known: Vec<&str> = lines.iter().flat_map(|(names, _)| quoted(names)).collect();
    let is_known = |message: &str| {
        known.iter().any(|known| match known.strip_suffix('…') {
            Some(beginning) => message.starts_with(beginning.trim_end()),
            None => *known == message,
        })
    };
    let mut found = 0;
    for file in code() {
        for macro_name in ["error!(", "warn!(", "info!(", "debug!("] {
            for event in file.split(&format!("tracing::{macro_name}")).skip(1) {
                let event = within(event);
                // The message is the last literal; audit events have no message.
                let Some(message) = literals(event).pop().filter(|_| !event.contains("TARGET"))
                else {
                    continue;
                };
                if matches!(message, "{what}" | "no longer: {what}") {
                    continue;
                }
                found += 1;
                assert!(is_known(message), "{message:?} is not in the runbook");
            }
        }
        for noted in file.split(".note(").skip(1) {
            let message = literals(within(noted)).pop();
            assert!(message.is_none_or(is_known), "{message:?}");
        }
    }
    assert!(found > 15, "{found}");
}

#[test]
fn the_runbook_knows_every_alert_and_metric() {
    let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    let runbook = runbook();
    let mut found = 0;
    for line in read("examples/monitoring/alerts.yaml").lines() {
        let Some(alert) = line.trim().strip_prefix("- alert: ") else {
            continue;
        };
        found += 1;
        assert!(runbook.contains(&format!("\n### {alert}\n")), "{alert}");
    }
    assert_eq!(runbook.matches("\n### Doorward").count(), found);
    let metrics = read("docs/metrics.md");
    let told = rows("Metrics");
    let told: BTreeSet<&str> = told.iter().flat_map(|(names, _)| quoted(names)).collect();
    let there = metrics.lines().filter_map(|line| line.strip_prefix("| `"));
    let there: BTreeSet<&str> = there.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(told, there);
    for name in quoted(&runbook) {
        let name = name.split('{').next().unwrap();
        // Names of database tables begin like metrics, but are not metrics.
        let tables = [
            "clocks",
            "endings",
            "generations",
            "keys",
            "tallies",
            "sessions",
        ];
        let is_table = tables
            .iter()
            .any(|table| name == format!("doorward_{table}"));
        if name.starts_with("doorward_") && !is_table {
            assert!(metrics.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}

/// A link within the page leads to an existing heading.
#[test]
fn links_within_the_runbook_lead_somewhere() {
    let runbook = runbook();
    let anchors: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## ").or(line.strip_prefix("### ")))
        .map(|heading| {
            let kept = heading.to_lowercase();
            let kept = kept
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-'));
            kept.map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect();
    for part in runbook.split("](#").skip(1) {
        let link = part.split(')').next().unwrap();
        assert!(anchors.contains(link), "{link}: {anchors:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_runbook_do_what_it_says() {
    let doorward = Doorward::start(|_| {}).await;
    for (name, password) in [ADA, BOB] {
        doorward.add_user(name, password, &[]).await;
    }
    let dir = doorward.home().dir().to_owned();
    let variables = [(
        "DOORWARD_DATA_DIR".to_owned(),
        dir.join("data").display().to_string(),
    )];
    let ports = [(":9003", doorward.ops.port())];
    let run = |block: &str| docs::run(block, &dir, &variables, &ports);
    let mut blocks = docs::blocks("docs/operations.md", "sh").into_iter();
    let mut next = || blocks.next().unwrap();

    let said = run(&next());
    assert!(
        said.starts_with("ok\n") && said.contains("passes"),
        "{said}"
    );

    for _ in 0..7 {
        login(&doorward, (BOB.0, "a wrong one")).await;
    }
    let locked = login(&doorward, BOB).await;
    assert_eq!(locked.status, 429, "{locked:?}");
    let said = run(&next());
    assert!(said.contains("account"), "{said}");
    until("bob may log in again", PATIENCE, async || {
        (login(&doorward, BOB).await.status == 200).then_some(())
    })
    .await;

    doorward.run(&["user", "disable", ADA.0], "").await.ok();
    run(&next());
    let ada = (ADA.0, "a-phrase-that-nobody-knows");
    until("ada may log in again", PATIENCE, async || {
        (login(&doorward, ada).await.status == 200).then_some(())
    })
    .await;

    run(&next());
    assert!(dir.join("scratch/doorward.db").exists());

    let token = bearer(&doorward, BOB).await;
    assert_eq!(judged(&doorward, &token).await.status, 200);
    run(&next());
    until("bob is logged out", PATIENCE, async || {
        (judged(&doorward, &token).await.status == 401).then_some(())
    })
    .await;

    let said = run(&next());
    assert!(said.contains("passes"), "{said}");

    run(&next());
    let backup = dir.join("data/backup.db").display().to_string();
    let restored = [
        "--set",
        &format!("database.url=sqlite:{backup}"),
        "user",
        "list",
        "--output",
        "json",
    ];
    let users: Value =
        serde_json::from_str(&doorward.run(&restored, "").await.ok().stdout).unwrap();
    assert!(users.to_string().contains("ada"), "{users}");
    assert_eq!(blocks.next(), None, "no test knows this block");
}
