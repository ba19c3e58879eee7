//! Asks a health endpoint, for containers without a shell and without curl.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode, Uri};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tokio::time::timeout;

use super::Outcome;
use crate::cli::{self, Format};

/// Checks that a URL answers 200.
///
/// # Errors
///
/// The URL or the duration is invalid.
pub(crate) fn check_url(url: &str, command: &cli::Check) -> anyhow::Result<Outcome> {
    check(parse(url)?, command)
}

/// Checks that the Doorward that listens on `ops` is ready.
///
/// # Errors
///
/// The address or the duration cannot be used.
pub(crate) fn check_ops(ops: SocketAddr, command: &cli::Check) -> anyhow::Result<Outcome> {
    check(readiness(ops)?, command)
}

fn check(url: Uri, command: &cli::Check) -> anyhow::Result<Outcome> {
    let limit = patience(&command.timeout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(ask(&url, limit));
    // Do not wait for a name lookup that is still running.
    runtime.shutdown_background();
    let (outcome, status, why) = match &answer {
        Ok(StatusCode::OK) => (Outcome::Yes, Some(200), None),
        Ok(status) => (Outcome::No, Some(status.as_u16()), None),
        Err(why) => (Outcome::No, None, Some(why.to_string())),
    };
    match command.output.output {
        Format::Json => println!(
            "{}",
            serde_json::to_string_pretty(&json!({
                "url": url.to_string(), "ok": outcome == Outcome::Yes, "status": status, "why": why,
            }))?
        ),
        Format::Text => match &answer {
            Ok(status) => println!("{url}: {status}"),
            Err(why) => println!("{url}: {why}"),
        },
    }
    Ok(outcome)
}

/// Parses `--timeout`.
pub(super) fn patience(text: &str) -> anyhow::Result<Duration> {
    let limit = humantime::parse_duration(text)
        .with_context(|| format!("--timeout {text:?}: write a duration such as 2s"))?;
    if limit.is_zero() {
        bail!("--timeout {text:?}: must be longer than zero");
    }
    Ok(limit)
}

/// Never shows the text: it may contain a password.
fn parse(text: &str) -> anyhow::Result<Uri> {
    const WRONG: &str = "--url: is not a URL without user, password and fragment; write one such as http://127.0.0.1:9003/readyz";
    let url = url::Url::parse(text).ok().context(WRONG)?;
    if url.scheme() != "http" {
        bail!("--url: only http:// is supported");
    }
    let is_plain = url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if !is_plain {
        bail!(WRONG);
    }
    url.as_str().parse().ok().context(WRONG)
}

/// The readiness URL of a Doorward that listens on `ops`. An address that means every interface includes loopback.
fn readiness(mut ops: SocketAddr) -> anyhow::Result<Uri> {
    if ops.port() == 0 {
        bail!("listen.ops lets the system choose the port; set --url");
    }
    if ops.ip().is_unspecified() {
        ops.set_ip(match ops {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let url = format!("http://{ops}/readyz");
    url.parse()
        .with_context(|| format!("listen.ops: {ops} is not an address of a URL; set --url"))
}

/// Why no status was received.
#[derive(Debug, thiserror::Error)]
enum CheckFault {
    #[error("the request cannot be made")]
    Request(#[source] hyper::http::Error),
    #[error("nothing can be reached there: {}", root(.0))]
    Unreachable(#[source] legacy::Error),
    #[error("the answer is not HTTP: {}", root(.0))]
    NotHttp(#[source] legacy::Error),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

async fn ask(url: &Uri, limit: Duration) -> Result<StatusCode, CheckFault> {
    let request = Request::get(url)
        .body(Empty::<Bytes>::new())
        .map_err(CheckFault::Request)?;
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(HttpConnector::new());
    match timeout(limit, client.request(request)).await {
        Ok(Ok(response)) => Ok(response.status()),
        Ok(Err(fault)) if fault.is_connect() => Err(CheckFault::Unreachable(fault)),
        Ok(Err(fault)) => Err(CheckFault::NotHttp(fault)),
        Err(_) => Err(CheckFault::Timeout(limit)),
    }
}

fn root(fault: &dyn std::error::Error) -> String {
    let mut last = fault;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readiness_url_replaces_wildcard_addresses() {
        for (ops, url) in [
            ("127.0.0.1:9003", "http://127.0.0.1:9003/readyz"),
            ("0.0.0.0:9003", "http://127.0.0.1:9003/readyz"),
            ("[::]:9103", "http://[::1]:9103/readyz"),
            ("10.1.2.3:9003", "http://10.1.2.3:9003/readyz"),
        ] {
            let asked = readiness(ops.parse().unwrap()).unwrap();
            assert_eq!(asked.to_string(), url, "{ops}");
        }
        assert!(readiness("0.0.0.0:0".parse().unwrap()).is_err());
    }

    #[test]
    fn invalid_urls_are_refused_and_not_printed() {
        for url in [
            "",
            "127.0.0.1:9003",
            "/readyz",
            "https://127.0.0.1/",
            "file:///readyz",
            "http://",
            "http://u:hunter2@127.0.0.1/",
            "http://127.0.0.1/#x",
            "http://127.0.0.1:99999/",
        ] {
            let fault = parse(url).unwrap_err().to_string();
            assert!(fault.starts_with("--url: "), "{url}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
        let url = parse("http://localhost:9003/readyz?x=1").unwrap();
        assert_eq!(url.to_string(), "http://localhost:9003/readyz?x=1");
    }
}
