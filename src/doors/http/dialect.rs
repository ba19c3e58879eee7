//! The dialects of sub-requests: which headers describe the request, and which answers the gateway understands.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{AUTHORIZATION, COOKIE, HeaderValue, LOCATION},
};

use super::{NO_STORE, insert, respond};
use crate::domain::{
    cookie::CookieEdit,
    decision::{Admission, Answer, Decision, Denial, Forwarding, Realm},
    header_edits::{Gateway, HeaderEdits},
    identity_headers::IdentityHeaders,
    request::{Host, RequestFault, RequestLine},
};
use crate::observe::request_log::Door;

/// How a gateway asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// nginx `auth_request`, and ingress-nginx `auth-url`, which always sends `X-Original-URL`.
    Nginx,
    /// Traefik ForwardAuth, Caddy `forward_auth`, HAProxy.
    Forward,
    /// Envoy's HTTP ext_authz with `path_prefix: /auth/envoy`.
    Envoy,
}

/// What an answer depends on besides the decision.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) identity: IdentityHeaders,
    pub(super) realm: &'a Realm,
    /// `http.sign_in`.
    pub(super) sign_in: Option<&'a HeaderValue>,
    /// Whether a cookie can be a credential, so that gateways copy `Cookie` from the answer.
    pub(super) takes_cookies: bool,
}

const ENVOY_PREFIX: &str = "/auth/envoy";

impl Dialect {
    /// The dialect of an endpoint.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/auth/nginx" => Some(Self::Nginx),
            "/auth/forward" => Some(Self::Forward),
            _ => path
                .strip_prefix(ENVOY_PREFIX)
                .is_some_and(|rest| rest.starts_with('/'))
                .then_some(Self::Envoy),
        }
    }

    pub(super) fn door(self) -> Door {
        match self {
            Self::Nginx => Door::Nginx,
            Self::Forward => Door::Forward,
            Self::Envoy => Door::EnvoyHttp,
        }
    }

    /// The request that the gateway asks about.
    pub(super) fn line<B>(self, request: &Request<B>) -> Result<RequestLine<'_>, RequestFault> {
        let headers = request.headers();
        match self {
            Self::Nginx => nginx(headers),
            Self::Forward => {
                if !matches!(
                    once(headers, "x-forwarded-proto")?,
                    b"http" | b"https" | b"ws" | b"wss"
                ) {
                    return Err(RequestFault::Dialect("x-forwarded-proto"));
                }
                Ok(RequestLine {
                    method: once(headers, "x-forwarded-method")?,
                    host: once(headers, "x-forwarded-host")?,
                    target: once(headers, "x-forwarded-uri")?,
                })
            }
            Self::Envoy => {
                let target = request.uri().path_and_query().map(|target| target.as_str());
                let target = target.and_then(|target| target.strip_prefix(ENVOY_PREFIX));
                // In absolute form, the path does not follow the prefix that Envoy is configured to send.
                let origin_form = request.uri().authority().is_none();
                Ok(RequestLine {
                    method: request.method().as_str().as_bytes(),
                    host: once(headers, "host")?,
                    target: target.filter(|_| origin_form).unwrap_or("").as_bytes(),
                })
            }
        }
    }

    /// The answer to the gateway.
    pub(super) fn encode(
        self,
        decision: &Decision,
        headers: &HeaderMap,
        terms: Terms<'_>,
    ) -> Response<Full<Bytes>> {
        let Terms { realm, sign_in, .. } = terms;
        match decision {
            Decision::Allow(admission) => self.allow(admission, headers, terms),
            // The one who probes must get the answer, not a page to sign in.
            Decision::Deny(denial @ Denial::Probed(_)) => self.deny(denial.answer(realm), None),
            Decision::Deny(denial) => self.deny(denial.answer(realm), sign_in),
            // A sub-request is not meant to log a user in; with a 200, the request would pass.
            Decision::Issue(_) | Decision::Done(_) => {
                self.deny(Denial::EndpointInSubRequest.answer(realm), sign_in)
            }
        }
    }

    /// Exactly 200: Envoy and the Gateway API take no other 2xx.
    fn allow(
        self,
        admission: &Admission,
        headers: &HeaderMap,
        terms: Terms<'_>,
    ) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        let own = response.headers_mut();
        own.insert(hyper::header::CACHE_CONTROL, NO_STORE);
        let edits = HeaderEdits::of(admission, terms.identity, Gateway::Replaces);
        for (name, value) in edits.set() {
            insert(own, name, value);
        }
        match (self, admission.authorization) {
            (Self::Envoy, _) => {
                let remove: Vec<_> = edits.remove().collect();
                if !remove.is_empty() {
                    insert(own, "x-envoy-auth-headers-to-remove", &remove.join(", "));
                }
            }
            // Other gateways cannot remove a header on request. They replace the client's header by the one of this
            // answer, and remove it if there is none.
            (Self::Nginx | Self::Forward, Forwarding::Keep) => {
                // There is at most one: two are refused.
                if let Some(value) = headers.get(AUTHORIZATION) {
                    own.insert(AUTHORIZATION, value.clone());
                }
            }
            (Self::Nginx | Self::Forward, Forwarding::Strip) => {}
        }
        if self != Self::Envoy && terms.takes_cookies && admission.cookies == CookieEdit::Keep {
            own.extend(joined(headers).map(|cookies| (COOKIE, cookies)));
        }
        response
    }

    /// Denies in a way that the gateway does not treat as a failure of Doorward: nginx turns every status except 401
    /// and 403 into a 500, and Envoy with `failure_mode_allow` lets a request pass if the answer is a 5xx.
    pub(super) fn deny(
        self,
        answer: Answer,
        sign_in: Option<&HeaderValue>,
    ) -> Response<Full<Bytes>> {
        let status = answer.status;
        let mut response = respond(answer);
        match self {
            Self::Nginx => {
                // nginx redirects by itself, with the target in `x-auth-sign-in`.
                let redirect = response.headers_mut().remove(LOCATION);
                if redirect.is_some() {
                    *response.status_mut() = StatusCode::UNAUTHORIZED;
                } else if response.status() != StatusCode::UNAUTHORIZED {
                    *response.status_mut() = StatusCode::FORBIDDEN;
                }
                let own = response.headers_mut();
                own.insert("x-auth-status", HeaderValue::from(status));
                if let Some(target) = redirect {
                    own.insert("x-auth-sign-in", target);
                }
                if let (401, Some(sign_in)) = (status, sign_in) {
                    own.insert("x-auth-sign-in", sign_in.clone());
                }
            }
            Self::Envoy if response.status().is_server_error() => {
                // Like a 503, it may have Retry-After.
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                let own = response.headers_mut();
                own.insert("x-auth-status", HeaderValue::from(status));
            }
            Self::Envoy | Self::Forward => {}
        }
        response
    }
}

/// All cookies as one header (RFC 9113, 8.2.3): of several, gateways copy the first, or join them with a comma.
fn joined(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(COOKIE).iter();
    let first = values.next()?;
    let Some(second) = values.next() else {
        return Some(first.clone());
    };
    let all: Vec<_> = ([first, second].into_iter().chain(values))
        .map(HeaderValue::as_bytes)
        .collect();
    HeaderValue::from_bytes(&all.join(&b"; "[..])).ok()
}

/// Cut, not parsed: a URL library reads `http:///admin` and `http://a?b=/admin` differently than nginx does. A host has no
/// slash, so the path begins at the first one.
fn nginx(headers: &HeaderMap) -> Result<RequestLine<'_>, RequestFault> {
    // Traefik asks here for an Ingress that was written for ingress-nginx. It forwards X-Original-* of the client.
    if headers.contains_key("x-forwarded-method") {
        return Err(RequestFault::TwoOriginals);
    }
    let method = once(headers, "x-original-method")?;
    let uri = at_most_once(headers, "x-original-uri")?;
    let Some(url) = at_most_once(headers, "x-original-url")? else {
        return Ok(RequestLine {
            method,
            host: at_most_once(headers, "host")?.unwrap_or_default(),
            target: uri.ok_or(RequestFault::Dialect("x-original-uri"))?,
        });
    };
    let fault = RequestFault::Dialect("x-original-url");
    let rest = [&b"http://"[..], b"https://"]
        .into_iter()
        .find_map(|scheme| url.strip_prefix(scheme))
        .ok_or(fault)?;
    let slash = rest.iter().position(|byte| *byte == b'/').ok_or(fault)?;
    let (named, target) = rest.split_at_checked(slash).ok_or(fault)?;
    Host::parse(named).ok_or(fault)?;
    // If there are two headers, one may be the client's.
    if uri.is_some_and(|uri| uri != target) {
        return Err(RequestFault::TwoOriginals);
    }
    // ingress-nginx writes the client's Host here, but nginx chooses the server by the host of the request line if it has
    // one. So this may not be the host of the service, and no rule for a host may use it.
    Ok(RequestLine {
        method,
        host: b"",
        target,
    })
}

fn once<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a [u8], RequestFault> {
    at_most_once(headers, name)?
        .filter(|value| !value.is_empty())
        .ok_or(RequestFault::Dialect(name))
}

fn at_most_once<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a [u8]>, RequestFault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(RequestFault::Dialect(name)),
        (value, _) => Ok(value.map(HeaderValue::as_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_cookie_headers_are_one_in_the_answer() {
        for (sent, expected) in [
            (&[][..], None),
            (&["a=1; b=2"], Some("a=1; b=2")),
            (&["a=1", "b=2; c=3", "d=4"], Some("a=1; b=2; c=3; d=4")),
        ] {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(COOKIE, HeaderValue::from_static(value));
            }
            let all = joined(&headers);
            assert_eq!(
                all.as_ref().map(HeaderValue::as_bytes),
                expected.map(str::as_bytes)
            );
        }
    }
}
