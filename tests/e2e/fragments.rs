//! The HTTP library cuts the request target of `/auth/envoy` at `#`, so Envoy must refuse such a target itself.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    edges::Edge,
    harness::{Envoy, Gateway, Service, send_bytes},
};

const RULES: &str = "
    [log]
    level = 'debug'
    [[route]]
    path = '/login'
    allow = 'login'
    [[route]]
    path = '/public/*'
    allow = 'public'
    [[route]]
    path = '/admin/*'
    allow = 'role:admin'
";

const TARGETS: [&str; 6] = [
    "/public#/../admin",
    "/public/#",
    "/public#",
    "/public?x#y",
    "/public#?",
    "/public/#/admin",
];

/// Asks over HTTP/2, frame by frame, because no library sends such a target. Gives the status if it is 200 or 400.
async fn over_http2(edge: SocketAddr, target: &str) -> Option<u16> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(4, target), (1, "www.example.com")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    sent.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    sent.extend(block);
    let answer = async {
        let mut stream = TcpStream::connect(edge).await.ok()?;
        stream.write_all(&sent).await.ok()?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.ok()?;
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.ok()?;
            match (head[3], payload.first()) {
                // HEADERS begins with `:status`, which is 200 or 400 by an index of the static table (RFC 7541, A).
                (1, Some(0x88)) => return Some(200),
                (1, Some(0x8c)) => return Some(400),
                // RST_STREAM or GOAWAY.
                (3 | 7, _) => return None,
                _ => {}
            }
        }
    };
    timeout(Duration::from_secs(10), answer).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_refuses_a_target_with_a_fragment_by_itself() {
    let edges = [
        Edge::Grpc(Envoy::OLDEST),
        Edge::Grpc(Envoy::NEWEST),
        Edge::Http(Gateway::OldestEnvoy),
        Edge::Http(Gateway::NewestEnvoy),
    ];
    join_all(edges.map(refuses)).await;
}

async fn refuses(edge: Edge) {
    let service = Service::start().await;
    let setup = edge.open(RULES, service.address, |text| text).await;
    let over_http1 = async |target: &str| {
        let request =
            format!("GET {target} HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n");
        let answer = send_bytes(setup.edge, request.as_bytes()).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(over_http1("/public").await, "200", "{edge:?}");
    assert_eq!(
        over_http2(setup.edge, "/public").await,
        Some(200),
        "{edge:?}"
    );
    assert_eq!(service.requests(), 2, "{edge:?}");
    setup
        .doorward
        .logged("a pass", |line| line["fields"]["reason"] == "anonymous")
        .await;
    let asked = || {
        let lines = setup.doorward.log().into_iter();
        lines
            .filter(|line| !line["fields"]["reason"].is_null())
            .count()
    };
    let before = asked();
    for target in TARGETS {
        assert_eq!(over_http1(target).await, "400", "{edge:?} {target}");
        let status = over_http2(setup.edge, target).await;
        assert_ne!(status, Some(200), "{edge:?} {target}");
    }
    assert_eq!(service.requests(), 2, "{edge:?}");
    // A later request is logged, but the requests in between are not, because Envoy did not ask Doorward about
    // them.
    assert_eq!(over_http1("/admin").await, "401", "{edge:?}");
    setup
        .doorward
        .logged("a denial", |line| {
            line["fields"]["reason"] == "missing-token"
        })
        .await;
    assert_eq!(asked(), before + 1, "{edge:?}\n{}", setup.doorward.output());
}
