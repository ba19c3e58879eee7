//! Raw HTTP/2, for peers that behave as no library does.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
pub const HEALTH: &str = "/grpc.health.v1.Health/Check";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame (RFC 9113, 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head, payload.to_vec()].concat()
}

/// The bytes that a client sends first.
pub fn preface() -> Vec<u8> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*settings].concat()
}

/// The HEADERS frame that starts a call of this path.
pub fn call(stream: u32, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let block = [
        // POST, http, and names of the static table (RFC 7541, appendix A) with literal values.
        vec![0x83, 0x86, 0x04],
        text(path),
        vec![0x01],
        text("doorward"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        vec![0x00],
        text("te"),
        text("trailers"),
    ];
    frame(HEADERS, END_HEADERS, stream, &block.concat())
}

/// A length-prefixed gRPC message.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], bytes].concat()
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this body.
    Answered(Vec<u8>),
    /// With this error code.
    Reset(u32),
    /// With its connection.
    Closed,
}

/// Reads a frame; gives `None` if the other side sends none.
pub async fn read(stream: &mut TcpStream) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, u32::from_be_bytes(id), payload))
}

/// Reads until a call has ended, and answers pings.
pub async fn ended(stream: &mut TcpStream, call: u32) -> Ended {
    let mut body = Vec::new();
    while let Some((kind, flags, id, payload)) = read(stream).await {
        match kind {
            PING if flags == 0 => {
                let _ = stream.write_all(&frame(PING, 1, 0, &payload)).await;
            }
            RST_STREAM if id == call => {
                return Ended::Reset(u32::from_be_bytes(payload.try_into().unwrap()));
            }
            DATA if id == call => body.extend_from_slice(&payload),
            _ => {}
        }
        if id == call && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Ended::Answered(body);
        }
    }
    Ended::Closed
}
