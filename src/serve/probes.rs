//! The endpoints of `listen.ops`: liveness, readiness and metrics.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::ending::Watch;
use crate::observe::metrics::Metrics;

/// Readiness is about this process. It stays ready while the database is down, because Bearer requests work.
pub(super) fn answer(path: &str, ending: &Watch, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => return numbers(metrics),
        "/readyz" if ending.is_leaving() => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/livez" | "/readyz" => (StatusCode::OK, "ok\n"),
        _ => (StatusCode::NOT_FOUND, "not found\n"),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

fn numbers(metrics: &Metrics) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(metrics.text()));
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
