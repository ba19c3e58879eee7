//! Spans: they belong to Envoy's trace, contain what the log contains and no more, and never delay an answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use doorward::doors::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest,
    attribute_context::{self, HttpRequest, http_request::HeadersEntry},
    authorization_client::AuthorizationClient,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::transport::{Server, server::TcpIncoming};

use crate::{
    docs::blocks,
    front::{ADA, BOB, Front, tampered},
    harness::{Doorward, Envoy, EnvoyConfig, Settings, free_address, repository, send, until},
};

/// A collector in this process.
struct Collector {
    task: JoinHandle<()>,
    received: Arc<Mutex<Vec<ResourceSpans>>>,
    address: SocketAddr,
}

struct Receiver(Arc<Mutex<Vec<ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    #[expect(
        clippy::disallowed_types,
        reason = "the trait requires this signature; no error occurs"
    )]
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let spans = request.into_inner().resource_spans;
        self.0.lock().unwrap().extend(spans);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<_>>>::default();
        let service = TraceServiceServer::new(Receiver(Arc::clone(&received)));
        let task = tokio::spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .expect("the collector keeps running");
        });
        Self {
            task,
            received,
            address,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans that a service has exported so far.
    fn of(&self, service: &str) -> Vec<ResourceSpans> {
        let received = self.received.lock().unwrap();
        let of_it = received.iter().filter(|spans| {
            let resource = spans.resource.as_ref().unwrap();
            text(&resource.attributes, "service.name").as_deref() == Some(service)
        });
        of_it.cloned().collect()
    }

    fn spans(&self, service: &str) -> Vec<Span> {
        let of_it = self.of(service).into_iter();
        of_it
            .flat_map(|spans| spans.scope_spans)
            .flat_map(|spans| spans.spans)
            .collect()
    }

    async fn seen(&self, service: &str, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        let limit = Duration::from_secs(20);
        until(&format!("a span: {what}"), limit, async || {
            self.spans(service).into_iter().find(&is)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    let value = found.value.as_ref()?.value.as_ref()?;
    let Value::StringValue(text) = value else {
        panic!("{key} is {value:?}")
    };
    Some(text.clone())
}

fn said(span: &Span, key: &str) -> String {
    text(&span.attributes, key).unwrap_or_default()
}

/// The Envoy configuration of the guide, which exports spans to the same collector.
pub fn traced(collector: SocketAddr) -> impl FnOnce(EnvoyConfig) -> EnvoyConfig {
    let indented = |block: &str, spaces: usize| {
        let lines = block.lines();
        let lines = lines.map(|line| format!("{}{line}\n", " ".repeat(spaces)));
        lines.collect::<String>()
    };
    let yaml = blocks("docs/tracing.md", "yaml");
    let [tracing, cluster] = &*yaml else {
        panic!("{} blocks", yaml.len())
    };
    let cluster = cluster.replace(
        "port_value: 4317",
        &format!("port_value: {}", collector.port()),
    );
    let (tracing, cluster) = (indented(tracing, 16), indented(&cluster, 4));
    move |config| {
        let filters = "                http_filters:\n";
        config
            .replace(filters, &format!("{tracing}{filters}"))
            .replace("  clusters:\n", &format!("  clusters:\n{cluster}"))
            // Envoy exports each span at once.
            .replace(
                "static_resources:\n",
                "layered_runtime:\n  layers:\n    - name: soon\n      static_layer: { tracing.opentelemetry.min_flush_spans: 1 }\n\nstatic_resources:\n",
            )
    }
}

async fn decisions_are_in_the_trace_of_envoy(version: &str) {
    let collector = Collector::start().await;
    let choose = |settings: &mut Settings| {
        settings
            .env("DOORWARD_TRACING__OTLP", collector.url())
            .env("DOORWARD_LOG__LEVEL", "debug")
            .env("DOORWARD_REFRESH__ENABLED", "true");
    };
    let front = Front::open(version, choose, traced(collector.address)).await;
    let reply = front.login(BOB).await;
    let bearer = reply.header("authorization").unwrap().to_owned();
    let headers = [("authorization", &*bearer)];
    let path = "/profile?token=in-the-query-is-a-secret";
    assert_eq!(front.send("GET", path, &headers).await.status, 200);
    assert_eq!(
        front.send("GET", "/admin/users", &headers).await.status,
        403
    );
    let bad = tampered(&bearer);
    let bad = [
        ("authorization", &*bad),
        ("cookie", "session=a-cookie-is-a-secret"),
    ];
    assert_eq!(front.send("PROPFIND", "/pot", &bad).await.status, 401);
    let typed = ("typed-into-the-name-field", "a-password-of-nobody");
    assert_eq!(front.login(typed).await.status, 401);

    let at = |reason: &'static str| move |span: &Span| said(span, "doorward.reason") == reason;
    let login = collector.seen("doorward", "a login", at("login")).await;
    let pass = collector.seen("doorward", "a pass", at("token")).await;
    let denied = collector
        .seen("doorward", "a denial", at("missing-role"))
        .await;
    let forged = collector
        .seen("doorward", "a bad token", at("token-signature"))
        .await;
    let nobody = collector
        .seen("doorward", "nobody", at("unknown-user"))
        .await;

    for span in [&login, &pass, &denied, &forged, &nobody] {
        assert_eq!(span.name, "ext_authz check");
        assert_eq!(span.kind(), SpanKind::Server);
        assert_eq!(said(span, "doorward.door"), "grpc");
        assert_ne!(
            span.status.clone().unwrap_or_default().code(),
            StatusCode::Error
        );
        let parent = |other: &Span| other.span_id == span.parent_span_id;
        let parent = collector.seen("edge", "the call of Envoy", parent).await;
        assert_eq!(parent.trace_id, span.trace_id, "{version}");
        // The call is a child of Envoy's span for the request, which has the id that Doorward logs.
        let whole = |other: &Span| other.span_id == parent.parent_span_id;
        let whole = collector.seen("edge", "the request at Envoy", whole).await;
        let id = said(&whole, "guid:x-request-id");
        assert!(!id.is_empty(), "{whole:?}");
        assert_eq!(said(span, "doorward.request_id"), id);
        let logged = |line: &serde_json::Value| line["fields"]["request_id"] == *id;
        front.doorward.logged("the same request", logged).await;
    }
    let expected = [
        ("http.request.method", "GET"),
        ("url.path", "/profile"),
        ("server.address", "127.0.0.1"),
        ("http.route", "/*"),
        ("doorward.decision", "allow"),
    ];
    for (key, value) in expected {
        assert_eq!(said(&pass, key), value, "{key}");
    }
    assert_eq!(said(&forged, "http.request.method"), "_OTHER");
    assert_eq!(said(&denied, "enduser.id"), said(&pass, "enduser.id"));
    assert_eq!(said(&login, "enduser.id"), said(&pass, "enduser.id"));
    assert_eq!(said(&login, "doorward.decision"), "issue");
    assert_eq!(said(&nobody, "enduser.id"), "");

    let mut steps = BTreeMap::new();
    for span in collector.spans("doorward") {
        if span.parent_span_id == login.span_id {
            assert_eq!(span.trace_id, login.trace_id);
            assert!(span.start_time_unix_nano >= login.start_time_unix_nano);
            assert!(span.end_time_unix_nano <= login.end_time_unix_nano);
            *steps.entry(span.name).or_insert(0) += 1;
        }
    }
    let steps: Vec<_> = steps
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect();
    assert_eq!(
        steps,
        [
            ("fetch generation", 1),
            ("fetch row", 2),
            ("hash", 1),
            ("write", 1)
        ]
    );

    // The export contains no secret, and no attribute that the guide does not name.
    let secrets = [
        BOB.1,
        typed.0,
        typed.1,
        &bearer[7..],
        bearer.rsplit('.').next().unwrap(),
        reply.header("x-refresh-token").unwrap(),
        "in-the-query-is-a-secret",
        "a-cookie-is-a-secret",
        &BASE64_STANDARD.encode(format!("{}:{}", BOB.0, BOB.1)),
        &BASE64_STANDARD.encode(format!("{}:{}", typed.0, typed.1)),
    ];
    for spans in collector.of("doorward") {
        let bytes = spans.encode_to_vec();
        for secret in secrets {
            assert!(
                !bytes
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes()),
                "{secret}"
            );
        }
    }
    let guide = std::fs::read_to_string(repository().join("docs/tracing.md")).unwrap();
    for span in collector.spans("doorward") {
        assert!(guide.contains(&format!("`{}`", span.name)), "{}", span.name);
        assert!(span.events.is_empty() && span.links.is_empty());
        for pair in &span.attributes {
            assert!(
                guide.contains(&format!("| `{}` |", pair.key)),
                "{}",
                pair.key
            );
            assert!(!said(&span, &pair.key).contains(BOB.0), "{pair:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_in_the_trace_of_the_oldest_envoy() {
    decisions_are_in_the_trace_of_envoy(Envoy::OLDEST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_in_the_trace_of_the_newest_envoy() {
    decisions_are_in_the_trace_of_envoy(Envoy::NEWEST).await;
}

/// Asks the gRPC door, with headers of the call itself and of the request to check.
async fn ask(door: SocketAddr, path: &str, call: &[(&'static str, &str)], about: &[(&str, &str)]) {
    let http = HttpRequest {
        method: "GET".into(),
        path: path.to_owned().into(),
        headers: about
            .iter()
            .map(|(key, value)| HeadersEntry {
                key: (*key).to_owned().into(),
                value: (*value).to_owned().into(),
            })
            .collect(),
        ..HttpRequest::default()
    };
    let mut request = tonic::Request::new(CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    });
    for (name, value) in call {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let mut client = AuthorizationClient::connect(format!("http://{door}"))
        .await
        .unwrap();
    let answer = client.check(request).await.unwrap().into_inner();
    assert_ne!(answer.status.unwrap().code, 0);
}

fn parent(nth: u8, flags: &str) -> String {
    format!(
        "00-{}-{}-{flags}",
        format!("{nth:02x}").repeat(16),
        format!("{nth:02x}").repeat(8)
    )
}

/// The exported spans by path, with their parents. The list is complete because the process has ended.
async fn told(collector: &Collector, doorward: Doorward) -> BTreeMap<String, String> {
    let (_home, status) = doorward.stop().await;
    assert!(status.success(), "{status}");
    let spans = collector.spans("doorward").into_iter();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    spans
        .map(|span| (said(&span, "url.path"), hex(&span.parent_span_id)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_or_else_a_setting_decides_what_is_sampled() {
    for sample in ["0", "1"] {
        let collector = Collector::start().await;
        let doorward = Doorward::start(|settings| {
            // The standard variable names work too.
            settings
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
                .env("DOORWARD_TRACING__SAMPLE", sample);
        })
        .await;
        let (sampled, not) = (parent(0xa1, "01"), parent(0xa2, "00"));
        let client = parent(0xa3, "01");
        let door = doorward.grpc;
        ask(door, "/alone", &[], &[]).await;
        ask(door, "/sampled", &[("traceparent", &sampled)], &[]).await;
        ask(door, "/not-sampled", &[("traceparent", &not)], &[]).await;
        ask(door, "/broken", &[("traceparent", "00-x-y-01")], &[]).await;
        // The client's header in the checked request does not count as the gateway's header of the call.
        ask(door, "/client", &[], &[("traceparent", &client)]).await;
        ask(
            door,
            "/both",
            &[("traceparent", &not)],
            &[("traceparent", &client)],
        )
        .await;
        let headers = [
            ("x-original-method", "GET"),
            ("x-original-uri", "/by-nginx"),
            ("traceparent", &*sampled),
        ];
        let reply = send(doorward.http, "GET", "/auth/nginx", &headers, "").await;
        assert_eq!(reply.status, 401, "{reply:?}");

        let told = told(&collector, doorward).await;
        let told: BTreeSet<_> = told
            .iter()
            .map(|(path, parent)| (&**path, &**parent))
            .collect();
        let ours = "a1a1a1a1a1a1a1a1";
        let mut expected = BTreeSet::from([("/sampled", ours), ("/by-nginx", ours)]);
        if sample == "1" {
            expected.extend([("/alone", ""), ("/broken", ""), ("/client", "")]);
        }
        assert_eq!(told, expected, "sample {sample}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_an_error_and_a_denial_is_not() {
    let collector = Collector::start().await;
    let nobody = free_address();
    let doorward = Doorward::start(|settings| {
        settings
            .env("DATABASE_URL", format!("mysql://a:b@{nobody}/c"))
            .env("JWT_SECRET", "7e57ab1e5ec2e7f0a1b2c3d4e5f60718")
            .env("DOORWARD_TRACING__OTLP", collector.url());
    })
    .await;
    let credentials = crate::front::basic(ADA.0, ADA.1);
    let headers = [("authorization", &*credentials)];
    let reply = send(doorward.http, "POST", "/login", &headers, "").await;
    assert_eq!(reply.status, 503);
    let reply = send(doorward.http, "POST", "/login", &[], "").await;
    assert_eq!(reply.status, 401);
    doorward.stop().await;
    let status = |reason: &str| {
        let spans = collector.spans("doorward");
        let span = spans
            .iter()
            .find(|span| said(span, "doorward.reason") == reason);
        let span = span.unwrap_or_else(|| panic!("no {reason} in {spans:?}"));
        assert_eq!(span.name, "http login");
        span.status.clone().unwrap_or_default().code()
    };
    assert_eq!(status("database-unavailable"), StatusCode::Error);
    assert_eq!(status("missing-credentials"), StatusCode::Unset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_delays_nothing_and_is_logged_once() {
    // A collector that refuses connections, and one that accepts them and never answers.
    let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for (what, address) in [
        ("refuses", free_address()),
        ("is silent", silent.local_addr().unwrap()),
    ] {
        let doorward = Doorward::start(|settings| {
            settings.env("DOORWARD_TRACING__OTLP", format!("http://{address}"));
        })
        .await;
        let mut slowest = Duration::ZERO;
        let begun = Instant::now();
        let mut asked = 0;
        // Long enough for several batches to fail.
        while begun.elapsed() < Duration::from_secs(12) {
            for _ in 0..20 {
                let started = Instant::now();
                let reply = send(
                    doorward.http,
                    "GET",
                    "/validate",
                    &[("authorization", "Bearer a.b.c")],
                    "",
                )
                .await;
                assert_eq!(reply.status, 403, "{what}");
                slowest = slowest.max(started.elapsed());
                asked += 1;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        assert!(asked > 100, "{what}: {asked} answers");
        assert!(slowest < Duration::from_secs(5), "{what}: {slowest:?}");
        let is = |line: &&serde_json::Value| {
            let message = line["fields"]["message"].as_str().unwrap_or_default();
            message.starts_with("spans cannot be exported")
        };
        let lines = doorward.log().iter().filter(is).count();
        assert_eq!(lines, 1, "{what}: {}", doorward.output());
        let ending = Instant::now();
        let (_home, status) = doorward.stop().await;
        assert!(status.success(), "{what}: {status}");
        assert!(
            ending.elapsed() < Duration::from_secs(20),
            "{what}: {:?}",
            ending.elapsed()
        );
    }
}
