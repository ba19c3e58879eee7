//! Decisions by door, verdict, reason and rule, and how long they took.
//!
//! A pass is the most frequent of them. Its counter is found once, when the rule lets somebody pass for the first time; from
//! then on a pass is three additions, without a lock, a hash or an allocation.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Metric,
};

use super::timing::Timing;
use crate::domain::{
    histogram::{Histogram, Resolution, Scale},
    policy::Policy,
};

/// All doors, those first at which requests pass.
const DOORS: [&str; 10] = [
    "grpc",
    "envoy-http",
    "forward",
    "nginx",
    "validate",
    "login",
    "logout",
    "refresh",
    "register",
    "password",
];
const PASSING: usize = 4;

/// The reasons for which requests pass.
const PASSES: [&str; 2] = ["token", "anonymous"];

/// The most rules that have series of their own: reloads that bring ever new ones do not fill the memory.
const MOST_RULES: usize = 1000;

/// The label of decisions that follow from no rule, and of rules beyond those.
const NONE: &str = "none";
const OTHER: &str = "other";

static TIMES: Scale = Scale {
    bounds: &[
        Duration::from_micros(10),
        Duration::from_micros(25),
        Duration::from_micros(50),
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_millis(1),
        Duration::from_millis(5),
        Duration::from_millis(25),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(5),
    ],
    resolution: Resolution::Nanoseconds,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    door: &'static str,
    decision: &'static str,
    reason: &'static str,
    rule: Arc<str>,
}

/// What a decision took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// What is in memory.
    Check,
    /// Rows and hashes.
    Errand,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    door: &'static str,
    work: &'static str,
}

/// Counts of all decisions of this process.
#[derive(Clone, Debug)]
pub(super) struct Decisions(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    decisions: Family<Labels, Counter>,
    times: Family<TimeLabels, Timing, fn() -> Timing>,
    /// The same as in the family, where no lock is taken.
    at_hand: [[OnceLock<Arc<Histogram>>; 2]; DOORS.len()],
    rules: Mutex<HashSet<Arc<str>>>,
    none: Arc<str>,
}

impl Decisions {
    pub(super) fn new() -> Self {
        Self(Arc::new(Counts {
            decisions: Family::default(),
            times: Family::new_with_constructor(|| Timing::new(&TIMES)),
            at_hand: Default::default(),
            rules: Mutex::default(),
            none: NONE.into(),
        }))
    }

    pub(super) fn counts(&self) -> impl Metric {
        self.0.decisions.clone()
    }

    pub(super) fn times(&self) -> impl Metric {
        self.0.times.clone()
    }

    /// Where decisions by these rules are counted.
    pub(super) fn tally(&self, policy: &Policy) -> Tally {
        let rules = policy.rules().iter().map(|rule| RuleTally {
            label: self.label(rule.name()),
            passes: Default::default(),
        });
        Tally {
            counts: self.clone(),
            rules: rules.collect(),
        }
    }

    fn label(&self, name: &Arc<str>) -> Arc<str> {
        // Every change is complete before anything can panic.
        let mut rules = self.0.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.len() >= MOST_RULES && !rules.contains(name) {
            return OTHER.into();
        }
        rules.insert(Arc::clone(name));
        Arc::clone(name)
    }

    fn took(&self, door: usize, work: Work, time: Duration) {
        let (place, name) = match work {
            Work::Check => (0, "check"),
            Work::Errand => (1, "errand"),
        };
        let Some((cell, door)) = (self.0.at_hand.get(door))
            .and_then(|cells| cells.get(place))
            .zip(DOORS.get(door))
        else {
            return;
        };
        let histogram = cell.get_or_init(|| {
            let labels = TimeLabels { door, work: name };
            Arc::clone(self.0.times.get_or_create(&labels).histogram())
        });
        histogram.observe(time);
    }
}

/// Where decisions by some rules are counted. Rules of the same name are counted together, before a reload and after it.
pub struct Tally {
    counts: Decisions,
    rules: Box<[RuleTally]>,
}

struct RuleTally {
    label: Arc<str>,
    passes: [[OnceLock<Counter>; PASSES.len()]; PASSING],
}

/// What is counted of a decision. No text of it comes from a client.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Which door was asked.
    pub door: &'static str,
    /// The decision as the log names it.
    pub decision: &'static str,
    /// The reason as the log names it.
    pub reason: &'static str,
    /// Where the rule stands that decided, if one did: [`Policy::number_of`].
    pub rule: Option<usize>,
    /// What it took.
    pub work: Work,
    /// How long it took.
    pub time: Duration,
}

impl Tally {
    /// Counts a decision.
    pub fn count(&self, counted: Counted) {
        let Counted {
            door,
            decision,
            reason,
            rule,
            work,
            time,
        } = counted;
        let door_number = DOORS.iter().position(|own| *own == door);
        if let Some(number) = door_number {
            self.counts.took(number, work, time);
        }
        let rule = rule.and_then(|rule| self.rules.get(rule));
        let counter = || {
            let labels = Labels {
                door,
                decision,
                reason,
                rule: Arc::clone(rule.map_or(&self.counts.0.none, |rule| &rule.label)),
            };
            self.counts.0.decisions.get_or_create(&labels).clone()
        };
        let place = PASSES.iter().position(|own| *own == reason);
        let at_hand = (rule.zip(door_number).zip(place))
            .filter(|_| decision == "allow")
            .and_then(|((rule, door), place)| rule.passes.get(door)?.get(place));
        match at_hand {
            Some(cell) => cell.get_or_init(counter).inc(),
            None => counter().inc(),
        };
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tally({} rules)", self.rules.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::policy::{Demand, Endpoint, Rule},
        observe::metrics::Metrics,
    };

    fn policy(paths: &[&str]) -> Policy {
        let rule = |path: &&str| Rule::new(path, &[], &[], Demand::SignedIn).unwrap();
        Policy::new(paths.iter().map(rule).collect()).unwrap()
    }

    fn pass(rule: Option<usize>) -> Counted {
        Counted {
            door: "grpc",
            decision: "allow",
            reason: "token",
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
    fn passes_are_counted_by_rule_across_reloads() {
        let metrics = Metrics::default();
        let before = policy(&["/longer", "/b"]);
        let number = |policy: &Policy, path: &str| {
            let rules = policy.rules();
            rules.iter().position(|rule| &**rule.name() == path)
        };
        let first = metrics.tally(&before);
        first.count(pass(number(&before, "/b")));
        first.count(pass(number(&before, "/b")));
        // The same rule stands elsewhere.
        let after = policy(&["/b"]);
        assert_ne!(number(&before, "/b"), number(&after, "/b"));
        let second = metrics.tally(&after);
        second.count(pass(number(&after, "/b")));
        second.count(pass(None));
        // A request that began before the reload.
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
    fn ever_new_rules_do_not_make_ever_new_series() {
        let metrics = Metrics::default();
        for round in 0..2 * MOST_RULES {
            let path = format!("/{round}");
            metrics.tally(&policy(&[&path])).count(pass(Some(0)));
        }
        let text = metrics.text();
        let series = text
            .lines()
            .filter(|line| line.starts_with("doorward_decisions_total{"));
        assert_eq!(series.count(), MOST_RULES + 1);
        has(
            &metrics,
            "doorward_decisions_total{door=\"grpc\",decision=\"allow\",reason=\"token\",rule=\"other\"} 1000",
        );
        // Those that are known stay so.
        metrics.tally(&policy(&["/7"])).count(pass(Some(0)));
        has(
            &metrics,
            "doorward_decisions_total{door=\"grpc\",decision=\"allow\",reason=\"token\",rule=\"/7\"} 2",
        );
    }

    #[test]
    fn every_endpoint_is_a_door() {
        for endpoint in Endpoint::ALL {
            assert!(DOORS.contains(&endpoint.name()), "{endpoint:?}");
        }
    }
}
