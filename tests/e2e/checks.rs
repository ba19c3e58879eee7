//! Malformed calls of the gRPC door: each is denied. None gets a gRPC error, because Envoy with `failure_mode_allow`
//! would let the request pass.

use std::time::Duration;

use bytes::Bytes;
use doorward::doors::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{self, HttpRequest},
    check_response::HttpResponse,
};
use h2::client::SendRequest;
use hyper::Request;
use prost::Message as _;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use crate::{
    front::{BOB, Front},
    harness::{Doorward, Envoy, EnvoyConfig, Service, Settings, free_address, send},
    http2::{self, CHECK, Ended, RST_STREAM, call, frame, message, preface},
    tracing::traced,
};

async fn connect(doorward: &Doorward) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(doorward.grpc).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The response to a call with this body.
async fn answer(sender: SendRequest<Bytes>, kind: &str, body: Vec<u8>) -> CheckResponse {
    let request = Request::post(format!("http://doorward{CHECK}"))
        .header("content-type", kind)
        .body(())
        .unwrap();
    let (response, mut stream) = (sender.ready().await.unwrap())
        .send_request(request, false)
        .unwrap();
    stream.send_data(body.into(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    CheckResponse::decode(&bytes[5..]).unwrap()
}

/// The status that the client receives. Asserts that the denial has a gRPC code other than zero.
fn denied(response: &CheckResponse) -> i32 {
    assert_ne!(response.status.as_ref().unwrap().code, 0);
    let Some(HttpResponse::DeniedResponse(denied)) = &response.http_response else {
        panic!("not a denial");
    };
    denied.status.as_ref().unwrap().code
}

fn check(path: &str) -> CheckRequest {
    let http = HttpRequest {
        method: "GET".into(),
        path: path.to_owned().into(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_checks_are_denied() {
    let doorward = Doorward::start(|settings| {
        settings.env("DOORWARD_LISTEN__MAX_CHECK", "65536");
    })
    .await;
    let sender = connect(&doorward).await;
    let good = message(&check("/orders").encode_to_vec());
    let path = |length: usize| message(&check(&"/a".repeat(length / 2)).encode_to_vec());
    let mut compressed = good.clone();
    compressed[0] = 1;
    for (what, body, expected, reason) in [
        ("a check", good.clone(), 401, "missing-token"),
        ("nothing", Vec::new(), 400, "malformed-check"),
        ("compressed", compressed, 400, "malformed-check"),
        (
            "two messages",
            [&*good, &*good].concat(),
            400,
            "malformed-check",
        ),
        (
            "a truncated message",
            good[..good.len() - 1].to_vec(),
            400,
            "malformed-check",
        ),
        ("no protobuf", message(b"\xff\xff"), 400, "malformed-check"),
        ("just too much", path(66_000), 413, "check-too-large"),
        // More than the HTTP/2 flow-control windows.
        ("far too much", path(4_000_000), 413, "check-too-large"),
    ] {
        for kind in ["application/grpc", "text/plain"] {
            let response = answer(sender.clone(), kind, body.clone()).await;
            assert_eq!(denied(&response), expected, "{what}");
        }
        doorward
            .logged(what, |line| line["fields"]["reason"] == reason)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_check_is_denied() {
    let doorward = Doorward::start(|_| {}).await;
    let mut stream = TcpStream::connect(doorward.grpc).await.unwrap();
    let half = frame(
        http2::DATA,
        0,
        1,
        &message(&check("/x").encode_to_vec())[..9],
    );
    let bytes = [preface(), call(1, CHECK), half].concat();
    stream.write_all(&bytes).await.unwrap();
    let ended = timeout(Duration::from_secs(20), http2::ended(&mut stream, 1)).await;
    let Ok(Ended::Answered(body)) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(denied(&CheckResponse::decode(&body[5..]).unwrap()), 503);
    doorward
        .logged("it", |line| line["fields"]["reason"] == "check-too-slow")
        .await;
}

/// Envoy resets the calls of clients that disconnect. However many do, other calls on the same connection go on.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_reset_do_not_end_those_of_others() {
    let doorward = Doorward::start(|_| {}).await;
    let mut stream = TcpStream::connect(doorward.grpc).await.unwrap();
    let mut bytes = preface();
    for number in 0..500 {
        let id = 2 * number + 1;
        bytes.extend(call(id, CHECK));
        bytes.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    let body = message(&check("/x").encode_to_vec());
    bytes.extend(call(1001, CHECK));
    bytes.extend(frame(http2::DATA, http2::END_STREAM, 1001, &body));
    stream.write_all(&bytes).await.unwrap();
    let ended = http2::ended(&mut stream, 1001).await;
    let Ended::Answered(body) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(denied(&CheckResponse::decode(&body[5..]).unwrap()), 401);
}

/// An unsafe Envoy configuration: requests pass if Doorward does not answer. It sends whole bodies, accepts more
/// headers than Doorward, and forwards the client's `tracestate`.
fn open(config: EnvoyConfig) -> EnvoyConfig {
    let body = "with_request_body: { max_request_bytes: 8388608, allow_partial_message: true, pack_as_bytes: true }";
    let config = config
        .replace(
            "failure_mode_allow: false",
            &format!("failure_mode_allow: true\n                      {body}"),
        )
        .replace(
            "stat_prefix: edge",
            "stat_prefix: edge\n                max_request_headers_kb: 1024",
        );
    let config = config.replace(
        "per_connection_buffer_limit_bytes: 65536",
        "per_connection_buffer_limit_bytes: 33554432",
    );
    // With this configuration, a timeout also lets requests pass; the long timeout keeps a busy machine from causing
    // one.
    let patient = config.replace("timeout: 3s", "timeout: 30s");
    traced(free_address())(patient)
}

/// No client request can make Envoy treat Doorward's answer as missing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_an_envoy_that_lets_errors_through() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, open).await;
        let bearer = front.bearer(BOB).await;
        let headers = [("authorization", &*bearer)];
        let edge = front.envoy.edge;
        // For each request: what was sent, the status, and the expected status.
        let mut answers = Vec::new();
        for (size, expected) in [(200_000, 200), (300_000, 413), (8_000_000, 413)] {
            let reply = send(edge, "POST", "/orders", &headers, vec![b'x'; size]).await;
            answers.push((format!("a body of {size}"), reply.status, expected));
            let reply = send(edge, "POST", "/orders", &[], vec![b'x'; size]).await;
            let expected = if expected == 200 { 401 } else { expected };
            answers.push((format!("{size} and no token"), reply.status, expected));
        }
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (size, expected) in [(1000, 401), (40_000, 401), (200_000, 401), (900_000, 413)] {
            let state = format!("a={}", "x".repeat(size));
            let headers = [("traceparent", parent), ("tracestate", &*state)];
            let reply = front.send("GET", "/orders", &headers).await;
            answers.push((format!("a tracestate of {size}"), reply.status, expected));
        }
        let long = "x".repeat(400_000);
        let reply = front.send("GET", "/orders", &[("x-long", &*long)]).await;
        answers.push(("long headers".into(), reply.status, 413));
        answers.retain(|(_, found, expected)| found != expected);
        assert!(answers.is_empty(), "{version}: {answers:#?}");
        assert_eq!(front.service.requests(), 1, "{version}");
        let errors = front.envoy.ask("/stats?filter=ext_authz.error").await;
        assert!(
            errors.text().trim().ends_with(": 0"),
            "{version}: {errors:?}"
        );
    }
}

/// A gateway that is not trusted is denied too, before Doorward reads what it sends.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_an_envoy_that_is_not_trusted() {
    for version in Envoy::VERSIONS {
        let strangers = |settings: &mut Settings| {
            settings.env("DOORWARD_TRUSTED_PROXIES", "192.0.2.0/24");
        };
        let front = Front::open(version, strangers, open).await;
        for size in [0, 100_000, 8_000_000] {
            let edge = front.envoy.edge;
            let reply = send(edge, "POST", "/healthz", &[], vec![b'x'; size]).await;
            assert_eq!(reply.status, 403, "{version}: a body of {size}: {reply:?}");
        }
        assert_eq!(front.service.requests(), 0, "{version}");
    }
}

/// The same in Envoy's HTTP mode, where Envoy treats a 5xx answer and a broken connection as no answer.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_an_http_envoy_that_lets_errors_through() {
    for version in Envoy::VERSIONS {
        let doorward = Doorward::start(|_| {}).await;
        let service = Service::start().await;
        let body = "with_request_body: { max_request_bytes: 8388608, allow_partial_message: true }";
        let config = EnvoyConfig::file("envoy-http.yaml")
            .replace(
                "failure_mode_allow: false",
                &format!("failure_mode_allow: true\n                      {body}"),
            )
            .replace(
                "stat_prefix: edge",
                "stat_prefix: edge\n                max_request_headers_kb: 1024",
            )
            .replace(
                "idle_timeout: 3600s",
                "idle_timeout: 3600s\n                  max_headers_count: 1000",
            )
            .replace("- exact: x-request-id", "- prefix: x-")
            .replace(
                "per_connection_buffer_limit_bytes: 65536",
                "per_connection_buffer_limit_bytes: 33554432",
            )
            .free_ports()
            .doorward_http(doorward.http)
            .service(service.address);
        let envoy = Envoy::start(version, &config).await;
        let mut passed = Vec::new();
        for _ in 0..20 {
            for size in [0, 10_000, 100_000, 300_000, 8_000_000] {
                let body = vec![b'x'; size];
                let reply = send(envoy.edge, "POST", "/orders", &[], body).await;
                if reply.status != 401 {
                    passed.push((format!("a body of {size}"), reply.status));
                }
            }
        }
        let long = "x".repeat(300_000);
        for (what, name, count) in [
            ("a long header", "x-long", 1),
            ("a long token", "authorization", 1),
            ("many headers", "x-many", 500),
        ] {
            let value = if count == 1 { &*long } else { "1" };
            let names: Vec<_> = (0..count)
                .map(|number| format!("{name}-{number}"))
                .collect();
            let headers: Vec<_> = match count {
                1 => vec![(name, value)],
                _ => names.iter().map(|name| (&**name, value)).collect(),
            };
            let reply = send(envoy.edge, "GET", "/orders", &headers, "").await;
            if !(400..500).contains(&reply.status) {
                passed.push((what.to_owned(), reply.status));
            }
        }
        assert!(passed.is_empty(), "{version}: {passed:#?}");
        assert_eq!(service.requests(), 0, "{version}");
    }
}
