//! What Envoy's stats show of the module.

use std::sync::atomic::{AtomicU64, Ordering};

use doorward_core::decision::{Decision, Reason, Verdict};

use crate::{
    abi::{Config, Metric, Stream},
    settings::SettingsFault,
    state::{State, now},
};

/// The metrics of one filter configuration.
#[derive(Debug)]
pub(crate) struct Stats {
    decisions: Metric,
    feed_age: Metric,
    revocations: Metric,
    /// Passes that are not in `decisions` yet, as somebody and as nobody: counting each one there would cost more than
    /// judging it.
    passed: [AtomicU64; 2],
    /// The second in which Envoy was told last.
    told: AtomicU64,
}

/// A request that Doorward was asked about.
const ASKED: [&str; 2] = ["ask", "endpoint"];

/// The reasons of passes, in their order.
const PASSES: [Reason; 2] = [Reason::Token, Reason::Anonymous];

impl Stats {
    /// Defines them.
    ///
    /// # Errors
    ///
    /// Envoy refuses one.
    pub(crate) fn define(config: &Config<'_>) -> Result<Self, SettingsFault> {
        let gauge = |name| config.gauge(name).ok_or(SettingsFault::Metric(name));
        let decisions = "doorward_decisions";
        Ok(Self {
            decisions: (config.counter(decisions, &["verdict", "reason"]))
                .ok_or(SettingsFault::Metric(decisions))?,
            feed_age: gauge("doorward_feed_age_seconds")?,
            revocations: gauge("doorward_revocations")?,
            passed: Default::default(),
            told: AtomicU64::new(0),
        })
    }

    /// Counts a decision.
    pub(crate) fn count(&self, stream: &Stream<'_>, decision: &Decision) {
        let (verdict, reason) = (decision.verdict(), decision.reason());
        let pass = PASSES
            .iter()
            .zip(&self.passed)
            .find(|(own, _)| **own == reason);
        match pass.filter(|_| verdict == Verdict::Allow) {
            Some((_, passed)) => {
                passed.fetch_add(1, Ordering::Relaxed);
            }
            None => stream.count(self.decisions, &[verdict.name(), reason.name()], 1),
        }
    }

    /// Counts a question.
    pub(crate) fn count_asked(&self, stream: &Stream<'_>) {
        stream.count(self.decisions, &ASKED, 1);
    }

    /// Once a second, tells Envoy what has passed, and what is known of the feed.
    pub(crate) fn tell(&self, stream: &Stream<'_>, state: &State) {
        let now = now();
        let told = self.told.load(Ordering::Relaxed);
        let is_mine = told != now.0
            && (self.told)
                .compare_exchange(told, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_mine {
            return;
        }
        for (reason, passed) in PASSES.iter().zip(&self.passed) {
            let count = passed.swap(0, Ordering::Relaxed);
            if count > 0 {
                let labels = [Verdict::Allow.name(), reason.name()];
                stream.count(self.decisions, &labels, count);
            }
        }
        if state.follower.is_none() {
            return;
        }
        state.with(|in_force| {
            if let Some(in_force) = in_force {
                let revoked = &in_force.judge.revoked;
                stream.show(self.feed_age, now.0.abs_diff(revoked.read_at().0));
                stream.show(self.revocations, revoked.len() as u64);
            }
        });
    }
}
