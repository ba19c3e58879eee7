//! Envoy's door: `CheckRequest` -> `Request`, `Decision` -> `CheckResponse`. Contains no rule.
//!
//! Envoy reads `status.code` alone, an unset status means "allow", and a gRPC error lets the request through where
//! `failure_mode_allow` is set. So every answer is made by `respond`, and no answer is a gRPC error.

mod answer;
mod at_once;
mod check;
pub(crate) mod connection;
pub(crate) mod frames;
mod metadata;
mod protobuf;
mod view;

pub use self::{
    answer::Encoded,
    view::{CheckView, HttpView},
};

use std::{net::IpAddr, num::NonZeroI32, sync::Arc};

use bytes::Bytes;
use hyper::{HeaderMap, body::Body};

use self::answer::{Verdict, respond};
use crate::{
    actions::authorizer::{Authorizer, Decided, TurnedAway},
    domain::{
        cookie::Cookies,
        decision::{
            Admission, Answer, Caller, CheckFault, Decision, Denial, Forwarding, LoginReply, Realm,
        },
        header_edits::{Gateway, HeaderEdits},
        headers::Headers,
        identity_headers::IdentityHeaders,
        path::Tolerance,
        principal::Principal,
        request::{Answerable, Request, RequestFault, RequestLine},
        trust::{Forwarded, NoAddress, Peer},
    },
    observe::request_log::{self, Parent, Trace},
};

/// The ext_authz service.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Decides.
    pub(crate) authorizer: Authorizer,
    /// Whether each decision is sent to Envoy as dynamic metadata.
    pub(crate) metadata: bool,
}

impl Door {
    /// Answers one call. Reads nothing from an untrusted peer.
    async fn call<B>(
        &self,
        request: hyper::Request<B>,
        peer: Peer,
        most: usize,
    ) -> hyper::Response<check::Reply>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let answer = if self.trusts(peer) {
            // Only headers of the call are the gateway's and may name a trace; those of the checked request are the client's.
            let parent = match self.authorizer.has_spans() {
                true => parent(&head.headers),
                false => Parent::default(),
            };
            match check::read(body, most).await {
                Ok(message) => self.answer(&message, Some(peer), parent).await,
                Err(fault) => self.deny(Denial::Check(fault), parent),
            }
        } else {
            self.turn_away(TurnedAway::Untrusted, peer)
        };
        check::reply(answer)
    }

    /// Denies a call without reading it.
    fn turn_away(&self, kind: TurnedAway, peer: Peer) -> Encoded {
        let decision = self.authorizer.turn_away(kind, trace_of(peer));
        let realm = &self.authorizer.live().now().realm;
        encode(&decision, &Extra::default(), realm, b"")
    }

    /// Denies a call whose decision panicked.
    fn deny_after_panic(&self, peer: Peer) -> Encoded {
        let decided = self.authorizer.deny_after_panic(trace_of(peer));
        let realm = &self.authorizer.live().now().realm;
        self.encode(&decided, &Extra::default(), realm)
    }

    fn trusts(&self, peer: Peer) -> bool {
        self.authorizer.live().now().trusted.trusts(peer)
    }

    fn deny(&self, denial: Denial, parent: Parent<'_>) -> Encoded {
        let trace = Trace { parent, ..TRACE };
        let decided = self.authorizer.deny(denial, trace);
        let realm = &self.authorizer.live().now().realm;
        self.encode(&decided, &Extra::default(), realm)
    }
}

impl Door {
    /// Answers one check of a peer, which may have a span of its own: the bytes of a `CheckRequest`.
    pub(crate) async fn answer(
        &self,
        message: &[u8],
        peer: Option<Peer>,
        parent: Parent<'_>,
    ) -> Encoded {
        let rules = self.authorizer.live().now();
        let is_trusted = peer.is_some_and(|peer| rules.trusted.trusts(peer));
        let trace = Trace {
            parent: if is_trusted {
                parent
            } else {
                Parent::default()
            },
            ..TRACE
        };
        let Ok(check) = CheckView::read(message) else {
            return self.deny(Denial::Check(CheckFault::Malformed), trace.parent);
        };
        let Some(http) = check.http() else {
            let decided = (self.authorizer).refuse(&rules, RequestFault::NotHttp, None, trace);
            return self.encode(&decided, &Extra::default(), &rules.realm);
        };
        let (request, extra) = decode(http, rules.tolerance, rules.identity);
        let forwarded = Forwarded {
            peer: source(&check),
            ..extra.forwarded.clone()
        };
        let trace = Trace {
            request_id: extra.request_id,
            line: line(http),
            client: rules.client_address.of(&forwarded),
            ..trace
        };
        let decided = match request {
            _ if !is_trusted => self.authorizer.deny(Denial::UntrustedPeer, trace),
            Ok(request) => {
                let decided = (self.authorizer).decide(&rules, &request, extra.probe, trace);
                decided.await
            }
            Err(fault) => (self.authorizer).refuse(&rules, fault, extra.probe, trace),
        };
        self.encode(&decided, &extra, &rules.realm)
    }

    fn encode(&self, decided: &Decided<'_>, extra: &Extra<'_>, realm: &Realm) -> Encoded {
        let metadata = match self.metadata {
            true => metadata::of(decided),
            false => Vec::new(),
        };
        encode(&decided.decision, extra, realm, &metadata)
    }
}

fn parent(call: &HeaderMap) -> Parent<'_> {
    let value = |name| call.get(name).map_or(&b""[..], |value| value.as_bytes());
    Parent {
        traceparent: value("traceparent"),
        tracestate: value("tracestate"),
    }
}

/// The peer of Envoy, as Envoy reports it.
fn source(check: &CheckView<'_>) -> Option<IpAddr> {
    str::from_utf8(check.source).ok()?.parse().ok()
}

/// The trace of a call whose check was not read.
fn trace_of(peer: Peer) -> Trace<'static> {
    Trace {
        client: peer.address().ok_or(NoAddress::Peer),
        ..TRACE
    }
}

const TRACE: Trace<'static> = Trace {
    door: request_log::Door::Grpc,
    request_id: "",
    client: Err(NoAddress::Peer),
    line: RequestLine {
        method: b"",
        host: b"",
        target: b"",
    },
    parent: Parent {
        traceparent: b"",
        tracestate: b"",
    },
};

fn line<'a>(http: &HttpView<'a>) -> RequestLine<'a> {
    RequestLine {
        method: http.method,
        host: http.host,
        target: http.path,
    }
}

/// What the answer needs from a check besides the decision.
#[derive(Debug, Default)]
pub struct Extra<'a> {
    identity: IdentityHeaders,
    gateway: Gateway,
    request_id: &'a str,
    probe: Option<&'a [u8]>,
    forwarded: Forwarded<'a>,
    cookies: Cookies<'a>,
}

/// Reads a check.
pub fn decode<'a>(
    http: &HttpView<'a>,
    tolerance: Tolerance,
    identity: IdentityHeaders,
) -> (Result<Request<'a>, RequestFault>, Extra<'a>) {
    let mut headers = Headers::default();
    for (name, value) in http.headers() {
        headers.see(identity, name, value);
    }
    let request = headers.request(line(http), tolerance, http.body(), Answerable::Anything);
    let extra = Extra {
        identity,
        gateway: match headers.pseudo {
            true => Gateway::ShowsAll,
            false => Gateway::ShowsSome,
        },
        request_id: headers.request_id(http.id),
        probe: headers.probe(),
        forwarded: headers.forwarded(),
        cookies: headers.cookies(),
    };
    (request, extra)
}

/// Writes an answer, with metadata if there is any.
#[must_use]
pub fn encode(decision: &Decision, extra: &Extra<'_>, realm: &Realm, metadata: &[u8]) -> Encoded {
    let edits = |admission| HeaderEdits::of(admission, extra.identity, extra.gateway);
    let verdict = match decision {
        Decision::Allow(admission) => match &admission.set_cookie {
            None => Verdict::Allow(edits(admission), &[]),
            Some(cookie) => {
                // No cache may keep an answer with a token.
                let added = [
                    ("set-cookie", cookie.as_ref().into()),
                    ("cache-control", "no-store".into()),
                ];
                return respond(&Verdict::Allow(edits(admission), &added), metadata);
            }
        },
        Decision::Deny(denial) => deny(denial.answer(realm)),
        Decision::Done(done) => deny(done.answer()),
        Decision::Issue(issued) => match issued.reply {
            LoginReply::Direct => deny(issued.answer()),
            LoginReply::Through => {
                let admission = Admission {
                    caller: Caller::Known(Arc::new(Principal::new(issued.identity.clone()))),
                    authorization: Forwarding::Strip,
                    cookies: extra.cookies.without_ours(),
                    renewal: None,
                    set_cookie: None,
                    assertion: None,
                };
                let added = issued.token_headers();
                return respond(&Verdict::Allow(edits(&admission), &added), metadata);
            }
        },
    };
    respond(&verdict, metadata)
}

/// Envoy sends a denied response to the client unchanged, also one with status 200.
fn deny(answer: Answer) -> Verdict<'static> {
    Verdict::Deny(code(answer.status), answer)
}

/// The code of `google.rpc.Code` nearest to an HTTP status; Envoy shows it in its log alone.
fn code(status: u16) -> NonZeroI32 {
    const fn new(code: i32) -> NonZeroI32 {
        match NonZeroI32::new(code) {
            Some(code) => code,
            None => NonZeroI32::MIN,
        }
    }
    match status {
        400 | 413 => const { new(3) },
        401 => const { new(16) },
        409 => const { new(6) },
        429 => const { new(8) },
        503 => const { new(14) },
        405 => const { new(12) },
        200..300 => const { new(10) },
        _ => const { new(7) },
    }
}

#[cfg(test)]
mod tests;
