//! The keys of other issuers, kept fresh behind the answers: read from a file, or fetched. What was good stays until there
//! is something better.

use std::{
    fmt, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header::ACCEPT};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

use crate::{
    domain::foreign::{Issuer, IssuerTerms, Issuers},
    metrics::{Fetches, Metrics, Outcome},
};

/// An issuer as the settings have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    /// What is asked of its tokens.
    pub terms: IssuerTerms,
    /// Where its keys are.
    pub jwks: Source,
}

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are fetched.
    Url(Uri),
    /// They are read.
    File(PathBuf),
}

impl Source {
    /// Takes a URL of `http` or `https`, or a path.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(char::is_control) {
            return Err("must be a URL, or the path of a file".into());
        }
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        // Not shown: there may be a password in it.
        let wrong = || {
            "is not a URL without user and fragment; write one such as https://id.example.com/jwks.json"
                .to_owned()
        };
        let url = url::Url::parse(text).map_err(|_| wrong())?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        if !is_plain {
            return Err(wrong());
        }
        url.as_str().parse().map(Self::Url).map_err(|_| wrong())
    }

    /// Whether somebody on the way could put other keys in.
    fn is_open(&self) -> bool {
        let Self::Url(url) = self else {
            return false;
        };
        let host = url.host().unwrap_or_default();
        let here = host == "localhost"
            || (host.trim_matches(['[', ']']).parse())
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        url.scheme_str() == Some("http") && !here
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::File(PathBuf::new())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// How often keys are asked for.
#[derive(Clone, Copy)]
struct Pace {
    /// It is looked whether it is time.
    look: Duration,
    /// Without a reason.
    regular: Duration,
    /// With one: a token named an unknown key, or there was a failure.
    again: Duration,
}

const FETCHED: Pace = Pace {
    look: Duration::from_secs(1),
    regular: Duration::from_secs(300),
    again: Duration::from_secs(30),
};

const READ: Pace = Pace {
    look: Duration::from_secs(2),
    regular: Duration::ZERO,
    again: Duration::ZERO,
};

/// How long an answer may take, the connection included.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the start waits for keys.
const AT_START: Duration = Duration::from_secs(2);

/// Keeps the keys of issuers fresh from here on; waits a moment for the first.
pub async fn follow(believed: &[Believed], metrics: &Metrics) -> Issuers {
    let issuers: Issuers = (believed.iter())
        .map(|one| Issuer::new(one.terms.clone()))
        .collect();
    let mut starts = Vec::new();
    for (index, Believed { terms, jwks }) in believed.iter().enumerate() {
        if jwks.is_open() {
            tracing::warn!(issuer = terms.issuer, %jwks, "keys come by http: whoever is on the way can put in others");
        }
        let (started, start) = oneshot::channel();
        starts.push((terms.issuer.clone(), start));
        let issuers = Arc::clone(&issuers);
        let fetches = metrics.fetches(&terms.issuer);
        match jwks.clone() {
            Source::File(path) => {
                let read = move || read(path.clone());
                tokio::spawn(keep(issuers, index, READ, started, fetches, read));
            }
            Source::Url(url) => {
                let client = client();
                let fetch = move || fetch(client.clone(), url.clone());
                tokio::spawn(keep(issuers, index, FETCHED, started, fetches, fetch));
            }
        }
    }
    let end = Instant::now() + AT_START;
    for (issuer, start) in starts {
        if timeout_at(end, start).await.is_err() {
            tracing::warn!(
                issuer,
                "its keys have not come yet; its tokens are refused until they do"
            );
        }
    }
    issuers
}

/// Asks for the keys of one issuer, for ever.
async fn keep<F: Future<Output = Result<Vec<u8>, String>>>(
    issuers: Issuers,
    index: usize,
    pace: Pace,
    started: oneshot::Sender<()>,
    fetches: Fetches,
    mut ask: impl FnMut() -> F,
) {
    let Some(issuer) = issuers.get(index) else {
        return;
    };
    let mut started = Some(started);
    let mut failing = false;
    let mut asked: Option<Instant> = None;
    let mut looks = interval(pace.look);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let has_reason = failing || issuer.wants_keys();
        let pause = if has_reason { pace.again } else { pace.regular };
        if asked.is_some_and(|asked| asked.elapsed() < pause) {
            continue;
        }
        // Before asking: a key that is named meanwhile may be too new for the answer.
        issuer.wish_is_heard();
        asked = Some(Instant::now());
        let answer = ask().await;
        let taken = answer.and_then(|document| {
            let taken = issuer.take(&document);
            taken.map_err(|fault| format!("the document {fault}"))
        });
        fetches.note(Outcome::of(&taken));
        let name = &*issuer.terms().issuer;
        match &taken {
            Ok(true) => {
                tracing::info!(
                    issuer = name,
                    keys = issuer.key_names().join(","),
                    "took the keys of an issuer"
                );
            }
            Ok(false) if failing => {
                tracing::info!(issuer = name, "the keys of an issuer can be had again");
            }
            Err(cause) if !failing => {
                tracing::warn!(
                    issuer = name,
                    cause,
                    "the keys of an issuer cannot be had; those of before stay"
                );
            }
            Ok(false) | Err(_) => {}
        }
        failing = taken.is_err();
        if let Some(started) = started.take() {
            // Nobody listens where the start has waited long enough.
            let _ = started.send(());
        }
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, String> {
    let text = path.display().to_string();
    let read = spawn_blocking(move || read_bounded(&path)).await;
    let read = read.map_err(io::Error::other).and_then(|read| read);
    read.map_err(|fault| format!("{text}: {fault}"))
}

/// One byte more than is taken, so that it is seen where there are more.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    let most = Issuer::LONGEST as u64 + 1;
    std::fs::File::open(path)?
        .take(most)
        .read_to_end(&mut document)?;
    Ok(document)
}

type Fetcher = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Follows no redirect, knows no proxy, and keeps no connection between two fetches.
fn client() -> Fetcher {
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .build();
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector)
}

async fn fetch(client: Fetcher, url: Uri) -> Result<Vec<u8>, String> {
    let whole = async {
        let request = Request::get(&url)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .body(Empty::new())
            .map_err(|fault| fault.to_string())?;
        let response = client
            .request(request)
            .await
            .map_err(|fault| chain(&fault))?;
        if response.status() != StatusCode::OK {
            return Err(format!("it was answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), Issuer::LONGEST)
            .collect()
            .await;
        let body = body.map_err(|fault| chain(&*fault))?;
        Ok(body.to_bytes().to_vec())
    };
    let answer = timeout(PATIENCE, whole).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
    answer.map_err(|fault| format!("{url}: {fault}"))
}

fn chain(fault: &dyn std::error::Error) -> String {
    let mut text = fault.to_string();
    let mut source = fault.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
