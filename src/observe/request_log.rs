//! What the request log, the audit trail and spans say about a request. Below every other file of the program.

use std::{fmt::Display, net::IpAddr, sync::Arc};

use uuid::Uuid;

use crate::domain::{request::RequestLine, trust::NoAddress};

/// What the log says about a request, beside the decision.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// The door that was asked.
    pub door: &'static str,
    /// The request id of the gateway; empty if it sends none. The log then generates one.
    pub request_id: &'a str,
    /// The address of the client, or why it is unknown.
    pub client: Result<IpAddr, NoAddress>,
    /// The request line as it came, valid or not.
    pub line: RequestLine<'a>,
    /// The trace context of the gateway.
    pub parent: Parent<'a>,
}

/// The trace context of the gateway's call (W3C Trace Context); empty if it sends none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parent<'a> {
    /// The header `traceparent`.
    pub traceparent: &'a [u8],
    /// The header `tracestate`.
    pub tracestate: &'a [u8],
}

/// An owned [`Trace`], for an action that outlives the call that asked for it.
pub(crate) struct OwnedTrace {
    pub(crate) door: &'static str,
    /// Never empty.
    pub(crate) request_id: Arc<str>,
    pub(crate) client: Result<IpAddr, NoAddress>,
    method: Vec<u8>,
    host: Vec<u8>,
    target: Vec<u8>,
}

impl From<Trace<'_>> for OwnedTrace {
    fn from(trace: Trace<'_>) -> Self {
        let Trace {
            door,
            request_id,
            client,
            line,
            parent: _,
        } = trace;
        Self {
            door,
            request_id: match request_id {
                "" => new_request_id().into(),
                given => given.into(),
            },
            client,
            method: line.method.into(),
            host: line.host.into(),
            target: line.target.into(),
        }
    }
}

impl OwnedTrace {
    pub(crate) fn borrow(&self) -> Trace<'_> {
        Trace {
            door: self.door,
            request_id: &self.request_id,
            client: self.client,
            line: RequestLine {
                method: &self.method,
                host: &self.host,
                target: &self.target,
            },
            parent: Parent::default(),
        }
    }
}

/// The longest host or path that a log line shows, in bytes.
const SHOWN: usize = 256;

/// Escapes bytes of a client and cuts them before the query, so that they can neither end a log line nor fill it.
pub(crate) fn shown(bytes: &[u8]) -> impl Display + '_ {
    let bytes = bytes.split(|byte| *byte == b'?').next().unwrap_or(bytes);
    bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii()
}

/// Generates an id for a request whose gateway sent none.
pub(crate) fn new_request_id() -> String {
    Uuid::now_v7().to_string()
}
