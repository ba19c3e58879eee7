//! A service behind the gateway. It reads the user from the identity headers, and knows no passwords or tokens.
//! `cargo run --example upstream` serves it on 127.0.0.1:8081, or on the address in its argument.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the tests include this file as a module"
)]

use std::{
    env, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const ADDRESS: &str = "127.0.0.1:8081";

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or(ADDRESS)).await?;
    axum::serve(listener, router(Arc::default())).await
}

/// The routes of the service. Every request that arrives adds one to `requests`.
pub fn router(requests: Arc<AtomicU64>) -> Router {
    Router::new()
        .route("/profile", get(profile))
        .route("/admin/users", get(users))
        .route("/upload", post(upload))
        .route("/download", get(download))
        .fallback(echo)
        .layer(middleware::map_request(move |request: Request| {
            requests.fetch_add(1, Ordering::SeqCst);
            async { request }
        }))
}

/// The user, from the headers of the gateway. Only the gateway can reach this service, and it removes these headers
/// from clients.
async fn profile(headers: HeaderMap) -> Response {
    let header = |name| headers.get(name).map(text);
    json_response(&json!({
        "user": header("x-auth-user"),
        "roles": header("x-auth-roles"),
        "admin": header("x-auth-admin"),
    }))
}

async fn users() -> Response {
    json_response(&json!({ "users": ["ada", "bob"] }))
}

async fn upload(request: Request) -> Response {
    let mut frames = request.into_body().into_data_stream();
    let mut bytes = 0;
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(frame) => bytes += frame.len(),
            Err(fault) => return (StatusCode::BAD_REQUEST, fault.to_string()).into_response(),
        }
    }
    json_response(&json!({ "bytes": bytes }))
}

async fn download(uri: Uri) -> Response {
    const PIECE: Bytes = Bytes::from_static(&[b'd'; 16 * 1024]);
    let wanted = uri
        .query()
        .and_then(|query| query.strip_prefix("bytes="))
        .map(str::parse::<usize>);
    let Some(Ok(wanted)) = wanted else {
        return (StatusCode::BAD_REQUEST, "ask for /download?bytes=N\n").into_response();
    };
    let pieces = stream::unfold(wanted, |left| async move {
        let size = left.min(PIECE.len());
        (size > 0).then(|| (Ok::<_, io::Error>(PIECE.slice(..size)), left - size))
    });
    Response::new(Body::from_stream(pieces))
}

/// Every other path: returns the request, with all headers.
async fn echo(request: Request) -> Response {
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| [name.to_string(), text(value)])
        .collect();
    json_response(&json!({
        "method": request.method().as_str(),
        "path": request.uri().to_string(),
        "headers": headers,
    }))
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn json_response(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}
