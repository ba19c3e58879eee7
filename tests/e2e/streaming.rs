//! Bodies pass while Doorward checks the headers: the check neither delays them nor waits for them.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    front::{BOB, Front},
    harness::{Envoy, PATIENCE, exchange, send, send_bytes, until},
};

const PIECE: usize = 64 * 1024;
const PIECES: usize = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_reaches_the_service_while_it_is_still_being_sent() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, |config| config).await;
        let bob = front.bearer(BOB).await;
        let (pieces, body) = mpsc::channel::<Bytes>(1);
        let body = ReceiverStream::new(body).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let edge = front.envoy.edge;
        let answer = tokio::spawn(async move {
            let headers = [("authorization", &*bob)];
            let response = exchange(edge, "POST", "/upload", &headers, StreamBody::new(body))
                .await
                .unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        });
        pieces.send(vec![b'u'; PIECE].into()).await.unwrap();
        until("the upload is at the service", PATIENCE, async || {
            (front.service.requests() == 1).then_some(())
        })
        .await;
        for _ in 1..PIECES {
            pieces.send(vec![b'u'; PIECE].into()).await.unwrap();
        }
        drop(pieces);
        let answer: serde_json::Value = serde_json::from_slice(&answer.await.unwrap()).unwrap();
        assert_eq!(answer["bytes"], PIECE * PIECES, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_streams_with_the_token() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, |config| config).await;
        let bob = front.bearer(BOB).await;
        let path = format!("/download?bytes={}", PIECE * PIECES);
        let reply = front.send("GET", &path, &[("authorization", &bob)]).await;
        assert_eq!(
            (reply.status, reply.body.len()),
            (200, PIECE * PIECES),
            "{version}"
        );
        assert_eq!(
            send(front.envoy.edge, "GET", &path, &[], "").await.status,
            401
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_an_upload_is_refused_before_its_first_byte() {
    for version in Envoy::VERSIONS {
        let front = Front::open(version, |_| {}, |config| config).await;
        let head = format!(
            "POST /upload HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            PIECE * PIECES
        );
        let answer = send_bytes(front.envoy.edge, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{version}: {answer}");
        assert_eq!(front.service.requests(), 0, "{version}");
    }
}
