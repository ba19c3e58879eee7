//! The HTTP port: one endpoint for each dialect of gateways, and the routes of Doorward itself. Contains no rule.
//!
//! The path alone says which dialect a request is in: headers of all other dialects come from the client.

pub(crate) mod connection;
mod dialect;
mod feed;
mod unread;
mod visit;

use std::{convert::Infallible, error::Error, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes};
use doorward_rules::feed::PATH as FEED;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Body,
    header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue},
};
use tokio::time::timeout;
use tower::{Service, ServiceBuilder};
use zeroize::Zeroizing;

use self::{
    dialect::Dialect,
    visit::{Connected, Visit},
};
use crate::{
    actions::authorizer::Authorizer,
    clock::unix_time,
    domain::{
        body::{self, BodyFault, MAX_BODY},
        decision::{Answer, Decision, Denial},
        headers::Headers,
        identity_headers::IdentityHeaders,
        policy::Endpoint,
        request::{Answerable, RequestLine},
        trust::{Forwarded, NoAddress, Peer},
    },
    doors::layers::{CatchPanicLayer, InFlight, LimitLayer, Peers},
    feed::Feed,
    live::Rules,
    observe::request_log::{self, Parent, Trace},
};

/// The doors and routes of the HTTP port.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Decides.
    pub(crate) authorizer: Authorizer,
    /// The endpoints that are switched on.
    pub(crate) endpoints: Arc<[Endpoint]>,
    /// The sign-in page that gateways redirect to.
    pub(crate) sign_in: Option<HeaderValue>,
    /// The feed, if it is on.
    pub(crate) feed: Option<Arc<Feed>>,
}

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// The most bytes of a too long body that are read and discarded.
const MAX_DRAINED: usize = 128 * 1024;

impl Door {
    /// The door as a service for one connection.
    pub(crate) fn service<B>(
        self: Arc<Self>,
        peer: Peer,
        peers: Peers,
        in_flight: &'static InFlight,
    ) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + use<B>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
            + Send
            + Sync
            + Unpin
            + 'static,
    {
        let visit = Visit(Arc::new(Connected { door: self, peer }));
        ServiceBuilder::new()
            .layer(CatchPanicLayer(visit.clone()))
            .layer(LimitLayer {
                in_flight,
                peers,
                refuse: visit.clone(),
            })
            .service_fn(move |request| {
                let visit = visit.clone();
                async move {
                    let Connected { door, peer } = &*visit.0;
                    Ok(door.answer(request, *peer).await)
                }
            })
    }

    /// Answers one request of a peer, without the layers around it.
    pub(crate) async fn answer<B>(&self, request: Request<B>, peer: Peer) -> Response<Full<Bytes>>
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let rules = self.authorizer.live().now();
        let path = request.uri().path();
        if let Some(dialect) = Dialect::at(path) {
            return self.judge(&rules, dialect, &request, peer).await;
        }
        match path {
            "/validate" => return self.validate(&rules, &request, peer),
            "/.well-known/jwks.json" => return jwks(&rules, request.method()),
            FEED => return feed::answer(self.feed.as_deref(), &rules, &request, peer),
            _ => {}
        }
        match Endpoint::at(path).filter(|endpoint| self.endpoints.contains(endpoint)) {
            Some(endpoint) => self.ask(&rules, endpoint, request, peer).await,
            None => not_found(),
        }
    }

    async fn judge<B>(
        &self,
        rules: &Arc<Rules>,
        dialect: Dialect,
        request: &Request<B>,
        peer: Peer,
    ) -> Response<Full<Bytes>> {
        let headers = read(request.headers(), rules.identity);
        let line = dialect.line(request);
        let trace = Trace {
            door: dialect.door(),
            request_id: headers.request_id(b""),
            client: client(rules, &headers, peer),
            line: line.unwrap_or_default(),
            parent: self.parent(rules, request.headers(), peer),
        };
        let decided = if rules.trusted.trusts(peer) {
            let question = line
                .and_then(|line| headers.request(line, rules.tolerance, b"", Answerable::Verdict));
            match question {
                Ok(question) => {
                    let decided =
                        (self.authorizer).decide(rules, &question, headers.probe(), trace);
                    decided.await
                }
                Err(fault) => (self.authorizer).refuse(rules, fault, headers.probe(), trace),
            }
        } else {
            self.authorizer.deny(Denial::UntrustedPeer, trace)
        };
        let terms = dialect::Terms {
            identity: rules.identity,
            realm: &rules.realm,
            sign_in: self.sign_in.as_ref(),
            takes_cookies: rules.judge.sign_in.is_some(),
        };
        dialect.encode(&decided.decision, request.headers(), terms)
    }

    async fn ask<B>(
        &self,
        rules: &Arc<Rules>,
        endpoint: Endpoint,
        request: Request<B>,
        peer: Peer,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let (parts, body) = request.into_parts();
        let headers = read(&parts.headers, rules.identity);
        let trace = Trace {
            door: endpoint.into(),
            request_id: headers.request_id(b""),
            client: client(rules, &headers, peer),
            line: line(&parts.method, &parts.uri, &parts.headers),
            parent: self.parent(rules, &parts.headers, peer),
        };
        let is_head = parts.method == Method::HEAD;
        let method = if is_head {
            "GET"
        } else {
            parts.method.as_str()
        };
        if !endpoint.methods().contains(&method) {
            let allowed = endpoint.methods().iter().map(|&own| own.into());
            let denial = Denial::EndpointMethod(allowed.collect());
            return self.deny(rules, denial, trace);
        }
        // Before it is read, only its content type counts.
        let has_body = match headers.body(b"?") {
            body::Body::Absent => false,
            body::Body::Json(_) | body::Body::Form(_) | body::Body::Partial => true,
        };
        let shows_credential = parts.headers.contains_key(hyper::header::AUTHORIZATION);
        let expected = has_body
            && match endpoint {
                // Credentials in the header need no body.
                Endpoint::Login => !shows_credential,
                Endpoint::Logout | Endpoint::SignOut | Endpoint::SignedIn => false,
                Endpoint::SignIn | Endpoint::KeysPage => parts.method == Method::POST,
                Endpoint::Refresh | Endpoint::Register | Endpoint::Password => true,
                Endpoint::Keys => parts.method == Method::POST,
            };
        let body = if expected {
            match timeout(BODY_TIME, whole(body, announced(&parts.headers))).await {
                Ok(Some(body)) => body,
                Ok(None) => return self.deny(rules, Denial::Body(BodyFault::TooLong), trace),
                Err(_) => return self.deny(rules, Denial::Body(BodyFault::TooSlow), trace),
            }
        } else {
            Zeroizing::default()
        };
        match headers.request(trace.line, rules.tolerance, &body, Answerable::Anything) {
            Ok(request) => match (self.authorizer)
                .ask(rules, endpoint, &request, headers.probe(), trace)
                .await
            {
                // This port answers its clients itself, whatever `login.reply` says.
                Decision::Issue(issued) => respond(issued.answer()),
                Decision::Done(done) => respond(done.answer()),
                Decision::Deny(denial) => respond(denial.answer(&rules.realm)),
                // An endpoint never lets a request pass.
                Decision::Allow(_) => respond(Denial::Nobody.answer(&rules.realm)),
            },
            Err(fault) => self.deny(rules, Denial::Malformed(fault), trace),
        }
    }

    fn validate<B>(
        &self,
        rules: &Rules,
        request: &Request<B>,
        peer: Peer,
    ) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::POST | Method::HEAD) {
            return method_not_allowed("GET, POST");
        }
        let headers = read(request.headers(), rules.identity);
        let trace = Trace {
            door: request_log::Door::Validate,
            request_id: headers.request_id(b""),
            client: client(rules, &headers, peer),
            line: line(request.method(), request.uri(), request.headers()),
            parent: self.parent(rules, request.headers(), peer),
        };
        match self.authorizer.validate(rules, headers.credential(), trace) {
            Ok(claims) => {
                let mut response = Response::new(Full::from(claims));
                let own = response.headers_mut();
                let json = HeaderValue::from_static("application/json");
                own.insert(hyper::header::CONTENT_TYPE, json);
                own.insert(hyper::header::CACHE_CONTROL, NO_STORE);
                response
            }
            Err(denial) => respond(denial.answer_of_validate(&rules.realm)),
        }
    }

    /// Only a trusted gateway may name the trace.
    fn parent<'a>(&self, rules: &Rules, headers: &'a HeaderMap, peer: Peer) -> Parent<'a> {
        if !self.authorizer.has_spans() || !rules.trusted.trusts(peer) {
            return Parent::default();
        }
        let value = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
        Parent {
            traceparent: value("traceparent"),
            tracestate: value("tracestate"),
        }
    }

    fn deny(&self, rules: &Rules, denial: Denial, trace: Trace<'_>) -> Response<Full<Bytes>> {
        let answer = denial.answer(&rules.realm);
        // Returns the same denial, and logs it.
        let _ = self.authorizer.deny(denial, trace);
        respond(answer)
    }
}

/// Only a trusted gateway may say where the client is.
fn client(rules: &Rules, headers: &Headers<'_>, peer: Peer) -> Result<IpAddr, NoAddress> {
    match rules.trusted.trusts(peer) {
        true => rules.client_address.of(&Forwarded {
            peer: peer.address(),
            ..headers.forwarded()
        }),
        false => peer.address().ok_or(NoAddress::Peer),
    }
}

/// How long a verifier may keep the public keys: a staged key is published for longer before it signs.
const JWKS_AGE: &str = "public, max-age=60";

/// The public keys (RFC 7517, 5), for services that verify tokens themselves.
fn jwks(rules: &Rules, method: &Method) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return method_not_allowed("GET, HEAD");
    }
    let mut response = Response::new(Full::from(rules.judge.verifier.keys().jwks(unix_time())));
    insert(
        response.headers_mut(),
        "content-type",
        "application/jwk-set+json",
    );
    insert(response.headers_mut(), "cache-control", JWKS_AGE);
    response
}

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

fn read(headers: &HeaderMap, identity: IdentityHeaders) -> Headers<'_> {
    let mut read = Headers::default();
    for (name, value) in headers {
        read.see(identity, name.as_str().as_bytes(), value.as_bytes());
    }
    read
}

fn line<'a>(method: &'a Method, uri: &'a hyper::Uri, headers: &'a HeaderMap) -> RequestLine<'a> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    RequestLine {
        method: method.as_str().as_bytes(),
        host: headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes),
        target: target.as_bytes(),
    }
}

fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, or `None` if it is too long or breaks off.
///
/// A body that is a little too long is read to its end: closing a connection with unread bytes resets it, and then the
/// gateway sees no answer.
async fn whole<B>(body: B, announced: Option<usize>) -> Option<Zeroizing<Vec<u8>>>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    if announced.is_some_and(|length| length > MAX_DRAINED) {
        return None;
    }
    let mut body = pin!(Limited::new(body, MAX_DRAINED));
    let mut whole = Zeroizing::new(Vec::with_capacity(MAX_BODY));
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(mut piece) = frame.ok()?.into_data() {
            length += piece.remaining();
            if length <= MAX_BODY {
                whole.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            }
        }
    }
    (length <= MAX_BODY).then_some(whole)
}

fn respond(answer: Answer) -> Response<Full<Bytes>> {
    let Answer {
        status,
        headers,
        body,
    } = answer;
    let mut response = Response::new(Full::from(body.into_owned()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    for (name, value) in headers {
        insert(response.headers_mut(), name, &value);
    }
    response
}

/// Values are visible ASCII by construction; any other is not sent.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn not_found() -> Response<Full<Bytes>> {
    plain(StatusCode::NOT_FOUND, "Not found")
}

fn method_not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    insert(response.headers_mut(), "allow", allow);
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    insert(headers, "content-type", "text/plain; charset=utf-8");
    headers.insert(hyper::header::CACHE_CONTROL, NO_STORE);
    response
}

#[cfg(test)]
mod tests;
