//! What the request log, the audit trail and spans say about a request. Below every other file of the program.

use std::{fmt::Display, net::IpAddr, sync::Arc};

use uuid::Uuid;

use crate::domain::{policy::Endpoint, request::RequestLine, trust::NoAddress};

/// What was asked: a protocol in which gateways ask, or a route of Doorward's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Door {
    /// Envoy's ext_authz over gRPC.
    Grpc,
    /// Envoy's ext_authz over HTTP.
    EnvoyHttp,
    /// `/auth/forward`, for Traefik and Caddy.
    Forward,
    /// `/auth/nginx`, for `auth_request`.
    Nginx,
    /// `/validate`.
    Validate,
    /// `/login`.
    Login,
    /// `/logout`.
    Logout,
    /// `/refresh`.
    Refresh,
    /// `/register`.
    Register,
    /// `/password`.
    Password,
    /// `/sign-in`.
    SignIn,
    /// `/sign-out`.
    SignOut,
    /// `/signed-in`.
    SignedIn,
    /// `/keys`.
    Keys,
    /// `/my-keys`.
    KeysPage,
}

impl Door {
    /// All doors.
    pub(crate) const ALL: [Self; 15] = [
        Self::Grpc,
        Self::EnvoyHttp,
        Self::Forward,
        Self::Nginx,
        Self::Validate,
        Self::Login,
        Self::Logout,
        Self::Refresh,
        Self::Register,
        Self::Password,
        Self::SignIn,
        Self::SignOut,
        Self::SignedIn,
        Self::Keys,
        Self::KeysPage,
    ];

    /// The word that log, metrics, spans and audit trail show.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::EnvoyHttp => "envoy-http",
            Self::Forward => "forward",
            Self::Nginx => "nginx",
            Self::Validate => "validate",
            Self::Login => Endpoint::Login.name(),
            Self::Logout => Endpoint::Logout.name(),
            Self::Refresh => Endpoint::Refresh.name(),
            Self::Register => Endpoint::Register.name(),
            Self::Password => Endpoint::Password.name(),
            Self::SignIn => Endpoint::SignIn.name(),
            Self::SignOut => Endpoint::SignOut.name(),
            Self::SignedIn => Endpoint::SignedIn.name(),
            Self::Keys => Endpoint::Keys.name(),
            Self::KeysPage => Endpoint::KeysPage.name(),
        }
    }
}

impl From<Endpoint> for Door {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Login => Self::Login,
            Endpoint::Logout => Self::Logout,
            Endpoint::Refresh => Self::Refresh,
            Endpoint::Register => Self::Register,
            Endpoint::Password => Self::Password,
            Endpoint::SignIn => Self::SignIn,
            Endpoint::SignOut => Self::SignOut,
            Endpoint::SignedIn => Self::SignedIn,
            Endpoint::Keys => Self::Keys,
            Endpoint::KeysPage => Self::KeysPage,
        }
    }
}

/// What the log says about a request, besides the decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace<'a> {
    /// The door that was asked.
    pub(crate) door: Door,
    /// The request id of the gateway; empty if it sends none. The log then generates one.
    pub(crate) request_id: &'a str,
    /// The address of the client, or why it is unknown.
    pub(crate) client: Result<IpAddr, NoAddress>,
    /// The request line as it came, valid or not.
    pub(crate) line: RequestLine<'a>,
    /// The trace context of the gateway.
    pub(crate) parent: Parent<'a>,
}

/// The trace context of the gateway's call (W3C Trace Context); empty if it sends none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parent<'a> {
    /// The header `traceparent`.
    pub(crate) traceparent: &'a [u8],
    /// The header `tracestate`.
    pub(crate) tracestate: &'a [u8],
}

/// An owned [`Trace`], for an action that outlives the call that asked for it.
pub(crate) struct OwnedTrace {
    pub(crate) door: Door,
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
