//! What operators see in numbers, in the text format of Prometheus. No label holds what a client has sent.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::clock::unix_time;

/// All numbers of this process.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    reloads: Family<Reload, Counter>,
    reloaded_at: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: ReloadResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "a label has the name of its variant")]
enum ReloadResult {
    ok,
    failed,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("doorward");
        let reloads = Family::<Reload, Counter>::default();
        for result in [ReloadResult::ok, ReloadResult::failed] {
            // There from the start, so that a first failure is seen as an increase.
            drop(reloads.get_or_create(&Reload { result }));
        }
        let reloaded_at: Gauge = Gauge::default();
        registry.register(
            "reloads",
            "How often rules, keys and certificates were read again, by what became of it",
            reloads.clone(),
        );
        registry.register_with_unit(
            "last_good_reload_timestamp",
            "When what is in force was read, since 1970",
            Unit::Seconds,
            reloaded_at.clone(),
        );
        let metrics = Self {
            registry: Arc::new(registry),
            reloads,
            reloaded_at,
        };
        metrics.read();
        metrics
    }
}

impl Metrics {
    /// What is in force was read now.
    fn read(&self) {
        self.reloaded_at.set(unix_time().signed());
    }

    /// A reload has succeeded.
    pub fn reloaded(&self) {
        self.count(ReloadResult::ok);
        self.read();
    }

    /// A reload has failed, and what was in force stays.
    pub fn not_reloaded(&self) {
        self.count(ReloadResult::failed);
    }

    fn count(&self, result: ReloadResult) {
        self.reloads.get_or_create(&Reload { result }).inc();
    }

    /// All numbers as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reloads_are_counted_by_what_became_of_them() {
        let metrics = Metrics::default();
        assert!(
            metrics
                .text()
                .contains("doorward_reloads_total{result=\"failed\"} 0\n")
        );
        metrics.reloaded();
        metrics.not_reloaded();
        metrics.not_reloaded();
        let text = metrics.text();
        assert!(
            text.contains("doorward_reloads_total{result=\"ok\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("doorward_reloads_total{result=\"failed\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("doorward_last_good_reload_timestamp_seconds 1"),
            "{text}"
        );
    }
}
