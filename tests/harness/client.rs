//! An HTTP client that sends exactly what the test asks for, with a new connection for each request.

use std::{error::Error, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::{Body, Incoming},
    client::conn::{http1, http2},
    header::{HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The timeout of one exchange.
const LIMIT: Duration = Duration::from_secs(60);

/// A complete response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The value of a header, or `None` without it.
    ///
    /// # Panics
    ///
    /// If the header occurs more than once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let values = self.header_values(name);
        assert!(values.len() < 2, "{name} came more than once: {values:?}");
        values.first().copied()
    }

    /// All values of a header.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        let text = |value: &'_ HeaderValue| std::str::from_utf8(value.as_bytes()).is_ok();
        self.headers
            .get_all(name)
            .iter()
            .map(|value| {
                assert!(text(value), "{name} is not UTF-8: {value:?}");
                std::str::from_utf8(value.as_bytes()).unwrap_or_default()
            })
            .collect()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|fault| panic!("{fault}: status {}, body {:?}", self.status, self.body))
    }
}

/// Sends one request and reads the whole response.
///
/// # Panics
///
/// If there is no response.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Reply {
    try_send(address, method, path, headers, body)
        .await
        .unwrap_or_else(|fault| panic!("{method} {path} to {address}: {fault}"))
}

/// Like [`send`], but returns an error if there is no response.
pub async fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, String> {
    let whole = async {
        let response = exchange(address, method, path, headers, Full::new(body.into())).await?;
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|fault| chain(&fault))?
            .to_bytes();
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    };
    timeout(LIMIT, whole)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
}

/// Sends one request with any body, and returns the response as soon as its head has arrived.
///
/// # Panics
///
/// If this client cannot send the request unchanged; [`send_bytes`] can send anything.
pub async fn exchange<B>(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: B,
) -> Result<Response<Incoming>, String>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let request = request(address, method, path, headers, body);
    let stream = TcpStream::connect(address)
        .await
        .map_err(|fault| fault.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|fault| chain(&fault))?;
    // The task ends with the exchange, which also reports its errors.
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|fault| chain(&fault))
}

/// Sends one request over HTTP/2 without TLS, with any method and authority, and reads the whole response; an
/// error says why there is none.
pub async fn try_send_http2(
    address: SocketAddr,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
) -> Result<Reply, String> {
    let whole = async {
        let mut request = request(address, method, url, headers, Full::<Bytes>::default());
        // HTTP/2 sends it as `:authority`.
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request.headers_mut().remove(HOST);
        }
        let stream = TcpStream::connect(address)
            .await
            .map_err(|fault| fault.to_string())?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|fault| chain(&fault))?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await;
        let (parts, body) = response.map_err(|fault| chain(&fault))?.into_parts();
        let body = body.collect().await.map_err(|fault| chain(&fault))?;
        Ok::<_, String>(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.to_bytes(),
        })
    };
    timeout(LIMIT, whole)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
}

/// Sends raw bytes and reads until the other side closes the connection; send `connection: close`.
///
/// # Panics
///
/// If the other side does not close within ten seconds.
pub async fn send_bytes(address: SocketAddr, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    let whole = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        stream.read_to_end(&mut answer).await
    };
    let end = timeout(Duration::from_secs(10), whole).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match end {
        Ok(Ok(_)) => answer,
        // A server that has answered may reset the connection instead of reading the rest.
        Ok(Err(_)) if !answer.is_empty() => answer,
        Ok(Err(fault)) => panic!("{address}: {fault}"),
        Err(_) => panic!("{address} has not closed the connection; so far it said {answer:?}"),
    }
}

/// Sends raw bytes and reads one answer: its status, and its body as text. The connection may stay open.
///
/// # Panics
///
/// If there is no whole answer within ten seconds.
pub async fn ask_bytes(address: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut answer = Vec::new();
    let whole = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        while !is_whole(&answer) && stream.read_buf(&mut answer).await? > 0 {}
        std::io::Result::Ok(())
    };
    let end = timeout(Duration::from_secs(10), whole).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let asked = String::from_utf8_lossy(bytes);
    let parts = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    parts.unwrap_or_else(|| panic!("{address}: {end:?} after {answer:?} to {asked}"))
}

/// Whether these bytes are a complete answer, by the length in its head.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.split("\r\ncontent-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

fn request<B>(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: B,
) -> Request<B> {
    let uri: Uri = path
        .parse()
        .unwrap_or_else(|fault| panic!("{path:?}: {fault}; use send_bytes"));
    assert_eq!(
        uri.to_string(),
        path,
        "the path would not be sent as it is; use send_bytes"
    );
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
    *request.uri_mut() = uri;
    for (name, value) in headers {
        request.headers_mut().append(
            HeaderName::from_bytes(name.as_bytes()).expect("a header name"),
            HeaderValue::from_bytes(value.as_bytes()).expect("a header value"),
        );
    }
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::from_str(&address.to_string()).expect("an address as a host");
        request.headers_mut().insert(HOST, host);
    }
    request
}

fn chain(fault: &dyn Error) -> String {
    let mut text = fault.to_string();
    let mut source = fault.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
