//! What a peer can do at the ports before Doorward checks its trust, and how trusted peers are protected from it.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration};

use bytes::Bytes;
use doorward::doors::wire::envoy::service::auth::v3::{
    CheckResponse, check_response::HttpResponse,
};
use hyper::Request;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use crate::{
    front::{BOB, basic, question},
    harness::{Doorward, PATIENCE, Settings, send, until},
    http2::{
        self, CHECK, DATA, END_STREAM, Ended, HEALTH, PING, RST_STREAM, SETTINGS, call, frame,
        message, preface,
    },
    tls::certificate,
};

/// A gateway, a peer that sends health checks, and an untrusted peer.
const TRUSTED: [u8; 4] = [127, 0, 0, 2];
const PROBE: [u8; 4] = [127, 0, 0, 4];
const STRANGER: [u8; 4] = [127, 0, 0, 3];

async fn doorward(choose: impl FnOnce(&mut Settings)) -> Doorward {
    Doorward::start(|settings| {
        settings.env("DOORWARD_TRUSTED_PROXIES", "127.0.0.2");
        choose(settings);
    })
    .await
}

/// Connects from an address of this machine.
async fn from(address: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Resident memory, in bytes.
fn memory(doorward: &Doorward) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", doorward.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.unwrap().trim().trim_end_matches(" kB");
    kibibytes.parse::<u64>().unwrap() * 1024
}

/// Sends a health check and gives its result.
async fn health(stream: &mut TcpStream, id: u32) -> ServingStatus {
    let question = message(&HealthCheckRequest::default().encode_to_vec());
    let question = frame(DATA, END_STREAM, id, &question);
    stream
        .write_all(&[call(id, HEALTH), question].concat())
        .await
        .unwrap();
    let Ended::Answered(body) = http2::ended(stream, id).await else {
        panic!("no answer");
    };
    HealthCheckResponse::decode(&body[5..]).unwrap().status()
}

/// The answer to a call without a body.
async fn ask(stream: &mut TcpStream, id: u32, path: &str) -> Vec<u8> {
    stream.write_all(&call(id, path)).await.unwrap();
    match http2::ended(stream, id).await {
        Ended::Answered(body) => body,
        other @ (Ended::Reset(_) | Ended::Closed) => panic!("{path}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_peer_gets_only_health_answers() {
    let doorward = doorward(|_| {}).await;
    let mut stream = from(STRANGER, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    assert_eq!(health(&mut stream, 1).await, ServingStatus::Serving);
    // Denied before any byte of the body has arrived.
    let answer = ask(&mut stream, 3, CHECK).await;
    let answer = CheckResponse::decode(&answer[5..]).unwrap();
    assert_ne!(answer.status.unwrap().code, 0);
    let Some(HttpResponse::DeniedResponse(denied)) = answer.http_response else {
        panic!("not a denial");
    };
    assert_eq!(denied.status.unwrap().code, 403);
    for (id, path) in [
        (5, "/grpc.health.v1.Health/Watch"),
        (
            7,
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ),
        (9, "/x"),
    ] {
        assert_eq!(ask(&mut stream, id, path).await, b"", "{path}");
    }
    assert_eq!(health(&mut stream, 11).await, ServingStatus::Serving);
    let line = doorward
        .logged("a stranger", |line| {
            line["fields"]["reason"] == "untrusted-peer"
        })
        .await;
    assert_eq!(line["fields"]["client"], "127.0.0.3");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_half_sent_hold_no_memory() {
    let doorward = doorward(|settings| {
        settings.env("DOORWARD_LOGIN__HASH_THREADS", "1");
    })
    .await;
    doorward.home().add_user(BOB.0, BOB.1, &[]).await;
    // Hashing has allocated its memory by then.
    gateway_works(&doorward).await;
    let before = memory(&doorward);
    let stream = from(STRANGER, doorward.grpc).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let whole = Bytes::from(message(&vec![b'x'; 4 << 20]));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (sender, half) = (sender.clone(), whole.slice(..whole.len() - 1));
            tokio::spawn(async move {
                let request = Request::post(format!("http://doorward{CHECK}"));
                let request = request.body(()).unwrap();
                let mut sender = sender.ready().await?;
                let (response, mut body) = sender.send_request(request, false)?;
                // The call may have been answered already.
                let _ = body.send_data(half, false);
                response.await
            })
        })
        .collect();
    let mut answered = 0;
    for call in calls {
        let ended = timeout(Duration::from_secs(5), call).await;
        answered += usize::from(matches!(ended, Ok(Ok(Ok(_)))));
        assert!(memory(&doorward) < before + (16 << 20), "{answered}");
    }
    assert_eq!(answered, 100, "each call is denied at once");
    connection.abort();
}

/// A check of a request with this `Authorization` value, as a gRPC message.
fn sent(method: &str, path: &str, authorization: &str) -> Vec<u8> {
    message(&question(method, path, authorization).encode_to_vec())
}

/// Sends a check and gives the response, which must arrive soon.
async fn checked(stream: &mut TcpStream, id: u32, question: &[u8]) -> CheckResponse {
    let check = [call(id, CHECK), frame(DATA, END_STREAM, id, question)].concat();
    stream.write_all(&check).await.unwrap();
    let ended = timeout(Duration::from_secs(10), http2::ended(stream, id)).await;
    let Ok(Ended::Answered(body)) = ended else {
        panic!("{ended:?}");
    };
    CheckResponse::decode(&body[5..]).unwrap()
}

/// Asserts that a gateway logs a user in and that a request of the user passes.
async fn gateway_works(doorward: &Doorward) {
    let mut stream = from(TRUSTED, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    let login = sent("POST", "/login", &basic(BOB.0, BOB.1));
    let login = checked(&mut stream, 1, &login).await;
    let Some(HttpResponse::DeniedResponse(answer)) = login.http_response else {
        panic!("not answered");
    };
    assert_eq!(answer.status.unwrap().code, 200);
    let bearer = format!("Bearer {}", str::from_utf8(&answer.body).unwrap());
    let pass = checked(&mut stream, 3, &sent("GET", "/x", &bearer)).await;
    assert_eq!(pass.status.unwrap().code, 0);

    let forward = "GET /auth/forward HTTP/1.1\r\nhost: x\r\nx-forwarded-method: GET\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\nx-forwarded-uri: /x\r\nconnection: close\r\n";
    let request = format!("{forward}authorization: {bearer}\r\n\r\n");
    let mut stream = from(TRUSTED, doorward.http).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    timeout(Duration::from_secs(10), read)
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Asserts that a health check from an untrusted address is answered.
async fn probe_works(doorward: &Doorward) {
    let mut stream = from(PROBE, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    let healthy = timeout(Duration::from_secs(10), health(&mut stream, 1)).await;
    assert_eq!(healthy, Ok(ServingStatus::Serving));
}

/// The sum of the series at `/metrics` that begin with this text.
async fn number(doorward: &Doorward, series: &str) -> u64 {
    let numbers = send(doorward.ops, "GET", "/metrics", &[], "").await;
    let lines = numbers
        .text()
        .lines()
        .filter(|line| line.starts_with(series));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<u64>().unwrap()).sum()
}

fn closed(door: &str, peer: &str, reason: &str) -> String {
    format!(
        "doorward_connections_closed_total{{door=\"{door}\",peer=\"{peer}\",reason=\"{reason}\"}}"
    )
}

/// Whether the peer closes the connection within this time.
async fn closes(stream: &mut TcpStream, limit: Duration) -> bool {
    let end = async { while http2::read(stream).await.is_some() {} };
    timeout(limit, end).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_strangers_do_not_block_others() {
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_TRUSTED_PROXIES", "127.0.0.2");
    });
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    let mut idle = Vec::new();
    for number in 0..2000_u32 {
        let [_, _, high, low] = (number % 300).to_be_bytes();
        // From 300 addresses, so that the limit per address does not matter.
        for door in [doorward.grpc, doorward.http] {
            idle.push(from([127, 0, 1 + high, low.max(1)], door).await);
        }
    }
    gateway_works(&doorward).await;
    probe_works(&doorward).await;
    let open = number(&doorward, "doorward_connections{door=\"grpc\"}").await;
    assert!(open <= 70, "{open}");
    let open = number(&doorward, "doorward_connections{door=\"http\"}").await;
    assert!(open <= 1005, "{open}");
    for (door, least) in [("grpc", 1900), ("http", 900)] {
        let refused = number(&doorward, &closed(door, "other", "full")).await
            + number(&doorward, &closed(door, "other", "address-full")).await;
        assert!(refused >= least, "{door}: {refused}");
        assert_eq!(number(&doorward, &closed(door, "trusted", "full")).await, 0);
    }
    let said = "a connection was closed: there are too many";
    let lines = doorward.log();
    let lines = lines
        .iter()
        .filter(|line| line["fields"]["message"] == said)
        .count();
    assert!((1..100).contains(&lines), "{lines}");
    drop(idle);
}

/// If few files may be open, untrusted peers cannot take all of them.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_exhaust_file_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let few = dir.path().join("doorward");
    let binary = env!("CARGO_BIN_EXE_doorward");
    let script = format!("#!/bin/sh\nulimit -n 200\nexec {binary} \"$@\"\n");
    fs::write(&few, script).unwrap();
    fs::set_permissions(&few, fs::Permissions::from_mode(0o755)).unwrap();
    let home = Doorward::prepare(|settings| {
        settings
            .binary(few)
            .env("DOORWARD_TRUSTED_PROXIES", "127.0.0.2");
    });
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    let mut idle = Vec::new();
    for number in 0..200 {
        for door in [doorward.grpc, doorward.http, doorward.ops] {
            idle.push(from([127, 0, 1, 1 + number], door).await);
        }
    }
    gateway_works(&doorward).await;
    probe_works(&doorward).await;
    assert_eq!(
        send(doorward.ops, "GET", "/livez", &[], "").await.status,
        200
    );
    drop(idle);
}

/// An address gets a limited share of connections: the gRPC port keeps the newest ones, the HTTP port the oldest.
#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_a_limited_share() {
    const SOON: Duration = Duration::from_secs(3);
    for with_tls in [false, true] {
        let home = Doorward::prepare(|settings| {
            settings
                .env("DOORWARD_TRUSTED_PROXIES", "127.0.0.2, 127.0.0.5")
                .env("DOORWARD_LISTEN__MAX_CONNECTIONS", "16")
                .env("DOORWARD_LISTEN__MAX_UNTRUSTED_CONNECTIONS", "16");
            if with_tls {
                settings
                    .env("DOORWARD_LISTEN__TLS_CERTIFICATE", "tls.crt")
                    .env("DOORWARD_LISTEN__TLS_KEY", "tls.key");
            }
        });
        if with_tls {
            certificate(home.dir(), "tls.crt", "tls.key");
        }
        let doorward = home.serve().await;
        let (grpc, http, ops) = (doorward.grpc, doorward.http, doorward.ops);
        for (address, door, share, closes_oldest) in [
            (TRUSTED, grpc, 8, false),
            (TRUSTED, http, 8, false),
            (STRANGER, grpc, 8, true),
            (STRANGER, http, 4, false),
            (STRANGER, ops, 16, true),
        ] {
            let mut open = Vec::new();
            for _ in 0..share {
                open.push(from(address, door).await);
            }
            let mut one_more = from(address, door).await;
            let (closed, stays) = match closes_oldest {
                true => (&mut open[0], &mut one_more),
                false => (&mut one_more, &mut open[0]),
            };
            assert!(closes(closed, SOON).await, "{address:?} {door}");
            assert!(!closes(stays, Duration::from_millis(200)).await);
            let mut other = from([address[0], 0, 0, 5], door).await;
            assert!(!closes(&mut other, Duration::from_millis(200)).await);
        }
        assert_eq!(send(ops, "GET", "/livez", &[], "").await.status, 200);
    }
}

/// Doorward checks trust at every call, also on existing connections.
#[tokio::test(flavor = "multi_thread")]
async fn changed_trust_applies_to_open_connections() {
    let home = Doorward::prepare(|settings| {
        settings.toml("trusted_proxies = ['127.0.0.2']\n");
    });
    let file = home.dir().join("doorward.toml");
    let doorward = home.serve().await;
    let mut stream = from(TRUSTED, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    let asked = sent("GET", "/x", "Bearer x");
    let status = |answer: CheckResponse| match answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied.status.unwrap().code,
        Some(HttpResponse::OkResponse(_)) | None => 200,
    };
    assert_eq!(status(checked(&mut stream, 1, &asked).await), 401);
    fs::write(&file, "trusted_proxies = ['127.0.0.3']\n").unwrap();
    let mut id = 3;
    until("the peer is no longer trusted", PATIENCE, async || {
        id += 2;
        (status(checked(&mut stream, id, &asked).await) == 403).then_some(())
    })
    .await;
    let mut stream = from(STRANGER, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    assert_eq!(status(checked(&mut stream, 1, &asked).await), 401);
}

/// Doorward closes connections on which a peer sends nothing or an incomplete call.
#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed() {
    let doorward = doorward(|_| {}).await;
    let question = message(&HealthCheckRequest::default().encode_to_vec());
    let begun = [
        &preface()[..],
        &call(1, HEALTH),
        &frame(DATA, 0, 1, &question[..3]),
    ]
    .concat();
    let mut waiting = Vec::new();
    for (address, bytes, seconds) in [
        (STRANGER, Vec::new(), 10),
        (STRANGER, preface(), 10),
        (STRANGER, begun, 15),
        (TRUSTED, Vec::new(), 35),
        (TRUSTED, preface(), 35),
    ] {
        let mut stream = from(address, doorward.grpc).await;
        stream.write_all(&bytes).await.unwrap();
        let limit = Duration::from_secs(seconds);
        waiting.push(tokio::spawn(async move {
            assert!(closes(&mut stream, limit).await, "{address:?} {bytes:?}");
        }));
    }
    for one in waiting {
        one.await.unwrap();
    }
    let silent = number(&doorward, &closed("grpc", "other", "silent")).await;
    assert_eq!(silent, 2);
    let silent = number(&doorward, &closed("grpc", "trusted", "silent")).await;
    assert_eq!(silent, 2);
}

/// A gateway's call whose body does not arrive ends; its connection does not.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_calls_end() {
    let doorward = doorward(|_| {}).await;
    let mut stream = from(TRUSTED, doorward.grpc).await;
    let bytes = [preface(), call(1, HEALTH), frame(DATA, 0, 1, &[0])].concat();
    stream.write_all(&bytes).await.unwrap();
    let ended = timeout(Duration::from_secs(15), http2::ended(&mut stream, 1)).await;
    assert!(matches!(ended, Ok(Ended::Answered(_) | Ended::Reset(_))));
    assert_eq!(health(&mut stream, 3).await, ServingStatus::Serving);
}

/// Whether Doorward closes a connection on which this frame is sent again and again.
async fn is_ended(address: [u8; 4], doorward: &Doorward, frame: &[u8]) -> bool {
    let mut stream = from(address, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let end = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    });
    let many = frame.repeat(1000);
    for _ in 0..200 {
        if writer.write_all(&many).await.is_err() {
            return true;
        }
    }
    timeout(Duration::from_secs(3), end).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_end_only_their_connection() {
    let home = Doorward::prepare(|settings| {
        settings.env("DOORWARD_TRUSTED_PROXIES", "127.0.0.2");
    });
    home.add_user(BOB.0, BOB.1, &[]).await;
    let doorward = home.serve().await;
    let mut beside = from(TRUSTED, doorward.grpc).await;
    beside.write_all(&preface()).await.unwrap();
    let mut id = 1;
    for (what, flood) in [
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("PING acknowledged", frame(PING, 1, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("unknown", frame(0x2a, 0, 0, &[])),
        ("unknown and long", frame(0x2a, 0, 0, &[7; 100])),
    ] {
        for (address, peer) in [(STRANGER, "other"), (TRUSTED, "trusted")] {
            let series = closed("grpc", peer, "flood");
            let before = number(&doorward, &series).await;
            assert!(is_ended(address, &doorward, &flood).await, "{what} {peer}");
            until("it is counted", PATIENCE, async || {
                (number(&doorward, &series).await > before).then_some(())
            })
            .await;
            assert_eq!(health(&mut beside, id).await, ServingStatus::Serving);
            id += 2;
        }
    }
    // Calls that are reset at once, from a peer that may make no calls.
    let resets = (0..20_000).flat_map(|number| {
        let id = 2 * number + 1;
        let reset = frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
        [call(id, HEALTH), reset].concat()
    });
    let resets: Vec<u8> = resets.collect();
    let mut stream = from(STRANGER, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    let _ = stream.write_all(&resets).await;
    assert!(closes(&mut stream, Duration::from_secs(3)).await);
    doorward
        .logged("a flood", |line| {
            line["fields"]["message"] == "a connection was closed: it sent a flood of HTTP/2 frames"
        })
        .await;
    gateway_works(&doorward).await;
}

/// A busy gateway is not a flood, whatever frames accompany its calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_connection_stays() {
    let doorward = doorward(|_| {}).await;
    let mut stream = from(TRUSTED, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    let question = sent("GET", "/x", "");
    for number in 0..3000 {
        let id = 2 * number + 1;
        let besides = [
            frame(8, 0, 0, &[0, 0, 1, 0]),
            frame(PING, 0, 0, &[7; 8]),
            frame(PING, 1, 0, &[7; 8]),
        ];
        stream.write_all(&besides.concat()).await.unwrap();
        let answer = checked(&mut stream, id, &question).await;
        assert_ne!(answer.status.unwrap().code, 0);
    }
    let floods = number(&doorward, &closed("grpc", "trusted", "flood")).await;
    assert_eq!(floods, 0);
}
