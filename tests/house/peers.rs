//! What a peer can do at the ports before it is asked whether it is trusted, and what trusted ones are spared of it.

use std::{fs, net::SocketAddr, time::Duration};

use bytes::Bytes;
use doorward::wire::envoy::service::auth::v3::{CheckResponse, check_response::HttpResponse};
use hyper::Request;
use prost::Message as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
};

use crate::{
    harness::{Doorward, Settings},
    http2::{self, CHECK, DATA, END_STREAM, Ended, HEALTH, call, frame, message, preface},
};

/// A peer that is no gateway; gateways are at 127.0.0.2.
const STRANGER: [u8; 4] = [127, 0, 0, 3];

async fn doorward(choose: impl FnOnce(&mut Settings)) -> Doorward {
    Doorward::start(|settings| {
        settings.env("DOORWARD_TRUSTED_PROXIES", "127.0.0.2");
        choose(settings);
    })
    .await
}

/// A connection from an address of this machine.
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

/// The health of Doorward, as a probe asks for it.
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

/// What a call without a body is answered with.
async fn ask(stream: &mut TcpStream, id: u32, path: &str) -> Vec<u8> {
    stream.write_all(&call(id, path)).await.unwrap();
    match http2::ended(stream, id).await {
        Ended::Answered(body) => body,
        other @ (Ended::Reset(_) | Ended::Closed) => panic!("{path}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_trusted_is_answered_about_health_alone() {
    let doorward = doorward(|_| {}).await;
    let mut stream = from(STRANGER, doorward.grpc).await;
    stream.write_all(&preface()).await.unwrap();
    assert_eq!(health(&mut stream, 1).await, ServingStatus::Serving);
    // Denied before a byte of the body has come.
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
    let doorward = doorward(|_| {}).await;
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
                // It may have been answered already.
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
    assert_eq!(answered, 100, "each is denied at once");
    connection.abort();
}
