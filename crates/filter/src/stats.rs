//! The module's metrics in Envoy's stats.

use std::sync::atomic::{AtomicU64, Ordering};

use doorward_core::decision::{Decision, Reason, Verdict};

use crate::{
    abi::{Config, Metric, Stream},
    clock::now,
    settings::SettingsFault,
    state::State,
};

/// The metrics of one filter configuration.
#[derive(Debug)]
pub(crate) struct Stats {
    decisions: Metric,
    feed_age: Metric,
    revocations: Metric,
    /// Allowed requests that are not in `decisions` yet, with a token and anonymous. Incrementing Envoy's counter for each
    /// would cost more than judging it.
    passed: [AtomicU64; 2],
    /// The second of the last [`Stats::flush`].
    flushed: AtomicU64,
}

/// The labels of a request that Doorward answers.
const ASKED: [&str; 2] = ["ask", "endpoint"];

/// The reasons of allowed requests, in the order of `passed`.
const PASSES: [Reason; 2] = [Reason::Token, Reason::Anonymous];

impl Stats {
    /// Defines the metrics.
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
            flushed: AtomicU64::new(0),
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
            None => stream.increment(self.decisions, &[verdict.name(), reason.name()], 1),
        }
    }

    /// Counts a request that Doorward answers.
    pub(crate) fn count_asked(&self, stream: &Stream<'_>) {
        stream.increment(self.decisions, &ASKED, 1);
    }

    /// Once a second, adds the allowed requests to Envoy's counter, and sets the gauges.
    ///
    /// A gauge keeps its value while there are no requests. Envoy's main thread could set it at each answer of the feed, but
    /// Envoy 1.38 has that function only for the gauges of a bootstrap extension; 1.39 and 1.40 have it for a filter, too.
    pub(crate) fn flush(&self, stream: &Stream<'_>, state: &State) {
        let now = now();
        let flushed = self.flushed.load(Ordering::Relaxed);
        let is_due = flushed != now.0
            && (self.flushed)
                .compare_exchange(flushed, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_due {
            return;
        }
        for (reason, passed) in PASSES.iter().zip(&self.passed) {
            let count = passed.swap(0, Ordering::Relaxed);
            if count > 0 {
                let labels = [Verdict::Allow.name(), reason.name()];
                stream.increment(self.decisions, &labels, count);
            }
        }
        if !state.has_feed() {
            return;
        }
        state.with(|in_force| {
            if let Some(in_force) = in_force {
                let revoked = &in_force.judge.revoked;
                stream.set_gauge(self.feed_age, now.0.abs_diff(revoked.read_at().0));
                stream.set_gauge(self.revocations, revoked.len() as u64);
            }
        });
    }
}
