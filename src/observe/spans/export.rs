//! Exports spans to a collector in batches, from a separate thread, so that no answer waits. Spans are dropped if the
//! queue is full or the export fails.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::observe::causes;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData},
};

/// The size of the queue, and of one batch, in spans.
const MOST_WAITING: usize = 4096;
const MOST_AT_ONCE: usize = 512;

/// How long a batch collects spans, and the timeout of one export.
const TOGETHER: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);

/// How often a failed export is logged, at most.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Builds the processor that exports to `url`.
pub(super) fn to(url: &str) -> Result<BatchSpanProcessor, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(url)
        .with_timeout(LONGEST)
        .build()?;
    let exporter = Reporting {
        exporter,
        said: Mutex::default(),
    };
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(MOST_WAITING)
        .with_max_export_batch_size(MOST_AT_ONCE)
        .with_scheduled_delay(TOGETHER)
        .build();
    Ok(BatchSpanProcessor::builder(exporter)
        .with_batch_config(config)
        .build())
}

/// An exporter that logs its failures, at most once per [`SAID_EVERY`].
#[derive(Debug)]
struct Reporting {
    exporter: SpanExporter,
    said: Mutex<Option<Instant>>,
}

impl Reporting {
    /// Whether a warning is due; if so, restarts the pause until the next one.
    fn says_again(&self) -> bool {
        let Ok(mut said) = self.said.lock() else {
            return false;
        };
        let is_due = said.is_none_or(|before| before.elapsed() >= SAID_EVERY);
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        if let Err(fault) = &exported
            && self.says_again()
        {
            tracing::warn!(cause = %causes(fault), spans, "spans cannot be exported to the collector; they are lost");
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
