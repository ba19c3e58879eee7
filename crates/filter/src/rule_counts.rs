//! Decisions by rule. They are counted in memory, because incrementing a counter of Envoy for each would cost more than
//! judging it, and are added to Envoy's counters once a second.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use doorward_core::{decision::Verdict, policy::Policy};
use doorward_rules::feed::InForce;

use crate::follower::locked;

/// What became of a request, as far as it is counted by rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The service gets it.
    Allowed,
    /// The client gets an answer of the module.
    Denied,
    /// Doorward answers.
    Asked,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Allowed, Self::Denied, Self::Asked];

    /// The label `verdict`.
    fn name(self) -> &'static str {
        match self {
            Self::Allowed => Verdict::Allow.name(),
            Self::Denied => Verdict::Deny.name(),
            Self::Asked => ASK,
        }
    }
}

/// The label `verdict` of requests that Doorward answers.
pub(crate) const ASK: &str = "ask";

/// The most rules with counters of their own. Reloads that bring ever new rules must not bring ever new counters.
const MOST_RULES: usize = 1000;

/// The label of what follows from no rule.
const NONE: &str = "none";

/// The label of rules beyond the limit.
const OTHER: &str = "other";

/// By [`Outcome`]; what Envoy's counters do not have yet.
type Counts = [AtomicU64; Outcome::ALL.len()];

/// The counts of all rules that were ever in force. Rules of the same name are counted together, before a change and after it.
#[derive(Debug)]
pub(crate) struct RuleCounts {
    none: Arc<Counts>,
    other: Arc<Counts>,
    named: Mutex<HashMap<Arc<str>, Arc<Counts>>>,
}

/// What is in force, with the counts of its rules.
pub(crate) struct Counted {
    pub(crate) in_force: Arc<InForce>,
    none: Arc<Counts>,
    /// By the number of the rule.
    rules: Box<[Arc<Counts>]>,
}

impl RuleCounts {
    pub(crate) fn new() -> Self {
        Self {
            none: Arc::default(),
            other: Arc::default(),
            named: Mutex::default(),
        }
    }

    /// Counts the decisions of these rules from now on.
    pub(crate) fn of(&self, in_force: Arc<InForce>) -> Counted {
        Counted {
            rules: self.counts(&in_force.judge.policy),
            none: Arc::clone(&self.none),
            in_force,
        }
    }

    fn counts(&self, policy: &Policy) -> Box<[Arc<Counts>]> {
        let mut named = locked(&self.named);
        let rules = policy.rules().iter().map(|rule| {
            if named.len() >= MOST_RULES && !named.contains_key(rule.name()) {
                return Arc::clone(&self.other);
            }
            Arc::clone(named.entry(Arc::clone(rule.name())).or_default())
        });
        rules.collect()
    }

    /// Passes what was counted since the last call: rule, verdict and number.
    pub(crate) fn take(&self, mut add: impl FnMut(&str, &str, u64)) {
        let named = locked(&self.named);
        let named = named.iter().map(|(name, counts)| (&**name, counts));
        for (name, counts) in [(NONE, &self.none), (OTHER, &self.other)]
            .into_iter()
            .chain(named)
        {
            for (outcome, count) in Outcome::ALL.iter().zip(&**counts) {
                // Most rules are quiet, and a load costs less than a swap.
                if count.load(Ordering::Relaxed) > 0 {
                    add(name, outcome.name(), count.swap(0, Ordering::Relaxed));
                }
            }
        }
    }
}

impl Counted {
    /// Counts a request; `rule` is the number of the rule that decided.
    pub(crate) fn count(&self, rule: Option<usize>, outcome: Outcome) {
        let counts = rule
            .and_then(|rule| self.rules.get(rule))
            .unwrap_or(&self.none);
        if let Some(count) = counts.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({} rules)", self.rules.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use doorward_core::policy::{Demand, Rule};

    use super::*;

    fn policy(paths: impl Iterator<Item = String>) -> Policy {
        let rule = |path: String| Rule::new(&path, &[], &[], Demand::SignedIn).unwrap();
        Policy::new(paths.map(rule).collect()).unwrap()
    }

    fn taken(counts: &RuleCounts) -> BTreeMap<(String, String), u64> {
        let mut all = BTreeMap::new();
        counts.take(|rule, verdict, count| {
            let before = all.insert((rule.to_owned(), verdict.to_owned()), count);
            assert_eq!(before, None);
        });
        all
    }

    fn add(counts: &Arc<Counts>, outcome: Outcome) {
        counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn rules_of_the_same_name_are_counted_together_before_a_change_and_after_it() {
        let counts = RuleCounts::new();
        let before = counts.counts(&policy(["/a".into(), "/b".into()].into_iter()));
        add(&before[0], Outcome::Allowed);
        add(&before[1], Outcome::Denied);
        let after = counts.counts(&policy(["/b".into()].into_iter()));
        add(&after[0], Outcome::Denied);
        // A worker may still use what was replaced.
        add(&before[0], Outcome::Allowed);
        let names: Vec<_> = taken(&counts).into_iter().collect();
        let expected = [(("/a", "allow"), 2), (("/b", "deny"), 2)];
        let expected =
            expected.map(|((rule, verdict), count)| ((rule.into(), verdict.into()), count));
        assert_eq!(names, expected);
        assert!(taken(&counts).is_empty());
    }

    #[test]
    fn rules_beyond_the_limit_share_their_counts() {
        let counts = RuleCounts::new();
        let all = counts.counts(&policy(
            (0..MOST_RULES + 5).map(|number| format!("/{number}")),
        ));
        for rule in &all {
            add(rule, Outcome::Asked);
        }
        let taken = taken(&counts);
        assert_eq!(taken.len(), MOST_RULES + 1);
        assert_eq!(taken[&(OTHER.to_owned(), "ask".to_owned())], 5);
    }
}
