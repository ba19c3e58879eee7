//! Decisions are counted by rule, before and after a change of the rules.

use super::*;
use crate::{
    domain::policy::{Demand, Endpoint, Rule},
    observe::metrics::{Metrics, rule_labels::MOST_RULES},
};

fn policy(paths: &[&str]) -> Policy {
    let rule = |path: &&str| Rule::new(path, &[], &[], Demand::SignedIn).unwrap();
    Policy::new(paths.iter().map(rule).collect()).unwrap()
}

fn pass(rule: Option<usize>) -> CountedDecision {
    CountedDecision {
        door: Door::Grpc,
        verdict: Verdict::Allow,
        reason: Reason::Token,
        rule,
        work: Work::Check,
        time: Duration::from_micros(20),
    }
}

fn has(metrics: &Metrics, line: &str) {
    let text = metrics.text();
    assert!(text.lines().any(|own| own == line), "{line}\n{text}");
}

#[test]
fn allowed_requests_are_counted_by_rule_across_reloads() {
    let metrics = Metrics::default();
    let before = policy(&["/longer", "/b"]);
    let number = |policy: &Policy, path: &str| {
        let rules = policy.rules();
        rules.iter().position(|rule| &**rule.name() == path)
    };
    let first = metrics.decisions(&before, Accepted::default());
    first.count(pass(number(&before, "/b")));
    first.count(pass(number(&before, "/b")));
    // The same rule at another position.
    let after = policy(&["/b"]);
    assert_ne!(number(&before, "/b"), number(&after, "/b"));
    let second = metrics.decisions(&after, Accepted::default());
    second.count(pass(number(&after, "/b")));
    second.count(pass(None));
    // A request that started before the reload.
    first.count(pass(number(&before, "/b")));
    let line = |rule: &str| {
        format!(
            "doorward_decisions_total{{door=\"grpc\",decision=\"allow\",reason=\"token\",rule=\"{rule}\"}} "
        )
    };
    has(&metrics, &format!("{}4", line("/b")));
    has(&metrics, &format!("{}1", line("none")));
    has(
        &metrics,
        "doorward_decision_duration_seconds_count{door=\"grpc\",work=\"check\"} 5",
    );
    has(
        &metrics,
        "doorward_decision_duration_seconds_bucket{le=\"0.000025\",door=\"grpc\",work=\"check\"} 5",
    );
}

#[test]
fn the_number_of_rule_series_is_bounded() {
    let metrics = Metrics::default();
    for round in 0..2 * MOST_RULES {
        let path = format!("/{round}");
        metrics
            .decisions(&policy(&[&path]), Accepted::default())
            .count(pass(Some(0)));
    }
    let text = metrics.text();
    let series = text
        .lines()
        .filter(|line| line.starts_with("doorward_decisions_total{"));
    let count = series.count();
    assert!(count > MOST_AT_START, "{count}");
    assert!(count <= MOST_AT_START + MOST_RULES + 1, "{count}");
    has(
        &metrics,
        "doorward_decisions_total{door=\"grpc\",decision=\"allow\",reason=\"token\",rule=\"other\"} 1000",
    );
    // Rules that have their own series keep them.
    metrics
        .decisions(&policy(&["/7"]), Accepted::default())
        .count(pass(Some(0)));
    has(
        &metrics,
        "doorward_decisions_total{door=\"grpc\",decision=\"allow\",reason=\"token\",rule=\"/7\"} 2",
    );
}

#[test]
fn series_exist_before_their_first_decision() {
    let metrics = Metrics::default();
    metrics.begin(&[Endpoint::Login]);
    let _ = metrics.decisions(&policy(&["/x"]), Accepted::default());
    for (door, decision, reason, rule) in [
        ("nginx", "allow", "token", "/x"),
        ("grpc", "deny", "token-expired", "/x"),
        ("grpc", "deny", "no-rule", "none"),
        ("validate", "allow", "token", "none"),
        ("login", "deny", "wrong-password", "none"),
    ] {
        has(
            &metrics,
            &format!(
                "doorward_decisions_total{{door=\"{door}\",decision=\"{decision}\",reason=\"{reason}\",rule=\"{rule}\"}} 0"
            ),
        );
    }
    let text = metrics.text();
    // No series for reasons that the rule's demand excludes, and none for disabled endpoints.
    assert!(!text.contains("reason=\"missing-role\""));
    assert!(!text.contains("door=\"refresh\""));
}
