//! Checks on one connection, as one worker of Envoy sends them.
//!
//! They use h2 directly, because a gRPC client would need more CPU than the measured server.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use doorward::doors::wire::{
    CONTRACT, SERVICE,
    envoy::service::auth::v3::{CheckResponse, check_response::HttpResponse},
};
use h2::client::SendRequest;
use hyper::{Request, StatusCode};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{BROWSER, HOST, LATE, Load, MOST, PASSWORD, PATH, USER, all};
use crate::harness::basic;

/// Checks on one connection, like one worker of Envoy.
pub struct Checks {
    sender: SendRequest<Bytes>,
    call: Call,
    streams: u16,
}

impl Checks {
    pub async fn open(address: SocketAddr, check: &Bytes, streams: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        // The task ends with the last sender, and the requests report its errors.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            call: Call::new(check)?,
            streams,
        })
    }
}

impl Checks {
    /// Sends checks at a fixed rate, whether or not earlier ones are answered, and returns the latency of each.
    pub async fn steadily(
        &self,
        per_second: u32,
        length: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut asked = JoinSet::new();
        let (start, mut moments) = (Instant::now(), interval(SECOND / per_second));
        moments.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while start.elapsed() < length {
            moments.tick().await;
            let (mut sender, call) = (self.sender.clone(), self.call.clone());
            asked.spawn(async move {
                let start = Instant::now();
                passed(call.make(&mut sender).await?)?;
                anyhow::Ok(start.elapsed())
            });
        }
        all(asked, Duration::ZERO).await
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn passed(answer: CheckResponse) -> anyhow::Result<()> {
    match answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => {
            bail!("a check was refused: {:?}", denied.body)
        }
        _ => Ok(()),
    }
}

impl Load for Checks {
    async fn run(&mut self, length: Duration) -> anyhow::Result<u64> {
        let mut streams = JoinSet::new();
        let end = Instant::now() + length;
        for _ in 0..self.streams {
            let (mut sender, call) = (self.sender.clone(), self.call.clone());
            streams.spawn(async move {
                let mut answers = 0;
                while Instant::now() < end && answers < MOST {
                    passed(call.make(&mut sender).await?)?;
                    answers += 1;
                }
                anyhow::Ok(answers)
            });
        }
        Ok(all(streams, length).await?.into_iter().sum())
    }
}

/// Checks with many tokens on one connection, in turn.
pub struct Crowd {
    checks: Checks,
    around: Around,
    tokens: Arc<[Box<str>]>,
    over_and_over: bool,
}

/// The encoded check before and after the token; all tokens have the same length.
#[derive(Clone)]
struct Around {
    before: Bytes,
    length: usize,
    after: Bytes,
}

impl Crowd {
    /// Shows each token once.
    pub async fn open(
        address: SocketAddr,
        tokens: &[Box<str>],
        streams: u16,
    ) -> anyhow::Result<Self> {
        let token = tokens.first().context("no tokens")?;
        let mut frame = check(token)?;
        let checks = Checks::open(address, &frame, streams).await?;
        let place = frame
            .windows(token.len())
            .position(|part| part == token.as_bytes())
            .context("a check without its token")?;
        let before = frame.split_to(place);
        let around = Around {
            before,
            length: token.len(),
            after: frame.split_off(token.len()),
        };
        let mut crowd = Self {
            checks,
            around,
            tokens: Arc::default(),
            over_and_over: false,
        };
        crowd.show(tokens)?;
        Ok(crowd)
    }

    /// Shows other tokens from now on.
    pub fn show(&mut self, tokens: &[Box<str>]) -> anyhow::Result<()> {
        let length = self.around.length;
        let alike = tokens.iter().all(|token| token.len() == length);
        ensure!(alike, "tokens of several lengths");
        self.tokens = tokens.into();
        Ok(())
    }

    /// Whether a round starts again after the last token, instead of ending.
    pub fn over_and_over(&mut self, over_and_over: bool) {
        self.over_and_over = over_and_over;
    }
}

impl Around {
    fn frame(&self, token: &str) -> Bytes {
        let Self { before, after, .. } = self;
        let mut frame = BytesMut::with_capacity(before.len() + token.len() + after.len());
        frame.extend_from_slice(before);
        frame.extend_from_slice(token.as_bytes());
        frame.extend_from_slice(after);
        frame.freeze()
    }
}

impl Load for Crowd {
    async fn run(&mut self, length: Duration) -> anyhow::Result<u64> {
        let mut streams = JoinSet::new();
        let end = Instant::now() + length;
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..self.checks.streams {
            let (mut sender, mut call) = (self.checks.sender.clone(), self.checks.call.clone());
            let (next, around) = (Arc::clone(&next), self.around.clone());
            let (tokens, over_and_over) = (Arc::clone(&self.tokens), self.over_and_over);
            streams.spawn(async move {
                let mut answers = 0;
                while Instant::now() < end && answers < MOST {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let place = match over_and_over {
                        true => place % tokens.len().max(1),
                        false => place,
                    };
                    let Some(token) = tokens.get(place) else {
                        break;
                    };
                    call.frame = around.frame(token);
                    passed(call.make(&mut sender).await?)?;
                    answers += 1;
                }
                anyhow::Ok(answers)
            });
        }
        Ok(all(streams, length).await?.into_iter().sum())
    }
}

/// One call of `Check` (gRPC over HTTP/2, "Requests").
#[derive(Clone)]
struct Call {
    head: Request<()>,
    frame: Bytes,
}

impl Call {
    fn new(check: &Bytes) -> anyhow::Result<Self> {
        let head = Request::post(format!("http://doorward/{SERVICE}/Check"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "3000m")
            .header("x-envoy-internal", "true")
            .header("x-forwarded-for", "127.0.0.1")
            .body(())?;
        Ok(Self {
            head,
            frame: check.clone(),
        })
    }

    async fn make(&self, sender: &mut SendRequest<Bytes>) -> anyhow::Result<CheckResponse> {
        poll_fn(|context| sender.poll_ready(context)).await?;
        let (response, mut body) = sender.send_request(self.head.clone(), false)?;
        body.send_data(self.frame.clone(), true)?;
        let response = response.await?;
        ensure!(
            response.status() == StatusCode::OK,
            "no gRPC answer: {}",
            response.status()
        );
        let mut body = response.into_body();
        let mut answer = BytesMut::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            answer.extend_from_slice(&data);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let status = trailers.get("grpc-status");
        ensure!(
            status.is_some_and(|status| status == "0"),
            "a gRPC error: {trailers:?}"
        );
        let message = answer.get(PREFIX..).context("an answer cut short")?;
        Ok(CheckResponse::decode(message)?)
    }
}

/// The compression flag and the length before a gRPC message.
const PREFIX: usize = 5;

/// Logs in, and returns the token.
pub async fn log_in(address: SocketAddr) -> anyhow::Result<String> {
    let check = encode("POST", "/login", &basic(USER, PASSWORD))?;
    let mut checks = Checks::open(address, &check, 1).await?;
    let answer = timeout(LATE, checks.call.make(&mut checks.sender)).await??;
    let Some(HttpResponse::DeniedResponse(login)) = answer.http_response else {
        bail!("Doorward has not answered the login itself");
    };
    let login: Value = serde_json::from_slice(&login.body)
        .with_context(|| format!("the login was refused: {:?}", login.body))?;
    let token = login.get("access_token").and_then(Value::as_str);
    Ok(token.context("a login without a token")?.to_owned())
}

/// A check with this token, ready to be sent.
pub fn check(token: &str) -> anyhow::Result<Bytes> {
    encode("GET", PATH, &format!("Bearer {token}"))
}

/// The `CheckRequest` that Envoy 1.40 sends for such a request, with gRPC framing.
fn encode(method: &str, path: &str, authorization: &str) -> anyhow::Result<Bytes> {
    let id = "5f3b1c2d-4e5a-4071-8293-a4b5c6d7e8f9";
    let mut headers = json!({
        ":authority": HOST,
        ":method": method,
        ":path": path,
        ":scheme": "http",
        "authorization": authorization,
        "x-envoy-external-address": "192.0.2.7",
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "http",
        "x-request-id": id,
    });
    if let Value::Object(headers) = &mut headers {
        headers.extend(BROWSER.map(|(name, value)| (name.into(), value.into())));
    }
    let peer = |port: u16| json!({ "address": { "socketAddress": { "address": "127.0.0.1", "portValue": port } } });
    let check = json!({
        "attributes": {
            "source": peer(40_000),
            "destination": peer(8080),
            "request": {
                "time": "2026-01-01T00:00:00.123456Z",
                "http": {
                    "id": "1234567890123456789",
                    "method": method,
                    "headers": headers,
                    "path": path,
                    "host": HOST,
                    "scheme": "http",
                    "protocol": "HTTP/1.1",
                },
            },
            "metadataContext": {},
            "routeMetadataContext": {},
        },
    });
    let contract = DescriptorPool::decode(CONTRACT)?;
    let check_request = contract
        .get_message_by_name("envoy.service.auth.v3.CheckRequest")
        .context("the contract has no CheckRequest")?;
    let check = DynamicMessage::deserialize(check_request, check)?;
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(check.encoded_len().try_into()?);
    check.encode(&mut frame)?;
    Ok(frame.freeze())
}
