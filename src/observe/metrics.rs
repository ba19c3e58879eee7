//! What operators see in numbers, in the text format of Prometheus. No label holds what a client has sent.
//!
//! What happens is counted where it happens, without a lock where requests pass. What is so at this moment (connections,
//! places in line, keys, ages) is looked up when somebody asks.

mod closed;
mod decisions;
mod process;
mod timing;

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

pub(crate) use self::timing::encode_histogram;
pub use self::{
    closed::{Closed, ClosedConnections},
    decisions::{Counted, Tally, Work},
};
use self::{decisions::Decisions, process::Process, timing::Timing};
use crate::{
    clock::unix_time,
    domain::{
        histogram::{Histogram, TO_TEN_SECONDS},
        policy::Policy,
        token::AGES,
        trust::NoAddress,
    },
    login::throttle,
};

/// One label with a value that is ours.
type One = [(&'static str, &'static str); 1];

/// All numbers of this process.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    registry: Registry,
    decisions: Decisions,
    logins: Family<One, Timing, fn() -> Timing>,
    throttled: Family<One, Counter>,
    without_address: Family<One, Counter>,
    ages: Timing,
    reloads: Family<One, Counter>,
    reloaded_at: Gauge,
    readings: Family<One, Counter>,
    clock_difference: Gauge<f64, AtomicU64>,
    clock_limit: Gauge<f64, AtomicU64>,
    fetches: Family<[(&'static str, Arc<str>); 2], Counter>,
    fetched_at: Family<[(&'static str, Arc<str>); 1], Gauge>,
    connections: Family<One, Gauge>,
    closed: Family<[(&'static str, &'static str); 3], Counter>,
    watched: Watched,
}

/// A collector that is set after the registry is built.
#[derive(Clone, Debug, Default)]
struct Watched(Arc<OnceLock<Box<dyn Collector>>>);

impl Collector for Watched {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        match self.0.get() {
            Some(collector) => collector.encode(encoder),
            None => Ok(()),
        }
    }
}

/// What became of something that is tried again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It failed.
    Failed,
}

impl Outcome {
    const ALL: [Self; 2] = [Self::Ok, Self::Failed];

    /// Whether something failed.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(_) => Self::Failed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginResult {
    /// A token was handed out.
    Ok,
    /// The name or the password was wrong, or the account is disabled.
    Refused,
    /// There were too many failures before, or too many others at once of the account or from the address.
    Throttled,
    /// It could not be decided.
    Unavailable,
    /// Its caller hung up while it waited.
    Abandoned,
}

impl LoginResult {
    const ALL: [Self; 5] = [
        Self::Ok,
        Self::Refused,
        Self::Throttled,
        Self::Unavailable,
        Self::Abandoned,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Abandoned => "abandoned",
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
            logins: Family::new_with_constructor(|| Timing::new(&TO_TEN_SECONDS)),
            throttled: Family::default(),
            without_address: Family::default(),
            ages: Timing::new(&AGES),
            reloads: Family::default(),
            reloaded_at: Gauge::default(),
            readings: Family::default(),
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
        let build = Family::<One, Gauge>::default();
        let version = ("version", env!("CARGO_PKG_VERSION"));
        build.get_or_create(&[version]).set(1);
        registry.register("build_info", "Which Doorward this is", build);
        registry.register(
            "decisions",
            "Decisions, by the door that was asked, what was decided, why, and the rule that it follows from",
            self.decisions.counts(),
        );
        registry.register_with_unit(
            "decision_duration",
            "From a request to its decision: `check` in memory alone, `errand` with rows and hashes",
            Unit::Seconds,
            self.decisions.times(),
        );
        registry.register_with_unit(
            "login_duration",
            "How long logins took, by what became of them",
            Unit::Seconds,
            self.logins.clone(),
        );
        registry.register(
            "throttled",
            "Attempts that were refused because of failures before, by whose they were",
            self.throttled.clone(),
        );
        registry.register(
            "attempts_without_address",
            "Logins, registrations and changes of passwords by clients whose address is not known, by why it is not",
            self.without_address.clone(),
        );
        registry.register_with_unit(
            "token_age",
            "How old tokens of ours were when they were first shown here; a token is seen once, and again after a reload",
            Unit::Seconds,
            self.ages.clone(),
        );
        registry.register(
            "reloads",
            "How often rules, keys and certificates were read again, by what became of it",
            self.reloads.clone(),
        );
        registry.register_with_unit(
            "last_good_reload_timestamp",
            "When what is in force was read, since 1970",
            Unit::Seconds,
            self.reloaded_at.clone(),
        );
        registry.register(
            "revocation_reads",
            "How often it was read what has ended at other replicas, by what became of it",
            self.readings.clone(),
        );
        registry.register_with_unit(
            "clock_difference",
            "By how much the clock of this replica is ahead of the database's; negative where it is behind",
            Unit::Seconds,
            self.clock_difference.clone(),
        );
        registry.register_with_unit(
            "clock_difference_limit",
            "Beyond which difference clocks are a fault: jwt.leeway, at least one second",
            Unit::Seconds,
            self.clock_limit.clone(),
        );
        registry.register(
            "issuer_fetches",
            "How often the keys of another issuer were asked for, by what became of it",
            self.fetches.clone(),
        );
        registry.register_with_unit(
            "issuer_last_good_fetch_timestamp",
            "When the keys of another issuer were last had, since 1970",
            Unit::Seconds,
            self.fetched_at.clone(),
        );
        registry.register(
            "connections",
            "Connections that are open, by door",
            self.connections.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections that were closed because of a limit, by door, peer and reason",
            self.closed.clone(),
        );
        registry.register_collector(Box::new(self.watched.clone()));
    }

    /// There from the start, so that a first failure is seen as an increase.
    fn begin(&self) {
        for outcome in Outcome::ALL {
            drop(self.reloads.get_or_create(&[("result", outcome.name())]));
            drop(self.readings.get_or_create(&[("result", outcome.name())]));
        }
        for result in LoginResult::ALL {
            drop(self.logins.get_or_create(&[("result", result.name())]));
        }
        for by in throttle::Counted::ALL {
            drop(self.throttled.get_or_create(&[("by", throttled_by(by))]));
        }
        for cause in NoAddress::ALL {
            let cause = [("cause", cause.name())];
            drop(self.without_address.get_or_create(&cause));
        }
    }
}

fn throttled_by(by: throttle::Counted) -> &'static str {
    match by {
        throttle::Counted::Account => "account",
        throttle::Counted::Address => "address",
        throttle::Counted::Network => "network",
        throttle::Counted::Unknown => "unknown-address",
    }
}

impl Metrics {
    /// Adds what the wiring reads from the parts of the program at each scrape.
    pub(crate) fn watch(&self, watched: impl Collector) {
        // A process calls this once.
        let _ = self.0.watched.0.set(Box::new(watched));
    }

    /// Where decisions by these rules are counted.
    #[must_use]
    pub fn tally(&self, policy: &Policy) -> Arc<Tally> {
        Arc::new(self.0.decisions.tally(policy))
    }

    /// Where ages of tokens are counted.
    #[must_use]
    pub fn token_ages(&self) -> Arc<Histogram> {
        Arc::clone(self.0.ages.histogram())
    }

    /// A login has taken so long.
    pub fn login(&self, result: LoginResult, took: Duration) {
        let timing = self.0.logins.get_or_create(&[("result", result.name())]);
        timing.histogram().observe(took);
    }

    /// An attempt was refused because of failures before.
    pub fn throttled(&self, by: throttle::Counted) {
        let counter = self.0.throttled.get_or_create(&[("by", throttled_by(by))]);
        counter.inc();
    }

    /// Somebody wants in whose address is not known.
    pub fn without_address(&self, cause: NoAddress) {
        let counter = (self.0.without_address).get_or_create(&[("cause", cause.name())]);
        counter.inc();
    }

    /// What is in force was read now.
    fn read(&self) {
        self.0.reloaded_at.set(unix_time().signed());
    }

    /// A reload has succeeded, or failed and what was in force stays.
    pub fn reloaded(&self, outcome: Outcome) {
        let reloads = &self.0.reloads;
        reloads.get_or_create(&[("result", outcome.name())]).inc();
        if outcome == Outcome::Ok {
            self.read();
        }
    }

    /// It was read, or could not be read, what has ended at other replicas.
    pub fn revocations_read(&self, outcome: Outcome) {
        let readings = &self.0.readings;
        readings.get_or_create(&[("result", outcome.name())]).inc();
    }

    /// The clock of this replica was found to be ahead of the database's by so many milliseconds.
    pub fn clock(&self, ahead: i64, limit: Duration) {
        self.0.clock_difference.set(ahead as f64 / 1000.0);
        self.0.clock_limit.set(limit.as_secs_f64());
    }

    /// Where it is counted how the keys of an issuer are had; its name is one of the settings.
    #[must_use]
    pub fn fetches(&self, issuer: &str) -> Fetches {
        let issuer = ("issuer", Arc::from(issuer));
        let counter = |outcome: Outcome| {
            let labels = [issuer.clone(), ("result", outcome.name().into())];
            self.0.fetches.get_or_create_owned(&labels)
        };
        let (ok, failed) = (counter(Outcome::Ok), counter(Outcome::Failed));
        Fetches {
            ok,
            failed,
            last: self.0.fetched_at.get_or_create_owned(&[issuer]),
        }
    }

    /// How many connections of a door are open: whoever accepts adds one, and takes it off at its end.
    #[must_use]
    pub fn connections(&self, door: &'static str) -> Gauge {
        self.0.connections.get_or_create_owned(&[("door", door)])
    }

    /// Where connections of a door are counted that are closed because of a limit.
    #[must_use]
    pub fn closed(&self, door: &'static str) -> ClosedConnections {
        let closed = ClosedConnections {
            family: self.0.closed.clone(),
            door,
        };
        // There from the start, so that a first one is seen as an increase.
        closed.begin();
        closed
    }

    /// All numbers as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut text, &self.0.registry);
        text
    }
}

/// How the keys of one issuer are had.
#[derive(Clone, Debug)]
pub struct Fetches {
    ok: Counter,
    failed: Counter,
    last: Gauge,
}

impl Fetches {
    /// They were asked for.
    pub fn note(&self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => {
                self.ok.inc();
                self.last.set(unix_time().signed());
            }
            Outcome::Failed => {
                self.failed.inc();
            }
        }
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
    fn reloads_are_counted_by_what_became_of_them() {
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
    fn keys_of_issuers_are_counted_from_the_start() {
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
    fn connections_come_and_go() {
        let metrics = Metrics::default();
        let open = metrics.connections("grpc");
        open.inc();
        open.inc();
        metrics.connections("grpc").dec();
        has(&metrics, "doorward_connections{door=\"grpc\"} 1");
    }
}
