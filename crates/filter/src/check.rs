//! One call of Doorward's gRPC port: writes the request as a gRPC frame, and reads the answer from one. The module asks as
//! ext_authz does, so the answers are the same.
//!
//! Envoy's callouts are plain HTTP. So the frame, a flag and a length before the message, is written here.

use std::{collections::BTreeMap, net::IpAddr};

use prost::{Message, Oneof};

/// The path of the gRPC method.
pub(crate) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The longest answer in bytes. Doorward's have a few kilobytes.
const LONGEST: usize = 256 * 1024;

/// What is asked. No `Debug`: it contains passwords and tokens.
#[derive(Clone, Default)]
pub(crate) struct Question {
    pub(crate) method: Vec<u8>,
    pub(crate) host: Vec<u8>,
    pub(crate) target: Vec<u8>,
    /// The headers that Doorward reads, in their order.
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The address of the client.
    pub(crate) source: Option<IpAddr>,
}

/// Doorward's answer. No `Debug`: headers and bodies contain tokens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// Dynamic metadata, for the access log.
    pub(crate) metadata: Vec<(String, MetadataValue)>,
}

/// A value of the dynamic metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetadataValue {
    Text(String),
    List(Vec<String>),
}

/// Whether the request passes. No `Debug`: headers and bodies contain tokens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The service gets the request.
    Pass {
        set: Vec<(String, Vec<u8>)>,
        remove: Vec<String>,
        /// Headers for the response to the client.
        respond: Vec<(String, Vec<u8>)>,
    },
    /// The client gets this.
    Answer {
        status: u16,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
    },
}

/// Why an answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerFault {
    #[error("it is not one complete, uncompressed gRPC message")]
    Frame,
    #[error("it is not a CheckResponse")]
    Message,
    #[error("its status code contradicts its response")]
    Verdict,
}

impl Question {
    /// The body of the call.
    pub(crate) fn frame(&self, body: Vec<u8>) -> Vec<u8> {
        let pair = |(key, value): &(Vec<u8>, Vec<u8>)| HeaderValue {
            key: key.clone(),
            value: Vec::new(),
            raw_value: value.clone(),
        };
        // Without `:path`, Doorward would assume a filter that hides headers.
        let mut headers = vec![HeaderValue {
            key: b":path".into(),
            value: Vec::new(),
            raw_value: self.target.clone(),
        }];
        headers.extend(self.headers.iter().map(pair));
        let socket = |address: IpAddr| SocketAddress {
            address: address.to_string().into_bytes(),
        };
        let request = CheckRequest {
            attributes: Some(AttributeContext {
                source: self.source.map(|address| Peer {
                    address: Some(Address {
                        socket_address: Some(socket(address)),
                    }),
                }),
                request: Some(Request {
                    http: Some(HttpRequest {
                        method: self.method.clone(),
                        path: self.target.clone(),
                        host: self.host.clone(),
                        raw_body: body,
                        header_map: Some(HeaderMap { headers }),
                    }),
                }),
            }),
        };
        let length = request.encoded_len();
        let mut frame = Vec::with_capacity(FRAME + length);
        frame.push(0);
        frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(&request.encode_to_vec());
        frame
    }
}

/// The flag and the length before a message.
const FRAME: usize = 5;

/// Reads the body of an answer.
pub(crate) fn read(body: &[u8]) -> Result<Answer, AnswerFault> {
    let (head, message) = body
        .split_first_chunk::<FRAME>()
        .filter(|_| body.len() <= LONGEST)
        .ok_or(AnswerFault::Frame)?;
    let [flag, length @ ..] = *head;
    if flag != 0 || u32::from_be_bytes(length) as usize != message.len() {
        return Err(AnswerFault::Frame);
    }
    let response = CheckResponse::decode(message).map_err(|_| AnswerFault::Message)?;
    // Envoy reads only the code; the module refuses an answer whose response contradicts it.
    let code = response.status.ok_or(AnswerFault::Verdict)?.code;
    let verdict = match (code, response.http_response) {
        (0, Some(HttpResponse::Ok(ok))) => Verdict::Pass {
            set: pairs(ok.headers),
            remove: ok.headers_to_remove,
            respond: pairs(ok.response_headers_to_add),
        },
        (1.., Some(HttpResponse::Denied(denied))) => Verdict::Answer {
            status: denied
                .status
                .and_then(|status| u16::try_from(status.code).ok())
                .filter(|status| (200..600).contains(status))
                .ok_or(AnswerFault::Verdict)?,
            headers: pairs(denied.headers),
            body: denied.body,
        },
        (_, _) => return Err(AnswerFault::Verdict),
    };
    let metadata = response.dynamic_metadata.unwrap_or_default();
    Ok(Answer {
        verdict,
        metadata: (metadata.fields.into_iter())
            .filter_map(metadata_value)
            .collect(),
    })
}

fn pairs(options: Vec<HeaderValueOption>) -> Vec<(String, Vec<u8>)> {
    let headers = options.into_iter().filter_map(|option| option.header);
    headers
        .map(|header| (header.key.to_ascii_lowercase(), header.value))
        .collect()
}

fn metadata_value((key, value): (String, Value)) -> Option<(String, MetadataValue)> {
    let value = match value.kind? {
        Kind::Text(text) => MetadataValue::Text(text),
        Kind::List(list) => MetadataValue::List(
            (list.values.into_iter())
                .filter_map(|value| match value.kind? {
                    Kind::Text(text) => Some(text),
                    Kind::List(_) => None,
                })
                .collect(),
        ),
    };
    Some((key, value))
}

// The fields of the messages in `proto/` that the module uses. Strings from clients are bytes, as in Doorward's gRPC door.

#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<AttributeContext>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeContext {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<Request>,
}

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Message)]
struct SocketAddress {
    #[prost(bytes = "vec", tag = "2")]
    address: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpRequest {
    #[prost(bytes = "vec", tag = "2")]
    method: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    path: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    host: Vec<u8>,
    #[prost(bytes = "vec", tag = "12")]
    raw_body: Vec<u8>,
    #[prost(message, optional, tag = "13")]
    header_map: Option<HeaderMap>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    headers: Vec<HeaderValue>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    raw_value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(oneof = "HttpResponse", tags = "2, 3")]
    http_response: Option<HttpResponse>,
    #[prost(message, optional, tag = "4")]
    dynamic_metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Oneof)]
enum HttpResponse {
    #[prost(message, tag = "2")]
    Denied(DeniedHttpResponse),
    #[prost(message, tag = "3")]
    Ok(OkHttpResponse),
}

#[derive(Clone, PartialEq, Message)]
struct DeniedHttpResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderValueOption>,
    #[prost(bytes = "vec", tag = "3")]
    body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct OkHttpResponse {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "5")]
    headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    response_headers_to_add: Vec<HeaderValueOption>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    header: Option<AnsweredHeader>,
}

/// A `HeaderValue` that Doorward wrote; its name is UTF-8.
#[derive(Clone, PartialEq, Message)]
struct AnsweredHeader {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "3, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "6")]
    List(ListValue),
}

#[derive(Clone, PartialEq, Message)]
struct ListValue {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[cfg(test)]
mod tests;
