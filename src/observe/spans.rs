//! OpenTelemetry spans of decisions: joins them to the gateway's trace and exports them to a collector. Also
//! remembers which request an action belongs to. Without a collector no span is created. Owns no rule.

mod export;

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
        TraceId, TraceState, Tracer as _, TracerProvider as _,
    },
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use tokio::task_local;

use super::request_log::{Door, Parent, Trace, shown};
use crate::domain::{
    decision::{Decision, Denial},
    request::Host,
};

/// The collector, and how many requests to trace.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Collector {
    /// URL of the collector, for OTLP over gRPC.
    pub(crate) url: String,
    /// The service name that spans carry.
    pub(crate) service: String,
    /// Fraction of requests to trace, from 0 to 1, when the gateway sends no trace.
    pub(crate) sample: f64,
}

/// Creates spans, if there is a collector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(Option<Arc<Tracing>>);

#[derive(Debug)]
struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// The span of one decision; empty if the decision is not traced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span(Option<(SdkTracer, Context)>);

/// How long shutdown waits for the export of the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

impl Spans {
    /// Starts exporting spans in the background; does not check that the collector is up. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    ///
    /// The exporter cannot be built, for example because of its URL.
    pub(crate) fn start(
        collector: Option<&Collector>,
    ) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        let Some(collector) = collector else {
            return Ok(Self::default());
        };
        let Collector {
            url,
            service,
            sample,
        } = collector;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(export::to(url)?)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                *sample,
            ))))
            .with_resource(
                Resource::builder_empty()
                    .with_service_name(service.clone())
                    .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                    .build(),
            )
            .build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Ok(Self(Some(Arc::new(Tracing { provider, tracer }))))
    }

    /// Whether there is a collector.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Starts the span of a decision.
    pub(crate) fn begin(&self, trace: &Trace<'_>) -> Span {
        let Some(tracing) = &self.0 else {
            return Span::default();
        };
        let name = match trace.door == Door::Grpc {
            true => "ext_authz check".into(),
            false => format!("http {}", trace.door.name()),
        };
        let tracer = &tracing.tracer;
        let builder = tracer.span_builder(name).with_kind(SpanKind::Server);
        let span = builder.start_with_context(tracer, &trace.parent.remote());
        match span.is_recording() {
            true => Span(Some((tracer.clone(), Context::new().with_span(span)))),
            false => Span::default(),
        }
    }

    /// Exports the remaining spans at shutdown, for at most two seconds.
    pub(crate) fn flush(&self) {
        if let Some(tracing) = &self.0 {
            // The exporter has already logged that the collector is unreachable.
            let _ = tracing.provider.shutdown_with_timeout(LAST_SPANS);
        }
    }
}

impl Span {
    /// Whether the span is recorded.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Ends the span with the attributes that the log line has. The status is an error only if Doorward could not
    /// decide.
    pub(crate) fn end(&self, decision: &Decision, rule: Option<&str>, trace: &Trace<'_>) {
        let Some((_, own)) = &self.0 else {
            return;
        };
        let span = own.span();
        let method = match trace.line.method {
            known @ (b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"OPTIONS"
            | b"TRACE" | b"PATCH") => shown(known).to_string(),
            _ => "_OTHER".to_owned(),
        };
        let host = Host::parse(trace.line.host);
        let host = host.as_ref().and_then(Host::name).map(str::to_owned);
        let said = [
            ("http.request.method", Some(method)),
            ("url.path", Some(shown(trace.line.target).to_string())),
            ("server.address", host),
            ("http.route", rule.map(str::to_owned)),
            ("enduser.id", decision.subject().map(str::to_owned)),
            ("doorward.door", Some(trace.door.name().to_owned())),
            (
                "doorward.decision",
                Some(decision.verdict().name().to_owned()),
            ),
            ("doorward.reason", Some(decision.reason().name().to_owned())),
            ("doorward.request_id", Some(trace.request_id.to_owned())),
        ];
        span.set_attributes(
            (said.into_iter())
                .filter_map(|(name, value)| Some(KeyValue::new(name, value?)))
                .filter(|attribute| !attribute.value.as_str().is_empty()),
        );
        if let Decision::Deny(Denial::Unavailable(_)) = decision {
            span.set_status(Status::error(decision.reason().name()));
        }
        span.end();
    }
}

impl Parent<'_> {
    /// The parent as a remote span. If it is missing or invalid, a new trace starts here.
    fn remote(self) -> Context {
        let own = Context::new();
        match self.read() {
            Some(span) => own.with_remote_span_context(span),
            None => own,
        }
    }

    /// `VERSION-TRACE-SPAN-FLAGS` in lower-case hexadecimal digits (W3C Trace Context, 3.2). Later versions may
    /// append fields.
    fn read(self) -> Option<SpanContext> {
        let text = str::from_utf8(self.traceparent).ok()?;
        let is_hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = text.split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, flags) = (parts.next()?, parts.next()?);
        let has_more = parts.next().is_some();
        let is_known = is_hex(version, 2) && version != "ff" && !(version == "00" && has_more);
        if !is_known || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
            return None;
        }
        let state = match self.tracestate.len() {
            ..=MOST_STATE => str::from_utf8(self.tracestate).ok(),
            _ => None,
        };
        let state = state.and_then(|state| state.parse::<TraceState>().ok());
        let read = SpanContext::new(
            TraceId::from_hex(trace).ok()?,
            SpanId::from_hex(span).ok()?,
            TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
            true,
            state.unwrap_or_default(),
        );
        read.is_valid().then_some(read)
    }
}

/// The longest `tracestate` that is propagated (W3C Trace Context, 3.3.1.5).
const MOST_STATE: usize = 512;

/// The request that an action belongs to.
struct Asked {
    id: Arc<str>,
    span: Span,
}

task_local! {
    static ASKED: Asked;
}

/// Runs the action of a request: log lines inside it can name the request, and its steps become child spans.
pub(crate) async fn within<T>(id: &Arc<str>, span: &Span, work: impl Future<Output = T>) -> T {
    let asked = Asked {
        id: Arc::clone(id),
        span: span.clone(),
    };
    ASKED.scope(asked, work).await
}

/// The id of the request that the current task works for, if any.
pub(crate) fn request_id() -> Option<String> {
    ASKED.try_with(|asked| asked.id.as_ref().to_owned()).ok()
}

/// Awaits one step of an action, as a child span of the request's span.
pub(crate) async fn step<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    let child = ASKED.try_with(|asked| {
        let (tracer, own) = asked.span.0.as_ref()?;
        Some(tracer.start_with_context(name, own))
    });
    let done = work.await;
    if let Ok(Some(mut child)) = child {
        child.end();
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(traceparent: &str, tracestate: &str) -> Option<SpanContext> {
        let parent = Parent {
            traceparent: traceparent.as_bytes(),
            tracestate: tracestate.as_bytes(),
        };
        parent.read()
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_parsed_per_w3c_trace_context() {
        let span = read(GOOD, "congo=t61rcWkgMzE").unwrap();
        assert_eq!(
            (span.trace_id().to_string(), span.span_id().to_string()),
            (
                "4bf92f3577b34da6a3ce929d0e0e4736".into(),
                "00f067aa0ba902b7".into()
            )
        );
        assert!(span.is_sampled() && span.is_remote());
        assert_eq!(span.trace_state().get("congo"), Some("t61rcWkgMzE"));
        let not_sampled = GOOD.replace("-01", "-fe");
        assert!(!read(&not_sampled, "").unwrap().is_sampled());
        let later = format!("{}-more", GOOD.replace("00-4", "cc-4"));
        assert!(read(&later, "").unwrap().is_sampled());
        // An invalid state is dropped; the trace continues.
        let long = format!("a={}", "b".repeat(600));
        for state in ["no-equals-sign", &long, "\u{e9}"] {
            let span = read(GOOD, state).unwrap();
            assert_eq!(span.trace_state().header(), "", "{state}");
        }
    }

    #[test]
    fn an_invalid_traceparent_is_ignored() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(read(bad, "").is_none(), "{bad:?}");
        }
    }
}
