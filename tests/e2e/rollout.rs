//! How Doorward stops and is replaced: requests in flight are answered, and replicas that are restarted in turn lose
//! nothing.

use std::{
    env, fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use doorward::doors::wire::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{self, HttpRequest, http_request::HeadersEntry},
    check_response::HttpResponse,
};
use h2::client::SendRequest;
use hyper::Request;
use prost::Message as _;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    front::{BOB, Front, basic, check},
    harness::{
        Database, Doorward, Envoy, EnvoyConfig, PATIENCE, Service, Settings, Sqlite, own_address,
        send, try_send, until,
    },
};

async fn doorward(delay: &str, more: impl FnOnce(&mut Settings)) -> Doorward {
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_SHUTDOWN__DELAY", delay);
        more(settings);
    });
    home.add_user(BOB.0, BOB.1, &[]).await;
    home.serve().await
}

async fn says(doorward: &Doorward, message: &str) {
    doorward
        .logged(message, |line| line["fields"]["message"] == message)
        .await;
}

async fn health(doorward: &Doorward, service: &str) -> ServingStatus {
    let channel = Endpoint::new(format!("http://{}", doorward.grpc)).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    let service = service.to_owned();
    let answer = client.check(HealthCheckRequest { service }).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reports_the_stop_and_serves_until_the_delay_ends() {
    const DELAY: Duration = Duration::from_secs(8);
    let doorward = doorward("8s", |_| {}).await;
    for service in ["", "envoy.service.auth.v3.Authorization"] {
        assert_eq!(health(&doorward, service).await, ServingStatus::Serving);
    }
    let asked = Instant::now();
    doorward.signal(Signal::TERM);
    says(&doorward, "draining").await;
    let ready = async || send(doorward.ops, "GET", "/readyz", &[], "").await.status;
    until("it is not ready", PATIENCE, async || {
        (ready().await == 503).then_some(())
    })
    .await;
    for service in ["", "envoy.service.auth.v3.Authorization"] {
        assert_eq!(health(&doorward, service).await, ServingStatus::NotServing);
    }
    assert_eq!(
        send(doorward.ops, "GET", "/livez", &[], "").await.status,
        200
    );
    // New connections are served like existing ones, including logins.
    let answer = check(doorward.grpc, "POST", "/login", &basic(BOB.0, BOB.1)).await;
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
        panic!("Doorward did not answer the login");
    };
    assert_eq!(denied.status.unwrap().code, 200);
    let reply = send(doorward.http, "GET", "/validate", &[], "").await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (401, Some("close"))
    );
    assert!(
        asked.elapsed() < DELAY,
        "the checks took as long as the delay"
    );
    let (_home, status) = doorward.end().await;
    assert!(status.success());
    let took = asked.elapsed();
    assert!(took > DELAY, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_delay_and_sigint_skips_it() {
    for first in [Signal::TERM, Signal::INT] {
        let doorward = doorward("10min", |_| {}).await;
        doorward.signal(first);
        says(&doorward, "draining").await;
        let started = Instant::now();
        let status = match first {
            Signal::TERM => doorward.stop().await.1,
            _ => doorward.end().await.1,
        };
        assert!(status.success());
        assert!(started.elapsed() < PATIENCE);
    }
}

/// The frame of a gRPC message with a login.
fn login() -> Bytes {
    let http = HttpRequest {
        method: "POST".into(),
        path: "/login".into(),
        headers: vec![HeadersEntry {
            key: "authorization".into(),
            value: basic(BOB.0, BOB.1).into(),
        }],
        ..HttpRequest::default()
    };
    let check = CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(check.encoded_len().try_into().unwrap());
    check.encode(&mut message).unwrap();
    message.freeze()
}

async fn call(sender: SendRequest<Bytes>) -> Result<CheckResponse, h2::Error> {
    let request = Request::post("http://doorward/envoy.service.auth.v3.Authorization/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut body) = sender.ready().await?.send_request(request, false)?;
    body.send_data(login(), true)?;
    let mut body = response.await?.into_body();
    let mut message = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        message.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    Ok(CheckResponse::decode(&message[5..]).unwrap())
}

/// Connects; gives the sender for calls and the task with the result of the connection.
async fn connect(doorward: &Doorward) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(doorward.grpc).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_are_answered_before_a_connection_ends() {
    let doorward = doorward("0s", |_| {}).await;
    let (sender, connection) = connect(&doorward).await;
    call(sender.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let calls: Vec<_> = (0..12)
        .map(|_| tokio::spawn(call(sender.clone())))
        .collect();
    // All calls have started when the last one is in the queue.
    until("the calls are in flight", PATIENCE, async || {
        doorward
            .log()
            .iter()
            .any(|line| line["fields"]["message"] == "issue")
            .then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    doorward.signal(Signal::TERM);
    for call in calls {
        let answer = call
            .await
            .unwrap()
            .expect("an answer before the connection ends");
        let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
            panic!("Doorward did not answer the login");
        };
        assert_eq!(denied.status.unwrap().code, 200);
    }
    // GOAWAY without an error and then the end of the connection; new calls fail.
    connection.await.unwrap().expect("an end without an error");
    assert!(call(sender).await.is_err(), "the connection has ended");
    let (_home, status) = doorward.end().await;
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stay_open_are_dropped_at_the_deadline() {
    let doorward = doorward("0s", |settings| {
        settings.env("DOORWARD_SHUTDOWN__DEADLINE", "1s");
    })
    .await;
    // Opens HTTP/2 and then sends nothing, not even an answer to a ping.
    let mut deaf = TcpStream::connect(doorward.grpc).await.unwrap();
    deaf.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        .await
        .unwrap();
    // Starts a request and never finishes it.
    let mut slow = TcpStream::connect(doorward.http).await.unwrap();
    slow.write_all(b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
    // Sends nothing.
    let silent = TcpStream::connect(doorward.grpc).await.unwrap();
    assert_eq!(
        send(doorward.http, "GET", "/validate", &[], "")
            .await
            .status,
        401
    );
    let asked = Instant::now();
    doorward.signal(Signal::TERM);
    says(&doorward, "ended with connections still open").await;
    let (_home, status) = doorward.end().await;
    assert!(status.success(), "{status}");
    let took = asked.elapsed();
    assert!(
        (Duration::from_secs(1)..PATIENCE).contains(&took),
        "{took:?}"
    );
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{rest:?}");
    drop((deaf, silent));
}

/// How often replicas are restarted: a few times by default, more with `make soak`.
fn restarts() -> u32 {
    env::var("DOORWARD_SOAK_RESTARTS").map_or(4, |text| text.parse().expect("a number of restarts"))
}

/// The number of requests, and the answers other than 200.
#[derive(Default)]
struct Tally {
    ended: AtomicBool,
    passed: AtomicU64,
    logins: AtomicU64,
    failed: Mutex<Vec<String>>,
}

async fn load(edge: std::net::SocketAddr, bearer: String, tally: Arc<Tally>) {
    let credentials = basic(BOB.0, BOB.1);
    for round in 0_u64.. {
        if tally.ended.load(Ordering::Relaxed) {
            return;
        }
        let (method, path, authorization, count) = match round % 50 {
            49 => ("POST", "/login", &credentials, &tally.logins),
            _ => ("GET", "/orders", &bearer, &tally.passed),
        };
        let headers = [("authorization", &**authorization)];
        match try_send(edge, method, path, &headers, "").await {
            Ok(reply) if reply.status == 200 => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            other => (tally.failed.lock().unwrap()).push(format!("{method} {path}: {other:?}")),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_restarted_in_turn_lose_no_request() {
    let database = Database::<Sqlite>::start().await;
    let addresses = [own_address(), own_address()];
    let mut replicas = Vec::new();
    for address in addresses {
        let env = database.env();
        let home = Doorward::prepare(|settings| {
            settings
                .envs(env)
                .env("JWT_SECRET", "2b7e151628aed2a6abf7158809cf4f3c")
                .env("DOORWARD_LISTEN__GRPC", address.to_string())
                .env("DOORWARD_LISTEN__CONNECTION_AGE", "5s")
                .env("DOORWARD_SHUTDOWN__DELAY", "1s");
        });
        home.run(&["migrate"], "").await.ok();
        if replicas.is_empty() {
            home.add_user(BOB.0, BOB.1, &[]).await;
        }
        replicas.push(home.serve().await);
    }
    let service = Service::start().await;
    let mut config = EnvoyConfig::file("envoy-replicas.yaml")
        .free_ports()
        .service(service.address)
        // Like in the file, but five times as fast.
        .replace("interval: 1s", "interval: 0.2s");
    for (written, address) in ["127.0.0.2", "127.0.0.3"].into_iter().zip(addresses) {
        config = config.replace(
            &format!("address: {written}, port_value: 9001"),
            &format!("address: {}, port_value: {}", address.ip(), address.port()),
        );
    }
    let envoy = Envoy::start(Envoy::NEWEST, &config).await;
    let healthy = async || {
        until("Envoy knows both", PATIENCE, async || {
            let clusters = envoy.ask("/clusters").await;
            let flags = |address: &std::net::SocketAddr| {
                let line = format!("doorward::{address}::health_flags::healthy");
                clusters.text().lines().any(|own| own == line)
            };
            addresses.iter().all(flags).then_some(())
        })
        .await;
    };
    healthy().await;
    let bearer = Front::login_directly(&replicas[0], BOB).await;
    let tally = Arc::new(Tally::default());
    let crowd: Vec<_> = (0..8)
        .map(|_| tokio::spawn(load(envoy.edge, bearer.clone(), Arc::clone(&tally))))
        .collect();
    let restarts = restarts();
    for restart in 0..restarts {
        let ends = replicas.remove(0);
        let (home, status) = ends.stop().await;
        assert!(status.success());
        replicas.push(home.serve().await);
        healthy().await;
        let failed = tally.failed.lock().unwrap().clone();
        if restarts > 4 {
            eprintln!(
                "{} of {restarts} restarts: {} passed, {} logins, {} failed",
                restart + 1,
                tally.passed.load(Ordering::Relaxed),
                tally.logins.load(Ordering::Relaxed),
                failed.len()
            );
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
    tally.ended.store(true, Ordering::Relaxed);
    for one in crowd {
        one.await.unwrap();
    }
    let failed = tally.failed.lock().unwrap().clone();
    assert!(failed.is_empty(), "{failed:#?}");
    let (passed, logins) = (
        tally.passed.load(Ordering::Relaxed),
        tally.logins.load(Ordering::Relaxed),
    );
    eprintln!("{restarts} restarts: {passed} passed, {logins} logins, none failed");
    assert!(passed > 100 * u64::from(restarts) && logins > u64::from(restarts));
}

/// `make soak` runs the same test with enough restarts to be convincing.
#[test]
fn make_soak_runs_the_test_above() {
    let makefile = fs::read_to_string(crate::harness::repository().join("Makefile")).unwrap();
    assert!(makefile.contains(
        "DOORWARD_SOAK_RESTARTS=100 cargo test --test e2e -- --nocapture replicas_that_are_restarted_in_turn_lose_no_request"
    ));
}
