//! Decisions by door, verdict, reason and rule, and how long they took.
//!
//! Most decisions are passes. The counter of a pass is looked up once per rule and door; from then on, counting a pass is
//! three additions, without a lock, a hash or an allocation.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Metric,
};

use super::{
    expected::{self, Expected},
    labels::Work,
    rule_labels::{NONE, OTHER, RuleLabels},
    timing::Timing,
};
use crate::{
    domain::{
        decision::{Reason, Verdict},
        histogram::{Histogram, Resolution, Scale},
        policy::{Endpoint, Policy, Rule},
    },
    observe::request_log::Door,
};

/// The reasons for which requests pass.
const PASSES: [Reason; 3] = [Reason::Token, Reason::Anonymous, Reason::Key];

/// How many series of decisions exist before their first decision. Rules beyond that get each series with its first
/// decision.
const MOST_AT_START: usize = 5000;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    door: Door,
    decision: Verdict,
    reason: Reason,
    rule: Arc<str>,
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self {
            door,
            decision,
            reason,
            rule,
        } = self;
        let labels = [
            ("door", door.name()),
            ("decision", decision.name()),
            ("reason", reason.name()),
            ("rule", rule),
        ];
        EncodeLabelSet::encode(&labels, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    door: Door,
    work: Work,
}

/// Which credentials count besides passwords and tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Accepted {
    /// Keys for machines.
    pub(crate) keys: bool,
    /// Cookies of browsers.
    pub(crate) cookies: bool,
}

/// Counts of all decisions of this process.
#[derive(Clone, Debug)]
pub(super) struct Decisions(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    decisions: Family<Labels, Counter>,
    times: Family<TimeLabels, Timing, fn() -> Timing>,
    /// The histograms of the family, found without a lock.
    at_hand: [[OnceLock<Arc<Histogram>>; Work::ALL.len()]; Door::ALL.len()],
    labels: RuleLabels,
    series: Mutex<Series>,
    none: Arc<str>,
    other: Arc<str>,
}

/// The series that were created before their first decision.
#[derive(Debug, Default)]
struct Series {
    /// How many there are.
    at_start: usize,
    /// Whether the limit is reached. Then a reload with thousands of rules does not look for missing ones.
    full: bool,
}

impl Decisions {
    pub(super) fn new() -> Self {
        Self(Arc::new(Counts {
            decisions: Family::default(),
            times: Family::new_with_constructor(|| Timing::new(&TIMES)),
            at_hand: Default::default(),
            labels: RuleLabels::default(),
            series: Mutex::default(),
            none: NONE.into(),
            other: OTHER.into(),
        }))
    }

    pub(super) fn counts(&self) -> impl Metric {
        self.0.decisions.clone()
    }

    pub(super) fn times(&self) -> impl Metric {
        self.0.times.clone()
    }

    /// Creates the series of decisions that follow from no rule.
    pub(super) fn begin(&self, endpoints: &[Endpoint]) {
        let routes = endpoints.iter().copied().flat_map(expected::of_route);
        self.expect(&self.0.none, expected::without_rule().chain(routes));
    }

    pub(super) fn by_rules(&self, policy: &Policy, accepted: Accepted) -> DecisionCounts {
        let expected = |rule: &Rule| {
            let by_key = accepted.keys.then(|| expected::by_key(rule));
            let by_cookie = accepted.cookies.then(|| expected::by_cookie(rule));
            expected::of_rule(rule.demand())
                .chain(by_key.into_iter().flatten())
                .chain(by_cookie.into_iter().flatten())
        };
        let other = Arc::new(RuleCounts::new(Arc::clone(&self.0.other)));
        let rules = policy.rules().iter().map(|rule| {
            let Some(label) = self.0.labels.own(rule.name()) else {
                self.expect(&self.0.other, expected(rule));
                return Arc::clone(&other);
            };
            self.expect(&label, expected(rule));
            Arc::new(RuleCounts::new(label))
        });
        DecisionCounts {
            rules: rules.collect(),
            none: RuleCounts::new(Arc::clone(&self.0.none)),
            decisions: self.clone(),
        }
    }

    /// Creates these series with 0, or none of them.
    fn expect(&self, rule: &Arc<str>, expected: impl Iterator<Item = Expected>) {
        if self.series().full {
            return;
        }
        let labels = expected.map(|(door, decision, reason)| Labels {
            door,
            decision,
            reason,
            rule: Arc::clone(rule),
        });
        let decisions = &self.0.decisions;
        let new: Vec<_> = labels
            .filter(|labels| decisions.get(labels).is_none())
            .collect();
        let mut series = self.series();
        if series.at_start + new.len() > MOST_AT_START {
            series.full = true;
            return;
        }
        series.at_start += new.len();
        for labels in &new {
            drop(decisions.get_or_create(labels));
        }
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        // Every change is complete before anything can panic.
        (self.0.series.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn took(&self, door: Door, work: Work, time: Duration) {
        let cells = self.0.at_hand.get(door as usize);
        let Some(cell) = cells.and_then(|cells| cells.get(work as usize)) else {
            return;
        };
        let histogram = cell.get_or_init(|| {
            let labels = TimeLabels { door, work };
            Arc::clone(self.0.times.get_or_create(&labels).histogram())
        });
        histogram.observe(time);
    }
}

/// Counts decisions by the rules of one policy. Rules of the same name are counted together, before a reload and after it.
pub(crate) struct DecisionCounts {
    decisions: Decisions,
    /// By the number of the rule. Rules without series of their own share their counts.
    rules: Box<[Arc<RuleCounts>]>,
    /// Of decisions without a rule, such as those of `/validate`.
    none: RuleCounts,
}

struct RuleCounts {
    label: Arc<str>,
    passes: [[OnceLock<Counter>; PASSES.len()]; Door::ALL.len()],
}

impl RuleCounts {
    fn new(label: Arc<str>) -> Self {
        Self {
            label,
            passes: Default::default(),
        }
    }
}

/// A decision as it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedDecision {
    pub(crate) door: Door,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    /// The number of the rule that decided, if one did: [`Policy::number_of`].
    pub(crate) rule: Option<usize>,
    pub(crate) work: Work,
    pub(crate) time: Duration,
}

impl DecisionCounts {
    pub(crate) fn count(&self, decision: CountedDecision) {
        let CountedDecision {
            door,
            verdict,
            reason,
            rule,
            work,
            time,
        } = decision;
        self.decisions.took(door, work, time);
        let rule = rule.and_then(|rule| self.rules.get(rule));
        let rule = rule.map_or(&self.none, |rule| &**rule);
        let counter = || {
            let labels = Labels {
                door,
                decision: verdict,
                reason,
                rule: Arc::clone(&rule.label),
            };
            self.decisions.0.decisions.get_or_create_owned(&labels)
        };
        let pass = PASSES.iter().position(|pass| *pass == reason);
        let cell = pass
            .filter(|_| verdict == Verdict::Allow)
            .and_then(|pass| rule.passes.get(door as usize)?.get(pass));
        match cell {
            Some(cell) => cell.get_or_init(counter).inc(),
            None => counter().inc(),
        };
    }
}

impl fmt::Debug for DecisionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecisionCounts({} rules)", self.rules.len())
    }
}

#[cfg(test)]
mod tests;
