//! Fetches of other issuers' keys.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
};

use super::labels::Outcome;
use crate::clock::unix_time;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FetchLabels {
    pub(super) issuer: Arc<str>,
    pub(super) result: Outcome,
}

/// The counters for the keys of one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Fetches {
    pub(super) ok: Counter,
    pub(super) failed: Counter,
    pub(super) last: Gauge,
}

impl Fetches {
    /// Counts a fetch.
    pub(crate) fn note(&self, outcome: Outcome) {
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
