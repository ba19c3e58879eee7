//! The module's metrics in Envoy's stats.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use doorward_core::decision::{Decision, Reason, Verdict};

use crate::{
    abi::{Config, Metric, Stream},
    clock::now,
    rule_counts::ASK,
    settings::SettingsFault,
    state::State,
};

/// The metrics of one filter configuration.
#[derive(Debug)]
pub(crate) struct Stats {
    decisions: Metric,
    rule_decisions: Metric,
    asked: Metric,
    feed_age: Metric,
    revocations: Metric,
    tokens: Metric,
    memory: Metric,
    /// Allowed requests that are not in `decisions` yet, with a token and anonymous. Incrementing Envoy's counter for each
    /// would cost more than judging it.
    passed: [AtomicU64; 2],
    /// The second of the last [`Stats::flush`].
    flushed: AtomicU64,
}

/// The labels of a request that Doorward answers.
const ASKED: [&str; 2] = [ASK, "endpoint"];

/// Estimates of the memory of what is kept and grows.
const TOKEN_BYTES: usize = 640;
const REVOCATION_BYTES: usize = 300;

/// The reasons of allowed requests, in the order of `passed`.
const PASSES: [Reason; 2] = [Reason::Token, Reason::Anonymous];

impl Stats {
    /// Defines the metrics.
    ///
    /// # Errors
    ///
    /// Envoy refuses one.
    pub(crate) fn define(config: &Config<'_>) -> Result<Self, SettingsFault> {
        let counter = |name, labels: &[&str]| {
            let defined = config.counter(name, labels);
            defined.ok_or(SettingsFault::Metric(name))
        };
        let gauge = |name| config.gauge(name).ok_or(SettingsFault::Metric(name));
        let asked = "doorward_asked_milliseconds";
        Ok(Self {
            decisions: counter("doorward_decisions", &["verdict", "reason"])?,
            rule_decisions: counter("doorward_rule_decisions", &["rule", "verdict"])?,
            asked: (config.histogram(asked)).ok_or(SettingsFault::Metric(asked))?,
            feed_age: gauge("doorward_feed_age_seconds")?,
            revocations: gauge("doorward_revocations")?,
            tokens: gauge("doorward_remembered_tokens")?,
            memory: gauge("doorward_memory_bytes")?,
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

    /// Records how long Doorward took to answer a request, or not to.
    pub(crate) fn record_asked(&self, stream: &Stream<'_>, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        stream.record(self.asked, took);
    }

    /// Once a second, adds what was counted in memory to Envoy's counters, and sets the gauges.
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
        state.counts().take(|rule, verdict, count| {
            stream.increment(self.rule_decisions, &[rule, verdict], count);
        });
        state.with(|known| {
            let Some(known) = known else {
                return;
            };
            let judge = &known.in_force.judge;
            let (tokens, revoked) = (judge.verifier.remembered(), judge.revoked.len());
            stream.set_gauge(self.tokens, tokens as u64);
            let memory = tokens * TOKEN_BYTES + revoked * REVOCATION_BYTES;
            stream.set_gauge(self.memory, memory as u64);
            if state.has_feed() {
                let age = now.0.abs_diff(judge.revoked.read_at().0);
                stream.set_gauge(self.feed_age, age);
                stream.set_gauge(self.revocations, revoked as u64);
            }
        });
    }
}
