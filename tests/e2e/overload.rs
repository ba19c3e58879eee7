//! More requests in flight than `listen.max_requests`: the excess is refused at once, and none passes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use doorward::doors::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{self, HttpRequest},
    check_response::HttpResponse,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::{
    front::Front,
    harness::{Doorward, Envoy, EnvoyConfig, Service, Settings, send},
    http2::{self, CHECK, HEALTH, call, frame, message, preface},
};

/// The code of `google.rpc.Code`.
const UNAVAILABLE: i32 = 14;

/// A check of a public path with a body of `length` bytes.
fn check(length: usize) -> Vec<u8> {
    let http = HttpRequest {
        method: "GET".into(),
        path: "/healthz".into(),
        body: vec![b'x'; length].into(),
        ..HttpRequest::default()
    };
    let check = CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    };
    message(&check.encode_to_vec())
}

/// A gateway whose checks in flight are only half sent.
struct Busy {
    stream: TcpStream,
    next: u32,
    half_sent: Vec<u32>,
    bodies: BTreeMap<u32, Vec<u8>>,
    ended: BTreeSet<u32>,
}

impl Busy {
    /// Takes all places. Each check must arrive completely within ten seconds.
    async fn at_the_limit(doorward: &Doorward) -> Self {
        let mut stream = TcpStream::connect(doorward.grpc).await.unwrap();
        stream.write_all(&preface()).await.unwrap();
        let mut busy = Self {
            stream,
            next: 1,
            half_sent: Vec::new(),
            bodies: BTreeMap::new(),
            ended: BTreeSet::new(),
        };
        // Calls start in any order, so a complete check may get a place before a half-sent one.
        loop {
            let half = frame(http2::DATA, 0, busy.next, &check(0)[..9]);
            let begun = [call(busy.next, CHECK), half].concat();
            busy.stream.write_all(&begun).await.unwrap();
            busy.half_sent.push(busy.next);
            busy.next += 2;
            if code(&busy.check(0).await) == UNAVAILABLE {
                break;
            }
        }
        // Health checks have no limit.
        busy.ask(HEALTH, &message(&[])).await;
        busy
    }

    async fn check(&mut self, length: usize) -> CheckResponse {
        let answer = self.ask(CHECK, &check(length)).await;
        CheckResponse::decode(&answer[5..]).unwrap()
    }

    async fn ask(&mut self, path: &str, body: &[u8]) -> Vec<u8> {
        let id = self.next;
        self.next += 2;
        let pieces: Vec<_> = body.chunks(16_384).collect();
        let (last, first) = pieces.split_last().unwrap();
        let mut bytes = call(id, path);
        for piece in first {
            bytes.extend(frame(http2::DATA, 0, id, piece));
        }
        bytes.extend(frame(http2::DATA, http2::END_STREAM, id, last));
        self.stream.write_all(&bytes).await.unwrap();
        self.answer(id).await
    }

    async fn answer(&mut self, id: u32) -> Vec<u8> {
        while !self.ended.contains(&id) {
            let (kind, flags, of, payload) = http2::read(&mut self.stream).await.unwrap();
            assert_ne!(kind, http2::RST_STREAM, "{of}");
            if kind == http2::PING && flags == 0 {
                let pong = frame(http2::PING, 1, 0, &payload);
                self.stream.write_all(&pong).await.unwrap();
            }
            if kind == http2::DATA {
                self.bodies.entry(of).or_default().extend(payload);
            }
            let can_end = matches!(kind, http2::DATA | http2::HEADERS);
            if can_end && flags & http2::END_STREAM != 0 {
                self.ended.insert(of);
            }
        }
        self.bodies.remove(&id).unwrap()
    }

    /// Sends the second halves and gives how many checks pass.
    async fn finish(&mut self) -> usize {
        let mut passed = 0;
        for id in std::mem::take(&mut self.half_sent) {
            let rest = frame(http2::DATA, http2::END_STREAM, id, &check(0)[9..]);
            self.stream.write_all(&rest).await.unwrap();
            let answer = self.answer(id).await;
            let answer = CheckResponse::decode(&answer[5..]).unwrap();
            passed += usize::from(code(&answer) == 0);
        }
        passed
    }
}

fn code(answer: &CheckResponse) -> i32 {
    answer.status.as_ref().unwrap().code
}

fn two(settings: &mut Settings) {
    settings.env("DOORWARD_LISTEN__MAX_REQUESTS", "2");
}

/// An unsafe Envoy configuration: requests pass if Doorward does not answer.
fn open(config: EnvoyConfig) -> EnvoyConfig {
    config.replace("failure_mode_allow: false", "failure_mode_allow: true")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_beyond_the_limit_is_denied_and_the_others_of_its_connection_go_on() {
    let doorward = Doorward::start(|settings| {
        two(settings);
        settings.toml("[[route]]\npath = '/healthz'\nallow = 'public'\n");
    })
    .await;
    let mut busy = Busy::at_the_limit(&doorward).await;
    // A check larger than the HTTP/2 windows is also read completely.
    for length in [0, 30_000] {
        let answer = busy.check(length).await;
        assert_eq!(code(&answer), UNAVAILABLE);
        let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
            panic!("not a denial");
        };
        assert_eq!(denied.status.unwrap().code, 503);
        let mut headers = denied.headers.iter().map(|it| it.header.as_ref().unwrap());
        let retry = headers.find(|header| header.key == "retry-after").unwrap();
        assert_eq!(retry.value, "1");
    }
    let line = doorward
        .logged("it", |line| line["fields"]["reason"] == "overloaded")
        .await;
    assert_eq!(line["fields"]["client"], "127.0.0.1");
    let numbers = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let labels = "{door=\"grpc\",decision=\"deny\",reason=\"overloaded\",rule=\"none\"} ";
    let counted = format!("doorward_decisions_total{labels}");
    let mut lines = numbers.text().lines();
    let counted = lines.find_map(|line| line.strip_prefix(&*counted)).unwrap();
    assert!(counted.parse::<u64>().unwrap() >= 3, "{counted}");
    assert_eq!(busy.finish().await, 2);
    // Places that became free are given out again.
    assert_eq!(code(&busy.check(0).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_an_envoy_that_lets_errors_through_at_the_limit() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, two, open).await;
        let mut busy = Busy::at_the_limit(&front.doorward).await;
        for path in ["/healthz", "/orders"] {
            let reply = front.send("GET", path, &[]).await;
            assert_eq!(reply.status, 503, "{version}: {reply:?}");
            assert_eq!(reply.header("retry-after"), Some("1"), "{version}");
        }
        assert_eq!(front.service.requests(), 0, "{version}");
        assert_eq!(busy.finish().await, 2, "{version}");
        let reply = front.send("GET", "/healthz", &[]).await;
        assert_eq!(reply.status, 200, "{version}: {reply:?}");
    }
}

/// In its HTTP mode, Envoy treats a 5xx as a failure, so the denial has another status there.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_an_http_envoy_that_lets_errors_through_at_the_limit() {
    for version in Envoy::VERSIONS {
        let doorward = Doorward::start(|settings| {
            two(settings);
            settings.toml("[[route]]\npath = '/healthz'\nallow = 'public'\n");
        })
        .await;
        let service = Service::start().await;
        let config = open(EnvoyConfig::file("envoy-http.yaml"))
            .free_ports()
            .doorward_http(doorward.http)
            .service(service.address);
        let envoy = Envoy::start(version, &config).await;
        let mut busy = Busy::at_the_limit(&doorward).await;
        for size in [0, 300_000] {
            let reply = send(envoy.edge, "POST", "/healthz", &[], vec![b'x'; size]).await;
            assert_eq!(reply.status, 429, "{version}: {reply:?}");
            assert_eq!(reply.header("retry-after"), Some("1"), "{version}");
        }
        assert_eq!(service.requests(), 0, "{version}");
        assert_eq!(busy.finish().await, 2, "{version}");
        let reply = send(envoy.edge, "GET", "/healthz", &[], "").await;
        assert_eq!(reply.status, 200, "{version}: {reply:?}");
    }
}

/// Untrusted peers get a quarter of the places.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_first() {
    let doorward = Doorward::start(|settings| {
        settings
            .env("DOORWARD_LISTEN__MAX_REQUESTS", "8")
            .env("DOORWARD_TRUSTED_PROXIES", "127.0.0.1");
    })
    .await;
    // Two strangers hold one place each, with a login that does not end. A login that arrives while a probe holds a
    // place is refused, so each probe follows a new login.
    let mut strangers = Vec::new();
    let login = "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n";
    let validate = "GET /validate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    for _ in 0..100 {
        strangers.push(stranger(&doorward, login).await);
        answer.clear();
        let mut probe = stranger(&doorward, validate).await;
        // Doorward may close the connection instead if the address has too many.
        let _ = probe.read_to_string(&mut answer).await;
        if answer.starts_with("HTTP/1.1 503 ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"),
        "{answer}"
    );
    let reply = send(doorward.http, "GET", "/validate", &[], "").await;
    assert_eq!(reply.status, 401, "{reply:?}");
    drop(strangers);
}

async fn stranger(doorward: &Doorward, request: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 3], 0).into()).unwrap();
    let mut stream = socket.connect(doorward.http).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}
