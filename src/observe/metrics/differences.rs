//! Requests that the next rules decide otherwise, by rule and direction.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
};

use super::rule_labels::{NONE, OTHER, RuleLabels};
use crate::domain::{
    policy::{Demand, Policy},
    shadow::Direction,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DifferenceLabels {
    rule: Arc<str>,
    direction: DirectionLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct DirectionLabel(Direction);

impl EncodeLabelValue for DirectionLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.name(), encoder)
    }
}

/// Counts of all differences of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Differences {
    pub(super) series: Family<DifferenceLabels, Counter>,
    labels: Arc<RuleLabels>,
}

impl Differences {
    /// Counts differences by the rules of one policy; creates the series that can occur.
    pub(super) fn by_rules(&self, policy: &Policy) -> DifferenceCounts {
        let counts = |label: Arc<str>, possible: &[Direction]| {
            let counts = RuleCounts {
                label,
                counters: Default::default(),
            };
            for direction in possible {
                drop(self.counter(&counts, *direction));
            }
            counts
        };
        let rules = policy.rules().iter().map(|rule| {
            let label = self.labels.own(rule.name());
            let label = label.unwrap_or_else(|| OTHER.into());
            counts(label, possible(rule.demand()))
        });
        DifferenceCounts {
            rules: rules.collect(),
            none: counts(NONE.into(), &[Direction::WouldBeDenied]),
            differences: self.clone(),
        }
    }

    fn counter(&self, of: &RuleCounts, direction: Direction) -> Counter {
        let labels = || DifferenceLabels {
            rule: Arc::clone(&of.label),
            direction: DirectionLabel(direction),
        };
        let make = || self.series.get_or_create_owned(&labels());
        match of.counters.get(direction as usize) {
            Some(cell) => cell.get_or_init(make).clone(),
            None => make(),
        }
    }
}

/// The directions in which a next rule can change a verdict.
fn possible(demand: &Demand) -> &'static [Direction] {
    match demand {
        Demand::Nobody => &[Direction::WouldBeDenied],
        Demand::Endpoint(_) => &[Direction::WouldBeDenied, Direction::WouldBeAnswered],
        Demand::Public | Demand::SignedIn | Demand::Role(_) => {
            &[Direction::WouldPass, Direction::WouldBeDenied]
        }
    }
}

/// Counts differences by the rules of one policy. Rules of the same name are counted together, before a reload and after it.
#[derive(Debug)]
pub(crate) struct DifferenceCounts {
    differences: Differences,
    /// By the number of the rule.
    rules: Box<[RuleCounts]>,
    none: RuleCounts,
}

#[derive(Debug)]
struct RuleCounts {
    label: Arc<str>,
    counters: [OnceLock<Counter>; Direction::ALL.len()],
}

impl DifferenceCounts {
    /// Counts a difference; `rule` is the number of the next rule that would decide.
    pub(crate) fn count(&self, rule: Option<usize>, direction: Direction) {
        let rule = rule.and_then(|rule| self.rules.get(rule));
        let counter = (self.differences).counter(rule.unwrap_or(&self.none), direction);
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::policy::Rule,
        observe::metrics::{Metrics, rule_labels::MOST_RULES},
    };

    fn policy(path: &str, demand: Demand) -> Policy {
        Policy::new(vec![Rule::new(path, &[], &[], demand).unwrap()]).unwrap()
    }

    fn has(metrics: &Metrics, rule: &str, direction: &str, count: u32) {
        let text = metrics.text();
        let line = format!(
            "doorward_next_rules_differences_total{{rule=\"{rule}\",direction=\"{direction}\"}} {count}"
        );
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }

    #[test]
    fn differences_are_counted_by_rule_and_direction_across_reloads() {
        let metrics = Metrics::default();
        assert!(
            !metrics
                .text()
                .contains("doorward_next_rules_differences_total{")
        );
        let first = metrics.differences(&policy("/x", Demand::SignedIn));
        has(&metrics, "/x", "would-pass", 0);
        has(&metrics, "/x", "would-be-denied", 0);
        has(&metrics, "none", "would-be-denied", 0);
        assert!(!metrics.text().contains("would-be-answered"));
        first.count(Some(0), Direction::WouldPass);
        let second = metrics.differences(&policy("/x", Demand::Public));
        second.count(Some(0), Direction::WouldPass);
        second.count(None, Direction::WouldBeDenied);
        has(&metrics, "/x", "would-pass", 2);
        has(&metrics, "/x", "would-be-denied", 0);
        has(&metrics, "none", "would-be-denied", 1);
    }

    #[test]
    fn the_number_of_rule_series_is_bounded() {
        let metrics = Metrics::default();
        for round in 0..MOST_RULES + 10 {
            let policy = policy(&format!("/{round}"), Demand::Nobody);
            let counts = metrics.differences(&policy);
            counts.count(Some(0), Direction::WouldBeDenied);
        }
        has(&metrics, "other", "would-be-denied", 10);
    }
}
