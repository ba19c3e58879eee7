//! Metrics that are read from the parts of the program at each scrape.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::expiry;
use crate::{
    actions::hashing::{HashTimes, Line},
    clock::unix_time,
    domain::{
        histogram::Histogram, keyring::KeyState, machine_keys::MachineKeys,
        revocation::Revocations, token::UnixTime,
    },
    doors::tls::Tls,
    live::Live,
    login::throttle::Throttle,
    observe::metrics::encode_histogram,
    tables::{database::Connections, store::Store},
};

/// The parts whose metrics are read at each scrape.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) live: Live,
    pub(super) store: Store,
    pub(super) throttle: Arc<Throttle>,
    pub(super) ended: Arc<Revocations>,
    /// Keys for machines, if they are on.
    pub(super) machine_keys: Option<Arc<MachineKeys>>,
    /// How often revocations are read.
    pub(super) poll: Duration,
    pub(super) line: Line,
    pub(super) hashing: Arc<HashTimes>,
    /// The certificate of the doors, if TLS is on.
    pub(super) tls: Option<Arc<Tls>>,
    /// When this process started.
    pub(super) since: UnixTime,
}

impl Collector for Watched {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        self.logins(&mut sheet)?;
        self.keys(&mut sheet)?;
        self.revocations(&mut sheet)?;
        self.machine_keys(&mut sheet)?;
        self.databases(&mut sheet)
    }
}

/// Writes metrics.
struct Sheet<'a>(DescriptorEncoder<'a>);

impl Sheet<'_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let encoder = (self.0).encode_descriptor(name, help, unit, MetricType::Histogram)?;
        encode_histogram(histogram, encoder)
    }
}

/// How early an alert says that keys expire.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

impl Watched {
    fn logins(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.histogram(
            "hash_duration",
            "Duration of hashing a password on its thread.",
            &self.hashing.hashing,
        )?;
        sheet.histogram(
            "hash_wait",
            "Time that logins waited in the queue for a hashing thread.",
            &self.hashing.waiting,
        )?;
        sheet.gauge(
            "hash_queue",
            "Logins that are hashing or waiting in the queue.",
            None,
            self.line.len() as f64,
        )?;
        sheet.gauge(
            "hash_queue_limit",
            "Largest number of logins that may hash or wait; further logins get 503.",
            None,
            self.line.limits().entries as f64,
        )?;
        sheet.gauge(
            "throttle_entries",
            "Accounts and addresses whose failures are counted.",
            None,
            self.throttle.len() as f64,
        )?;
        sheet.gauge(
            "throttle_entries_limit",
            "Largest number of accounts and addresses that are counted; beyond it, entries with the fewest failures are dropped first, and never one that delays a login.",
            None,
            Throttle::MOST as f64,
        )
    }

    fn keys(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let (rules, now) = (self.live.keep(), unix_time());
        let keys = rules.judge.verifier.keys();
        let labels = |key: &crate::domain::key::Key| {
            [
                ("kid", key.id().as_str().to_owned()),
                ("alg", key.algorithm().name().to_owned()),
            ]
        };
        let begin = keys.keys().iter().map(|key| {
            let [kid, alg] = labels(key);
            let state = match keys.state(key, now) {
                KeyState::Staged => "staged",
                KeyState::Signing => "signing",
                KeyState::Verifying(_) => "verifying",
                KeyState::Expired => "expired",
            };
            let labels = [kid, alg, ("state", state.to_owned())];
            (labels, key.not_before().0 as f64)
        });
        sheet.gauges(
            "key_begin_timestamp",
            "Unix time from which a key signs; 0 if none is set.",
            SECONDS,
            begin,
        )?;
        let end = keys
            .keys()
            .iter()
            .filter_map(|key| match keys.state(key, now) {
                KeyState::Verifying(Some(end)) => Some((labels(key), end.0 as f64)),
                KeyState::Verifying(None)
                | KeyState::Staged
                | KeyState::Signing
                | KeyState::Expired => None,
            });
        let end: Vec<_> = end.collect();
        if !end.is_empty() {
            sheet.gauges(
                "key_end_timestamp",
                "Unix time of expiry of the last token signed by a retired key.",
                SECONDS,
                end,
            )?;
        }
        let expires = (self.tls.as_ref()).and_then(|tls| expiry::not_after(&tls.certificate()));
        match expires {
            Some(expires) => sheet.gauge(
                "tls_certificate_expiry_timestamp",
                "Unix time of expiry of the certificate that Doorward shows.",
                SECONDS,
                expires.0 as f64,
            ),
            None => Ok(()),
        }
    }

    fn revocations(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let read_at = self.ended.read_at();
        sheet.gauge(
            "revocation_last_read_timestamp",
            "Unix time of the last read of other replicas' revocations; 0 for never.",
            SECONDS,
            read_at.0 as f64,
        )?;
        let lag = unix_time().0.saturating_sub(read_at.max(self.since).0);
        sheet.gauge(
            "revocation_lag",
            "Time since the last read of other replicas' revocations; before the first read, time since the start.",
            SECONDS,
            lag as f64,
        )?;
        sheet.gauge(
            "revocation_poll",
            "Interval of these reads (revocation.poll).",
            SECONDS,
            self.poll.as_secs_f64(),
        )?;
        sheet.gauge(
            "revocations",
            "Revoked tokens, sessions and generations, and inactive users, in memory.",
            None,
            self.ended.len() as f64,
        )
    }

    fn machine_keys(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let Some(keys) = &self.machine_keys else {
            return Ok(());
        };
        let now = unix_time();
        sheet.gauge(
            "machine_keys",
            "Keys for machines that are neither ended nor expired.",
            None,
            keys.usable(now) as f64,
        )?;
        let until = UnixTime(now.0.saturating_add(WEEK.as_secs()));
        sheet.gauge(
            "machine_keys_expiring",
            "Keys for machines that expire within a week.",
            None,
            keys.expiring(now, until) as f64,
        )
    }

    fn databases(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let pools: Vec<_> = self.pools().collect();
        let open = pools.iter().flat_map(|(pool, connections)| {
            let open = connections.open_now();
            let labels = |state: &str| [("pool", (*pool).to_owned()), ("state", state.to_owned())];
            [
                (labels("used"), (open.all - open.idle) as f64),
                (labels("idle"), open.idle as f64),
            ]
        });
        sheet.gauges(
            "database_connections",
            "Open connections to a database, in use or idle.",
            None,
            open,
        )?;
        let limits = pools.iter().map(|(pool, connections)| {
            let most = f64::from(connections.open_now().most);
            ([("pool", (*pool).to_owned())], most)
        });
        sheet.gauges(
            "database_connections_limit",
            "Largest number of connections to a database.",
            None,
            limits,
        )?;
        let mut errors = sheet.0.encode_descriptor(
            "database_errors",
            "Failed statements, by kind of fault.",
            None,
            MetricType::Counter,
        )?;
        for (pool, connections) in &pools {
            for (kind, count) in connections.statements.errors() {
                let labels = [("pool", *pool), ("kind", kind.name())];
                ConstCounter::new(count).encode(errors.encode_family(&labels)?)?;
            }
        }
        let mut times = sheet.0.encode_descriptor(
            "database_statement_duration",
            "Duration of a statement or transaction on its connection.",
            SECONDS,
            MetricType::Histogram,
        )?;
        for (pool, connections) in &pools {
            let labels = [("pool", *pool)];
            encode_histogram(
                connections.statements.times(),
                times.encode_family(&labels)?,
            )?;
        }
        Ok(())
    }

    /// One pool if one database holds both.
    fn pools(&self) -> impl Iterator<Item = (&'static str, &Connections)> {
        let users = ("users", &self.store.users.connections);
        let state = ("state", &self.store.state.connections);
        [Some(users), Some(state).filter(|_| !self.store.together)]
            .into_iter()
            .flatten()
    }
}
