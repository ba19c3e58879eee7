//! Histograms as Prometheus reads them.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

use crate::domain::histogram::{Histogram, Scale};

/// A histogram of durations that another part of the program counts. The library's own histogram takes a lock for each.
#[derive(Clone, Debug)]
pub(super) struct Timing(Arc<Histogram>);

impl Timing {
    pub(super) fn new(scale: &'static Scale) -> Self {
        Self(Arc::new(Histogram::new(scale)))
    }

    pub(super) fn histogram(&self) -> &Arc<Histogram> {
        &self.0
    }
}

impl TypedMetric for Timing {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Timing {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        encode_histogram(&self.0, encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Encodes a histogram.
pub(crate) fn encode_histogram(
    histogram: &Histogram,
    mut encoder: MetricEncoder<'_>,
) -> fmt::Result {
    let seen = histogram.seen();
    encoder.encode_histogram::<NoLabelSet>(seen.sum, seen.count, &seen.ranges, None)
}
