//! The feed over HTTP. A peer that may not read it gets what an unknown path gets: a client that reaches this port does
//! not learn whether there is one.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, header};

use super::{NO_STORE, insert, plain};
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
        return plain(StatusCode::NOT_FOUND, "Not found");
    };
    if !rules.trusted.trusts(peer) {
        feed.refused(peer);
        return plain(StatusCode::NOT_FOUND, "Not found");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
        insert(response.headers_mut(), "allow", "GET, HEAD");
        return response;
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
            let mut response = plain(StatusCode::BAD_REQUEST, "");
            *response.body_mut() = Full::from(format!("Bad request: {fault}"));
            response
        }
        Err(NoAnswer::Internal) => plain(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable"),
    }
}
