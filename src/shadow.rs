//! Compares the verdicts of the rules in force with those of the next rules: counts each difference, and logs a bounded
//! number of them. Must not decide anything.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    domain::{
        decision::{Decision, Reason},
        judge::{Judge, Judged},
        policy::{Policy, Rule},
        request::Request,
        shadow::{Difference, Direction},
        token::UnixTime,
    },
    observe::{
        metrics::DifferenceCounts,
        request_log::{Trace, shown},
    },
};

/// The next rules.
#[derive(Debug)]
pub(crate) struct Shadow {
    policy: Policy,
    counts: Arc<DifferenceCounts>,
    /// The last minute with a line, by rule and direction; the last entry is that of requests without a rule.
    lines: Box<[[AtomicU64; Direction::ALL.len()]]>,
}

/// A request that the next rules decide otherwise, for the log and for the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Otherwise {
    pub(crate) direction: Direction,
    /// The name of the next rule that would decide.
    pub(crate) rule: Option<Arc<str>>,
    /// The reason of the verdict; for an endpoint there is none.
    pub(crate) reason: Option<Reason>,
    /// Whether the log shows it.
    logged: bool,
}

impl Shadow {
    pub(crate) fn new(policy: Policy, counts: Arc<DifferenceCounts>) -> Self {
        let lines = (0..=policy.rules().len()).map(|_| Default::default());
        Self {
            lines: lines.collect(),
            policy,
            counts,
        }
    }

    /// Compares a request that was judged, and counts a difference.
    pub(crate) fn compare(
        &self,
        judge: &Judge,
        judged: &Judged<'_>,
        request: &Request<'_>,
        now: UnixTime,
    ) -> Option<Otherwise> {
        let found = judge.difference(&self.policy, judged, request, now)?;
        let Difference {
            direction,
            rule,
            reason,
        } = found;
        let number = rule.and_then(|rule| self.policy.number_of(rule));
        self.counts.count(number, direction);
        Some(Otherwise {
            direction,
            rule: rule.map(Rule::name).cloned(),
            reason,
            logged: self.may_log(number, direction, now),
        })
    }

    /// Whether this is the first difference of the rule and direction in this minute.
    fn may_log(&self, rule: Option<usize>, direction: Direction, now: UnixTime) -> bool {
        let place = rule.unwrap_or(self.policy.rules().len());
        let last = (self.lines.get(place)).and_then(|lines| lines.get(direction as usize));
        // One more than the minute, so that 0 is no minute.
        let minute = now.0 / 60 + 1;
        last.is_some_and(|last| last.swap(minute, Ordering::Relaxed) != minute)
    }
}

impl Otherwise {
    /// Logs the difference, at most once per rule, direction and minute.
    pub(crate) fn log(&self, decision: &Decision, rule: Option<&str>, trace: &Trace<'_>) {
        let Self {
            direction,
            rule: next_rule,
            reason: next_reason,
            logged,
        } = self;
        if !logged {
            return;
        }
        tracing::info!(
            door = trace.door.name(),
            client = trace.client.ok().map(tracing::field::display),
            method = %shown(trace.line.method),
            host = %shown(trace.line.host),
            path = %shown(trace.line.target),
            rule,
            reason = decision.reason().name(),
            next_rule = next_rule.as_deref(),
            next_reason = next_reason.map(Reason::name),
            direction = direction.name(),
            sub = decision.subject(),
            request_id = trace.request_id,
            "the next rules decide otherwise"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::policy::{Demand, Rule},
        observe::metrics::Metrics,
    };

    #[test]
    fn one_line_per_rule_direction_and_minute() {
        let rule = |path| Rule::new(path, &[], &[], Demand::Public).unwrap();
        let policy = Policy::new(vec![rule("/a"), rule("/b")]).unwrap();
        let counts = Metrics::default().differences(&policy);
        let shadow = Shadow::new(policy, counts);
        let (first, second) = (UnixTime(119), UnixTime(120));
        for place in [Some(0), Some(1), None] {
            for direction in Direction::ALL {
                assert!(shadow.may_log(place, direction, first));
                assert!(!shadow.may_log(place, direction, first));
                assert!(shadow.may_log(place, direction, second));
                assert!(!shadow.may_log(place, direction, second));
            }
        }
        // A clock at its beginning.
        let policy = Policy::new(vec![rule("/a")]).unwrap();
        let counts = Metrics::default().differences(&policy);
        let shadow = Shadow::new(policy, counts);
        assert!(shadow.may_log(None, Direction::WouldPass, UnixTime(0)));
    }
}
