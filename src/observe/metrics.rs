//! Metrics in the text format of Prometheus. No label contains text from a client.
//!
//! Events are counted where they happen, without a lock in the path of a request. Current values (connections, queue
//! length, keys, ages) are read at each scrape.

mod closed;
mod decisions;
mod differences;
mod expected;
mod families;
mod fetches;
mod labels;
mod process;
mod rule_labels;
mod timing;

use std::{sync::Arc, time::Duration};

use prometheus_client::{collector::Collector, encoding::text, metrics::gauge::Gauge};

pub(crate) use self::decisions::{Accepted, DecisionCounts};
pub(crate) use self::{
    closed::ClosedConnections,
    decisions::CountedDecision,
    differences::DifferenceCounts,
    fetches::Fetches,
    labels::{
        Closed, FeedResult, LoginResult, Outcome, PeerTrust, Port, SyncRows, ThrottledBy, Work,
    },
    timing::encode_histogram,
};
use self::{families::Numbers, fetches::FetchLabels};
use crate::{
    clock::unix_time,
    domain::{
        histogram::Histogram,
        policy::{Endpoint, Policy},
        trust::NoAddress,
    },
};

/// All metrics of this process.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Numbers>);

impl Metrics {
    /// Adds what the wiring reads from the parts of the program at each scrape.
    pub(crate) fn watch(&self, watched: impl Collector) {
        // A process calls this once.
        let _ = self.0.watched.0.set(Box::new(watched));
    }

    /// Creates the series of decisions that follow from no rule.
    pub(crate) fn begin(&self, endpoints: &[Endpoint]) {
        self.0.decisions.begin(endpoints);
    }

    /// Counts decisions by these rules; creates their series, those of keys and of cookies only if they are accepted.
    #[must_use]
    pub(crate) fn decisions(&self, policy: &Policy, accepted: Accepted) -> Arc<DecisionCounts> {
        Arc::new(self.0.decisions.by_rules(policy, accepted))
    }

    /// Counts requests that these next rules decide otherwise; creates their series.
    #[must_use]
    pub(crate) fn differences(&self, next: &Policy) -> Arc<DifferenceCounts> {
        Arc::new(self.0.differences.by_rules(next))
    }

    /// Sets the number of next rules that are compared.
    pub(crate) fn next_rules(&self, number: usize) {
        self.0
            .next_rules
            .set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Where the ages of tokens are counted.
    #[must_use]
    pub(crate) fn token_ages(&self) -> Arc<Histogram> {
        Arc::clone(self.0.ages.histogram())
    }

    /// Counts a login with its duration.
    pub(crate) fn login(&self, result: LoginResult, took: Duration) {
        let timing = self.0.logins.get_or_create(&[("result", result)]);
        timing.histogram().observe(took);
    }

    /// Counts an attempt that was refused because of earlier failures.
    pub(crate) fn throttled(&self, by: ThrottledBy) {
        self.0.throttled.get_or_create(&[("by", by)]).inc();
    }

    /// Counts an attempt from an unknown address.
    pub(crate) fn without_address(&self, cause: NoAddress) {
        let counter = (self.0.without_address).get_or_create(&[("cause", cause.name())]);
        counter.inc();
    }

    /// Sets the time at which the settings in force were read.
    fn read(&self) {
        self.0.reloaded_at.set(unix_time().signed());
    }

    /// Counts a reload; after a failed one, the previous settings stay in force.
    pub(crate) fn reloaded(&self, outcome: Outcome) {
        let reloads = &self.0.reloads;
        reloads.get_or_create(&[("result", outcome)]).inc();
        if outcome == Outcome::Ok {
            self.read();
        }
    }

    /// Counts a read of revocations.
    pub(crate) fn revocations_read(&self, outcome: Outcome) {
        let readings = &self.0.readings;
        readings.get_or_create(&[("result", outcome)]).inc();
    }

    /// Counts rows read from the tables that replicas share.
    pub(crate) fn rows_read(&self, of: SyncRows, rows: u64) {
        self.0.rows_read.get_or_create(&[("of", of)]).inc_by(rows);
    }

    /// Counts an answer to a follower of the feed.
    pub(crate) fn feed(&self, result: FeedResult) {
        self.0.feeds.get_or_create(&[("result", result)]).inc();
    }

    /// Sets by how many milliseconds this replica's clock is ahead of the database's.
    pub(crate) fn clock(&self, ahead: i64, limit: Duration) {
        self.0.clock_difference.set(ahead as f64 / 1000.0);
        self.0.clock_limit.set(limit.as_secs_f64());
    }

    /// The counters for the keys of an issuer, whose name comes from the settings.
    #[must_use]
    pub(crate) fn fetches(&self, issuer: &str) -> Fetches {
        let issuer: Arc<str> = Arc::from(issuer);
        let counter = |result: Outcome| {
            let issuer = Arc::clone(&issuer);
            (self.0.fetches).get_or_create_owned(&FetchLabels { issuer, result })
        };
        let (ok, failed) = (counter(Outcome::Ok), counter(Outcome::Failed));
        Fetches {
            ok,
            failed,
            last: self.0.fetched_at.get_or_create_owned(&[("issuer", issuer)]),
        }
    }

    /// The number of open connections of a door; each connection adds one while it is open.
    #[must_use]
    pub(crate) fn connections(&self, port: Port) -> Gauge {
        self.0.connections.get_or_create_owned(&[("door", port)])
    }

    /// Counts connections of a port that are closed because of a limit.
    #[must_use]
    pub(crate) fn closed(&self, port: Port) -> ClosedConnections {
        ClosedConnections::new(self.0.closed.clone(), port)
    }

    /// All metrics as text.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &self.0.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) {
        let text = metrics.text();
        assert!(
            text.lines().any(|own| own.starts_with(line)),
            "{line}\n{text}"
        );
    }

    #[test]
    fn reloads_are_counted_by_result() {
        let metrics = Metrics::default();
        has(&metrics, "doorward_reloads_total{result=\"failed\"} 0");
        for outcome in [Outcome::Ok, Outcome::Failed, Outcome::Failed] {
            metrics.reloaded(outcome);
        }
        has(&metrics, "doorward_reloads_total{result=\"ok\"} 1");
        has(&metrics, "doorward_reloads_total{result=\"failed\"} 2");
        has(&metrics, "doorward_last_good_reload_timestamp_seconds 1");
    }

    #[test]
    fn issuer_key_fetches_are_counted_from_the_start() {
        let metrics = Metrics::default();
        let fetches = metrics.fetches("https://id.example/\"quoted\"");
        let issuer = r#"issuer="https://id.example/\"quoted\"""#;
        let line = |result, count| {
            format!("doorward_issuer_fetches_total{{{issuer},result=\"{result}\"}} {count}")
        };
        let last = format!("doorward_issuer_last_good_fetch_timestamp_seconds{{{issuer}}} ");
        has(&metrics, &line("failed", 0));
        has(&metrics, &format!("{last}0"));
        fetches.note(Outcome::Failed);
        fetches.note(Outcome::Ok);
        has(&metrics, &line("failed", 1));
        has(&metrics, &line("ok", 1));
        has(&metrics, &format!("{last}1"));
    }

    #[test]
    fn the_connections_gauge_counts_open_connections() {
        let metrics = Metrics::default();
        let open = metrics.connections(Port::Grpc);
        open.inc();
        open.inc();
        metrics.connections(Port::Grpc).dec();
        has(&metrics, "doorward_connections{door=\"grpc\"} 1");
    }
}
