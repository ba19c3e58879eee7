//! All metrics with their names, their help texts and the series that exist from the start.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Metrics,
    closed::ClosedLabels,
    decisions::Decisions,
    differences::Differences,
    fetches::FetchLabels,
    labels::{FeedResult, LoginResult, Outcome, Port, SyncRows, ThrottledBy},
    process::Process,
    timing::Timing,
};
use crate::domain::{histogram::TO_TEN_SECONDS, token::AGES, trust::NoAddress};

type Label<T> = [(&'static str, T); 1];

#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) registry: Registry,
    pub(super) decisions: Decisions,
    pub(super) differences: Differences,
    pub(super) next_rules: Gauge,
    pub(super) logins: Family<Label<LoginResult>, Timing, fn() -> Timing>,
    pub(super) throttled: Family<Label<ThrottledBy>, Counter>,
    pub(super) without_address: Family<Label<&'static str>, Counter>,
    pub(super) ages: Timing,
    pub(super) reloads: Family<Label<Outcome>, Counter>,
    pub(super) reloaded_at: Gauge,
    pub(super) readings: Family<Label<Outcome>, Counter>,
    pub(super) rows_read: Family<Label<SyncRows>, Counter>,
    pub(super) feeds: Family<Label<FeedResult>, Counter>,
    pub(super) clock_difference: Gauge<f64, AtomicU64>,
    pub(super) clock_limit: Gauge<f64, AtomicU64>,
    pub(super) fetches: Family<FetchLabels, Counter>,
    pub(super) fetched_at: Family<Label<Arc<str>>, Gauge>,
    pub(super) connections: Family<Label<Port>, Gauge>,
    pub(super) closed: Family<ClosedLabels, Counter>,
    pub(super) watched: Watched,
}

/// A collector that is set after the registry is built.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched(pub(super) Arc<OnceLock<Box<dyn Collector>>>);

impl Collector for Watched {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.get() {
            Some(collector) => collector.encode(encoder),
            None => Ok(()),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let numbers = Numbers {
            registry: Registry::default(),
            decisions: Decisions::new(),
            differences: Differences::default(),
            next_rules: Gauge::default(),
            logins: Family::new_with_constructor(|| Timing::new(&TO_TEN_SECONDS)),
            throttled: Family::default(),
            without_address: Family::default(),
            ages: Timing::new(&AGES),
            reloads: Family::default(),
            reloaded_at: Gauge::default(),
            readings: Family::default(),
            rows_read: Family::default(),
            feeds: Family::default(),
            clock_difference: Gauge::default(),
            clock_limit: Gauge::default(),
            fetches: Family::default(),
            fetched_at: Family::default(),
            connections: Family::default(),
            closed: Family::default(),
            watched: Watched::default(),
        };
        numbers.register(registry.sub_registry_with_prefix("doorward"));
        numbers.begin();
        let metrics = Self(Arc::new(Numbers {
            registry,
            ..numbers
        }));
        metrics.read();
        metrics
    }
}

impl Numbers {
    fn register(&self, registry: &mut Registry) {
        let build = Family::<Label<&'static str>, Gauge>::default();
        let version = ("version", env!("CARGO_PKG_VERSION"));
        build.get_or_create(&[version]).set(1);
        registry.register("build_info", "Version of this Doorward", build);
        registry.register(
            "decisions",
            "Decisions, by door, decision, reason and rule",
            self.decisions.counts(),
        );
        registry.register(
            "next_rules_differences",
            "Requests that `rules.next` decides otherwise, by its rule and by what would happen",
            self.differences.series.clone(),
        );
        registry.register(
            "next_rules",
            "Rules of `rules.next` that are compared with those in force; 0 if there are none, or if they are the same",
            self.next_rules.clone(),
        );
        registry.register_with_unit(
            "decision_duration",
            "Time from a request to its decision: `check` uses memory alone, `errand` database rows and password hashes",
            Unit::Seconds,
            self.decisions.times(),
        );
        registry.register_with_unit(
            "login_duration",
            "Duration of logins, by result",
            Unit::Seconds,
            self.logins.clone(),
        );
        registry.register(
            "throttled",
            "Attempts refused because of earlier failures, by what the failures are counted for",
            self.throttled.clone(),
        );
        registry.register(
            "attempts_without_address",
            "Logins, registrations and password changes of clients whose address is unknown, by cause",
            self.without_address.clone(),
        );
        registry.register_with_unit(
            "token_age",
            "Age of Doorward's own tokens when this replica first verifies them; a reload starts anew",
            Unit::Seconds,
            self.ages.clone(),
        );
        registry.register(
            "reloads",
            "Reloads of rules, keys and certificates, by result",
            self.reloads.clone(),
        );
        registry.register_with_unit(
            "last_good_reload_timestamp",
            "Unix time when the rules, keys and certificates in force were read",
            Unit::Seconds,
            self.reloaded_at.clone(),
        );
        registry.register(
            "revocation_reads",
            "Reads of other replicas' revocations, by result",
            self.readings.clone(),
        );
        registry.register(
            "sync_rows",
            "Rows read to learn of other replicas' revocations and failed logins, and of keys for machines; a row counts each time it is read",
            self.rows_read.clone(),
        );
        registry.register(
            "feed_answers",
            "Answers to followers of the feed, by result",
            self.feeds.clone(),
        );
        registry.register_with_unit(
            "clock_difference",
            "How far the clock of this replica is ahead of the clock of the database; negative if it is behind",
            Unit::Seconds,
            self.clock_difference.clone(),
        );
        registry.register_with_unit(
            "clock_difference_limit",
            "Largest allowed difference of the clocks: jwt.leeway, at least one second",
            Unit::Seconds,
            self.clock_limit.clone(),
        );
        registry.register(
            "issuer_fetches",
            "Fetches of another issuer's keys, by result",
            self.fetches.clone(),
        );
        registry.register_with_unit(
            "issuer_last_good_fetch_timestamp",
            "Unix time of the last successful fetch of another issuer's keys",
            Unit::Seconds,
            self.fetched_at.clone(),
        );
        registry.register(
            "connections",
            "Open connections, by port",
            self.connections.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections closed because of a limit, by port, peer and reason",
            self.closed.clone(),
        );
        registry.register_collector(Box::new(self.watched.clone()));
    }

    /// Exists from the start, so that the first failure is visible as an increase.
    fn begin(&self) {
        for outcome in Outcome::ALL {
            drop(self.reloads.get_or_create(&[("result", outcome)]));
            drop(self.readings.get_or_create(&[("result", outcome)]));
        }
        for of in SyncRows::ALL {
            drop(self.rows_read.get_or_create(&[("of", of)]));
        }
        for result in FeedResult::ALL {
            drop(self.feeds.get_or_create(&[("result", result)]));
        }
        for result in LoginResult::ALL {
            drop(self.logins.get_or_create(&[("result", result)]));
        }
        for by in ThrottledBy::ALL {
            drop(self.throttled.get_or_create(&[("by", by)]));
        }
        for cause in NoAddress::ALL {
            let cause = [("cause", cause.name())];
            drop(self.without_address.get_or_create(&cause));
        }
    }
}
