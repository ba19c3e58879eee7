//! `[tracing]`: where spans go.

use url::Url;

use super::{
    fault::ValueFault,
    key::{Key, Section},
    reader::Reader,
    value::name,
};
use crate::observe::spans::Collector;

/// Settings of spans.
#[derive(Debug)]
pub(crate) struct TracingSettings {
    /// The collector of spans; `None` for no spans.
    pub(crate) collector: Option<Collector>,
}

pub(super) static KEYS: Section = &[&OTLP, &SERVICE, &SAMPLE];

static OTLP: Key<Option<String>> = Key::new(
    "tracing.otlp",
    "off",
    |text| match text {
        "off" => Ok(None),
        text => url(text).map(Some),
    },
    "URL of a collector that receives spans by OTLP over gRPC, such as `http://collector:4317`; `off` for none.",
)
.also(&[
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
]);

static SERVICE: Key<String> = Key::new(
    "tracing.service",
    "doorward",
    name,
    "The name of this service in traces.",
)
.also(&["OTEL_SERVICE_NAME"]);

static SAMPLE: Key<f64> = Key::new(
    "tracing.sample",
    "1",
    |text| {
        text.parse()
            .ok()
            .filter(|fraction| (0.0..=1.0).contains(fraction))
            .ok_or_else(|| ValueFault::Fraction(text.to_owned()))
    },
    "Fraction of requests that get spans if the gateway sends no span, 0 to 1. If the gateway sends a span, its own decision counts.",
);

impl TracingSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let (service, sample) = (reader.get(&SERVICE), reader.get(&SAMPLE));
        Self {
            collector: reader.get(&OTLP).map(|url| Collector {
                url,
                service,
                sample,
            }),
        }
    }
}

/// Faults do not show the URL: it may contain a password.
fn url(text: &str) -> Result<String, ValueFault> {
    let url = Url::parse(text).map_err(|_| ValueFault::Collector)?;
    let is_alone = url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    match (url.scheme(), url.host_str(), is_alone) {
        ("http", Some(_), true) => Ok(text.to_owned()),
        ("https", _, _) => Err(ValueFault::CollectorTls),
        (_, _, _) => Err(ValueFault::CollectorUrl),
    }
}
