//! Browsers: HTTP/1.1 connections to a gateway.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use super::{BROWSER, HOST, Load, MOST, all};
use crate::harness::basic;

/// HTTP/1.1 connections with one request at a time each; kept open as long as the server allows.
pub struct Browsers {
    address: SocketAddr,
    connections: Vec<Connection>,
    requests: Arc<[Question]>,
    /// How long each answer took; whoever reads it empties it.
    pub took: Vec<Duration>,
}

pub type Connection = http1::SendRequest<Empty<Bytes>>;
pub type Question = Request<Empty<Bytes>>;

impl Browsers {
    pub async fn open(
        address: SocketAddr,
        path: &str,
        token: &str,
        count: u16,
    ) -> anyhow::Result<Self> {
        let request = question(Method::GET, path, &format!("Bearer {token}"))?;
        Self::with(address, [request].into(), count).await
    }

    /// Sends all these requests, again and again.
    pub async fn with(
        address: SocketAddr,
        requests: Arc<[Question]>,
        count: u16,
    ) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(connect(address).await?);
        }
        Ok(Self {
            address,
            connections,
            requests,
            took: Vec::new(),
        })
    }
}

/// A login with HTTP Basic.
pub fn login(user: &str, password: &str) -> anyhow::Result<Question> {
    question(Method::POST, "/login", &basic(user, password))
}

/// A request with this `Authorization` value.
pub fn question_with(path: &str, authorization: &str) -> anyhow::Result<Question> {
    question(Method::GET, path, authorization)
}

fn question(method: Method, path: &str, authorization: &str) -> anyhow::Result<Question> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", HOST);
    for (name, value) in BROWSER {
        request = request.header(name, value);
    }
    let request = request.header("authorization", authorization);
    Ok(request.body(Empty::new())?)
}

pub async fn connect(address: SocketAddr) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The task ends with its sender, and the requests report its errors.
    tokio::spawn(connection);
    Ok(sender)
}

impl Load for Browsers {
    async fn run(&mut self, length: Duration) -> anyhow::Result<u64> {
        let mut browsers = JoinSet::new();
        let end = Instant::now() + length;
        for (first, mut connection) in self.connections.drain(..).enumerate() {
            let (address, requests) = (self.address, Arc::clone(&self.requests));
            browsers.spawn(async move {
                let mut took = Vec::new();
                for request in requests.iter().cycle().skip(first % requests.len()) {
                    if Instant::now() >= end || took.len() as u64 >= MOST {
                        break;
                    }
                    // gunicorn closes the connection after every answer.
                    if connection.ready().await.is_err() {
                        connection = connect(address).await?;
                    }
                    let asked = Instant::now();
                    let answer = match connection.try_send_request(request.clone()).await {
                        Ok(answer) => answer,
                        Err(unsent) if unsent.message().is_some() => continue,
                        Err(fault) => return Err(fault.into_error().into()),
                    };
                    let status = answer.status();
                    answer.into_body().collect().await?;
                    ensure!(status == StatusCode::OK, "a request was refused: {status}");
                    took.push(asked.elapsed());
                }
                anyhow::Ok((took, connection))
            });
        }
        let mut answers = 0;
        for (took, connection) in all(browsers, length).await? {
            self.connections.push(connection);
            answers += took.len() as u64;
            self.took.extend(took);
        }
        Ok(answers)
    }
}
