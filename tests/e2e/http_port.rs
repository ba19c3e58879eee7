//! The HTTP port without a proxy: its own routes, limits, and refusals.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    front::{ADA, BOB, basic, log_in, tampered},
    harness::{Doorward, Reply, send, send_bytes},
};

async fn setup() -> Doorward {
    let doorward = Doorward::start(|_| {}).await;
    doorward.add_user(ADA.0, ADA.1, &["--admin"]).await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    doorward
}

async fn post(doorward: &Doorward, content_type: &str, body: impl Into<String>) -> Reply {
    let headers = [("content-type", content_type)];
    send(doorward.http, "POST", "/login", &headers, body.into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_basic_json_or_form() {
    let doorward = setup().await;
    let credentials = basic(BOB.0, BOB.1);
    let reply = send(
        doorward.http,
        "POST",
        "/login",
        &[("authorization", &credentials)],
        "",
    )
    .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let bearer = reply.header("authorization").unwrap().to_owned();
    assert_eq!(bearer, format!("Bearer {}", reply.text()));
    assert_eq!(reply.header("cache-control"), Some("no-store"));

    let login = json!({"username": BOB.0, "password": BOB.1}).to_string();
    assert_eq!(post(&doorward, "application/json", login).await.status, 200);
    let form = format!("username={}&password={}", BOB.0, BOB.1);
    assert_eq!(
        post(&doorward, "application/x-www-form-urlencoded", form.clone())
            .await
            .status,
        200
    );
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "application/json"),
    ];
    let reply = send(doorward.http, "POST", "/login", &headers, form).await;
    assert_eq!(reply.json()["token_type"], "Bearer");

    for (content_type, body, status, text) in [
        ("application/json", "{}", 400, "username: missing"),
        (
            "application/json",
            "{\"username\":\"bob\",\"password\":7}",
            400,
            "password: must be a string",
        ),
        (
            "application/x-www-form-urlencoded",
            "username=bob",
            400,
            "password: missing",
        ),
        (
            "application/x-www-form-urlencoded",
            "username=bob&password=wrong",
            401,
            "Invalid credentials",
        ),
        (
            "text/plain",
            "username=bob&password=wrong",
            401,
            "Missing credentials",
        ),
    ] {
        let reply = post(&doorward, content_type, body).await;
        assert_eq!((reply.status, reply.text()), (status, text), "{body}");
        assert!(
            reply.status != 401
                || reply
                    .header("www-authenticate")
                    .is_some_and(|c| c.starts_with("Basic"))
        );
    }
    for method in ["GET", "PUT", "OPTIONS"] {
        let reply = send(
            doorward.http,
            method,
            "/login",
            &[("authorization", &credentials)],
            "",
        )
        .await;
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
    for path in [
        "/",
        "/login/",
        "/Login",
        "/auth",
        "/auth/",
        "/auth/envoy",
        "/auth/other",
        "/metrics",
    ] {
        assert_eq!(
            send(doorward.http, "POST", path, &[], "").await.status,
            404,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_answers_as_the_service_it_replaces() {
    let doorward = setup().await;
    let bearer = &*log_in(doorward.http, ADA).await;
    for method in ["GET", "POST"] {
        let ask = async |headers: &[(&str, &str)]| {
            send(doorward.http, method, "/validate", headers, "").await
        };
        let good = ask(&[("authorization", bearer)]).await;
        assert_eq!(
            (good.status, good.header("content-type")),
            (200, Some("application/json"))
        );
        let claims = good.json();
        assert_eq!(
            (&claims["username"], &claims["admin"]),
            (&json!("ada"), &json!(true))
        );
        assert!(claims["exp"].as_u64().unwrap() > claims["iat"].as_u64().unwrap());

        let nothing = ask(&[]).await;
        assert_eq!(
            (nothing.status, nothing.text()),
            (401, "Missing credentials")
        );
        assert!(nothing.header("www-authenticate").is_some());
        let forged = tampered(bearer);
        for (value, reason) in [
            (&*forged, "token-signature"),
            ("Bearer", "malformed-authorization"),
            ("Bearer a b", "malformed-authorization"),
            ("token-without-scheme", "malformed-authorization"),
            (&*basic(ADA.0, ADA.1), "malformed-authorization"),
            ("", "malformed-authorization"),
        ] {
            let refused = ask(&[("authorization", value)]).await;
            assert_eq!(
                (refused.status, refused.text()),
                (403, "Not authorized"),
                "{value}"
            );
            assert_eq!(refused.header("x-auth-reason"), Some(reason), "{value}");
        }
        let two = ask(&[("authorization", bearer), ("authorization", bearer)]).await;
        assert_eq!(two.status, 403);
    }
    let put = send(
        doorward.http,
        "PUT",
        "/validate",
        &[("authorization", bearer)],
        "",
    )
    .await;
    assert_eq!((put.status, put.header("allow")), (405, Some("GET, POST")));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_limits_are_refused_and_others_answered() {
    let doorward = setup().await;
    let long = format!("{{\"username\":\"{}\"}}", "x".repeat(8000));
    let reply = post(&doorward, "application/json", long.clone()).await;
    assert_eq!(reply.status, 413);
    let chunked = format!(
        "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let answer = send_bytes(doorward.http, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Announced, and never sent.
    let head = "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999999999\r\nconnection: close\r\n\r\n";
    let answer = send_bytes(doorward.http, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let huge = format!(
        "GET /validate HTTP/1.1\r\nhost: x\r\nx-big: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let answer = send_bytes(doorward.http, huge.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many = (0..200)
        .map(|n| format!("x-{n}: 1\r\n"))
        .collect::<String>();
    let answer = send_bytes(
        doorward.http,
        format!("GET /validate HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );

    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client that speaks TLS\r\n\r\n"[..],
        b"GET / HTTP/1.1\nhost\n\n",
        b"GET /validate HTTP/1.1\r\nhost: x\r\nbad header: y\r\n\r\n",
        b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = send_bytes(doorward.http, garbage).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let credentials = basic(BOB.0, BOB.1);
    let reply = send(
        doorward.http,
        "POST",
        "/login",
        &[("authorization", &credentials)],
        "",
    )
    .await;
    assert_eq!(reply.status, 200);
}

/// A thousand clients that send one byte at a time delay nobody.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_delay_nobody_and_are_dropped() {
    let doorward = setup().await;
    let mut slow = Vec::new();
    for n in 0..1000 {
        let mut stream = TcpStream::connect(doorward.http).await.unwrap();
        let start: &[u8] = if n % 2 == 0 {
            b"GET /validate HTTP/1.1\r\nho"
        } else {
            b""
        };
        stream.write_all(start).await.unwrap();
        slow.push(stream);
    }
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(
            send(doorward.http, "GET", "/validate", &[], "")
                .await
                .status,
            401
        );
    }
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    // A body that arrives slowly.
    let mut trickle = TcpStream::connect(doorward.http).await.unwrap();
    let head = b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    trickle.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, trickle.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    let is_told = |line: &serde_json::Value| line["fields"]["reason"] == "slow-body";
    doorward.logged("a body that trickles", is_told).await;
    // The slow clients keep sending bytes, and their connections are closed nevertheless.
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut first = slow.swap_remove(0);
    let mut rest = Vec::new();
    while Instant::now() < deadline {
        if first.write_all(b"s").await.is_err() {
            return;
        }
        let read = first.read_to_end(&mut rest);
        if tokio::time::timeout(Duration::from_secs(1), read)
            .await
            .is_ok()
        {
            return;
        }
    }
    panic!("a client that sends one byte per second still has its connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_gateways_may_ask() {
    let doorward = Doorward::start(|settings| {
        settings.env("DOORWARD_TRUSTED_PROXIES", "192.0.2.0/24");
    })
    .await;
    let headers = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-uri", "/x"),
    ];
    assert_eq!(
        send(doorward.http, "GET", "/auth/forward", &headers, "")
            .await
            .status,
        403
    );
    let line = doorward
        .logged("a stranger", |line| {
            line["fields"]["reason"] == "untrusted-peer"
        })
        .await;
    assert_eq!(line["fields"]["client"], "127.0.0.1");

    for key in ["DOORWARD_LISTEN__HTTP", "DOORWARD_LISTEN__GRPC"] {
        let home = Doorward::prepare(|settings| {
            settings.env(key, "0.0.0.0:0");
        });
        let ran = home.run(&["serve"], "").await;
        assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        assert!(
            ran.stderr.contains("add the line trusted_proxies = ["),
            "{ran:?}"
        );
    }
    let named = Doorward::start(|settings| {
        settings
            .env("DOORWARD_LISTEN__HTTP", "0.0.0.0:0")
            .env("DOORWARD_TRUSTED_PROXIES", "127.0.0.0/8")
            .env("DOORWARD_CLIENT_ADDRESS", "x-forwarded-for:1");
    })
    .await;
    assert!(
        named.output().contains("answers gateways in 127.0.0.0/8"),
        "{}",
        named.output()
    );
    let headers = [&headers[..], &[("x-forwarded-for", "6.6.6.6, 203.0.113.5")]].concat();
    let address = (std::net::Ipv4Addr::LOCALHOST, named.http.port()).into();
    assert_eq!(
        send(address, "GET", "/auth/forward", &headers, "")
            .await
            .status,
        401
    );
    named
        .logged("the client", |line| {
            line["fields"]["client"] == "203.0.113.5"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_answered_at_a_stop() {
    let doorward = setup().await;
    let http = doorward.http;
    let mut open = TcpStream::connect(http).await.unwrap();
    open.write_all(b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{").await.unwrap();
    assert_eq!(send(http, "GET", "/validate", &[], "").await.status, 401);
    doorward.signal(rustix::process::Signal::TERM);
    doorward
        .logged("the end", |line| line["fields"]["message"] == "draining")
        .await;
    open.write_all(b"}").await.unwrap();
    let mut answer = Vec::new();
    open.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("username: missing"),
        "{answer}"
    );
    let (_, status) = doorward.stop().await;
    assert!(status.success(), "{status}");
}
