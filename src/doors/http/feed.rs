//! The feed over HTTP. Peers that may not read it get the answer of an unknown path, so that a client that reaches this
//! port does not learn whether the feed is on.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, header};

use super::{NO_STORE, insert, method_not_allowed, not_found, plain};
use crate::{
    domain::trust::Peer,
    feed::{Feed, NoAnswer},
    live::Rules,
};

pub(super) fn answer<B>(
    feed: Option<&Feed>,
    rules: &Arc<Rules>,
    request: &Request<B>,
    peer: Peer,
) -> Response<Full<Bytes>> {
    let Some(feed) = feed else {
        return not_found();
    };
    if !rules.trusted.trusts(peer) {
        feed.refused(peer);
        return not_found();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return method_not_allowed("GET, HEAD");
    }
    match feed.answer(rules, request.uri().query().unwrap_or_default(), peer) {
        Ok(body) => {
            let mut response = Response::new(Full::from(body));
            let headers = response.headers_mut();
            insert(headers, "content-type", "application/json");
            headers.insert(header::CACHE_CONTROL, NO_STORE);
            response
        }
        Err(NoAnswer::Query(fault)) => {
            plain(StatusCode::BAD_REQUEST, format!("Bad request: {fault}"))
        }
        Err(NoAnswer::Internal) => plain(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable"),
    }
}
