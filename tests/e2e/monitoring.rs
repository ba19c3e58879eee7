//! The examples for Prometheus and Grafana, with a real Prometheus that scrapes a real Doorward.

use std::{collections::BTreeSet, fs, process::Command};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::{
    front::{BOB, Front, tampered},
    harness::{Envoy, PATIENCE, Process, free_address, program, repository, send, try_send, until},
};

fn promtool(arguments: &[&str]) -> String {
    let ran = Command::new(program("promtool"))
        .args(arguments)
        .current_dir(repository().join("examples/monitoring"))
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{arguments:?}\n{said}");
    said
}

fn example(name: &str) -> String {
    fs::read_to_string(repository().join("examples/monitoring").join(name)).unwrap()
}

/// The expressions of all alerts, one after the other.
fn asked_by_alerts() -> String {
    let text = example("alerts.yaml");
    text.lines().filter(|line| !line.contains(": ")).collect()
}

/// The names of all alerts.
fn alerts() -> Vec<String> {
    let text = example("alerts.yaml");
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_a_firing_and_a_silent_case() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "alerts.yaml"]);
    promtool(&["test", "rules", "alerts_test.yaml"]);
    promtool(&["test", "rules", "alerts_keys_test.yaml"]);
    let rules = example("alerts.yaml");
    let cases = example("alerts_test.yaml") + &example("alerts_keys_test.yaml");
    let names = alerts();
    assert!(names.len() >= 12, "{names:?}");
    for name in &names {
        let case = |end: &str| {
            let (_, case) = cases
                .split_once(&format!("- name: {name} {end}\n"))
                .unwrap();
            let case = case.split("  - name: ").next().unwrap();
            assert!(case.contains(&format!("alertname: {name}\n")), "{case}");
            case.to_owned()
        };
        assert!(case("fires").contains("exp_labels"), "{name}");
        assert!(case("does not fire").contains("exp_alerts: []"), "{name}");
        let (_, rule) = rules.split_once(&format!("- alert: {name}\n")).unwrap();
        let rule = rule.split("- alert: ").next().unwrap();
        let link = format!("runbook_url: docs/operations.md#{}\n", name.to_lowercase());
        for part in ["severity: ", "summary: ", "description: ", " for: ", &link] {
            assert!(rule.contains(part), "{name} lacks {part}");
        }
    }
}

/// The expressions of the dashboard; Grafana's variables are filled in.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&example("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let mut found = Vec::new();
    for panel in panels.filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let text = target["expr"].as_str().unwrap();
            let text = text
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".+");
            assert!(!text.contains('$'), "{title}: {text}");
            found.push((title.to_owned(), text));
        }
    }
    found
}

/// The metric names in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_word(c));
    let names = words.filter(|word| {
        ["doorward_", "process_", OF_MODULE]
            .iter()
            .any(|start| word.starts_with(start))
    });
    names.map(str::to_owned).collect()
}

/// How the metrics of the module in Envoy begin, in Envoy's text for Prometheus.
const OF_MODULE: &str = "envoy_dynamicmodulescustom_doorward_";

/// The metrics of the module that alerts and dashboard ask for; the tests of the module look for them.
pub fn asked_of_the_module() -> BTreeSet<String> {
    let mut asked = names(&asked_by_alerts());
    asked.extend(
        expressions()
            .iter()
            .flat_map(|(_, expression)| names(expression)),
    );
    asked.retain(|name| name.starts_with(OF_MODULE));
    asked
}

/// Metrics that exist only with TLS, other issuers or keys for machines.
const NOT_HERE: [&str; 3] = [
    "doorward_machine_keys_expiring",
    "doorward_tls_certificate_expiry_timestamp_seconds",
    "doorward_issuer_last_good_fetch_timestamp_seconds",
];

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_finds_what_alerts_and_dashboard_ask_for() {
    let front = Front::open(Envoy::NEWEST, |_| {}, |config| config).await;
    let bob = front.bearer(BOB).await;
    for bearer in [&bob, &tampered(&bob)] {
        front.send("GET", "/x", &[("authorization", bearer)]).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = example("prometheus.yml")
        .replace("127.0.0.1:9003", &front.doorward.ops.to_string())
        .replace("_interval: 15s", "_interval: 1s");
    fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    fs::write(dir.path().join("alerts.yaml"), example("alerts.yaml")).unwrap();
    let address = free_address();
    let mut command = Command::new(program("prometheus"));
    command
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address={address}"))
        .current_dir(dir.path());
    let mut prometheus = Process::start("prometheus", &mut command, dir.path());
    prometheus
        .ready(async |_| {
            let reply = try_send(address, "GET", "/-/ready", &[], "").await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
    let query = async |expression: &str| {
        let expression = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let path = format!("/api/v1/query?query={expression}");
        let reply = send(address, "GET", &path, &[], "").await;
        let answer = reply.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    until("the target is up", PATIENCE, async || {
        let up = query("up{job=\"doorward\"} == 1 and count_over_time(up[1m]) > 2").await;
        (up.len() == 1).then_some(())
    })
    .await;

    // The alerts name no metric that no expression uses, and no misspelt label.
    let mut asked = names(&asked_by_alerts());
    assert!(asked.len() >= 12, "{asked:?}");
    let expressions = expressions();
    assert!(expressions.len() >= 25, "{}", expressions.len());
    for (title, expression) in &expressions {
        query(expression).await;
        let names = names(expression);
        assert!(!names.is_empty(), "{title}");
        asked.extend(names);
    }
    for name in asked
        .iter()
        .filter(|name| !NOT_HERE.contains(&name.as_str()) && !name.starts_with(OF_MODULE))
    {
        assert!(!query(name).await.is_empty(), "no metric {name}");
    }

    let rules = send(address, "GET", "/api/v1/rules", &[], "").await.json();
    let rules = rules["data"]["groups"][0]["rules"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(rules.len(), alerts().len());
    until("all alerts are evaluated", PATIENCE, async || {
        let rules = send(address, "GET", "/api/v1/rules", &[], "").await.json();
        let rules = rules["data"]["groups"][0]["rules"]
            .as_array()
            .unwrap()
            .clone();
        rules
            .iter()
            .all(|rule| rule["health"] == "ok")
            .then_some(())
    })
    .await;

    // promtool reads the older text format, which describes a counter by its whole name.
    let numbers = send(front.doorward.ops, "GET", "/metrics", &[], "").await;
    let counters = numbers.text().lines().filter_map(|line| {
        let described = line.strip_prefix("# TYPE ")?;
        described.strip_suffix(" counter")
    });
    let older = counters.fold(numbers.text().to_owned(), |text, name| {
        ["TYPE", "HELP"].iter().fold(text, |text, word| {
            text.replace(
                &format!("# {word} {name} "),
                &format!("# {word} {name}_total "),
            )
        })
    });
    fs::write(dir.path().join("numbers"), older).unwrap();
    let checked = Command::new(program("promtool"))
        .args(["check", "metrics"])
        .stdin(fs::File::open(dir.path().join("numbers")).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}
