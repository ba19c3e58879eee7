//! The keys of other issuers, kept fresh in the background: read from a file or fetched by HTTP. The last good keys
//! stay until newer ones arrive.

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
    domain::issuer::{DocumentFault, Issuer, IssuerTerms, Issuers},
    observe::{
        causes,
        metrics::{Fetches, Metrics, Outcome},
    },
};

/// Settings of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Believed {
    /// What its tokens must satisfy.
    pub(crate) terms: IssuerTerms,
    /// Where to get its keys.
    pub(crate) jwks: Source,
}

/// Where to get keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Fetch them from this URL.
    Url(Uri),
    /// Read them from this file.
    File(PathBuf),
}

/// Why this is not a source of keys. The text does not contain the URL, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceFault {
    /// Empty, or with control characters.
    #[error("must be a URL, or the path of a file")]
    Text,
    /// Not a URL, or with parts that are not accepted.
    #[error(
        "is not a URL without user and fragment; write one such as https://id.example.com/jwks.json"
    )]
    Url,
}

impl Source {
    /// Parses a URL with `http` or `https`, or a path.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, SourceFault> {
        if text.is_empty() || text.contains(char::is_control) {
            return Err(SourceFault::Text);
        }
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let url = url::Url::parse(text).map_err(|_| SourceFault::Url)?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        if !is_plain {
            return Err(SourceFault::Url);
        }
        (url.as_str().parse().map(Self::Url)).map_err(|_| SourceFault::Url)
    }

    /// Whether an attacker on the network could replace the keys.
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

/// How often to fetch keys.
#[derive(Clone, Copy)]
struct Schedule {
    /// How often to check whether a fetch is due.
    look: Duration,
    /// The pause between fetches when no token needs a new key.
    regular: Duration,
    /// The pause after a token named an unknown key, or after a failed fetch.
    again: Duration,
}

const FETCHED: Schedule = Schedule {
    look: Duration::from_secs(1),
    regular: Duration::from_secs(300),
    again: Duration::from_secs(30),
};

const READ: Schedule = Schedule {
    look: Duration::from_secs(2),
    regular: Duration::ZERO,
    again: Duration::ZERO,
};

/// The timeout of one fetch, including the connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the start waits for the first keys.
const AT_START: Duration = Duration::from_secs(2);

/// Starts to keep the keys of all issuers up to date, and waits at most two seconds for the first keys.
pub(crate) async fn follow(believed: &[Believed], metrics: &Metrics) -> Issuers {
    let issuers: Issuers = (believed.iter())
        .map(|one| Issuer::new(one.terms.clone()))
        .collect();
    let mut starts = Vec::new();
    for (index, Believed { terms, jwks }) in believed.iter().enumerate() {
        if jwks.is_open() {
            tracing::warn!(issuer = terms.issuer, %jwks, "keys come over plain http: anybody on the network path can replace them");
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
                "the keys of an issuer have not arrived yet; its tokens are refused until they do"
            );
        }
    }
    issuers
}

/// Fetches the keys of one issuer forever.
async fn keep<F: Future<Output = Result<Vec<u8>, FetchFault>>>(
    issuers: Issuers,
    index: usize,
    schedule: Schedule,
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
    let mut looks = interval(schedule.look);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let has_reason = failing || issuer.wants_keys();
        let pause = if has_reason {
            schedule.again
        } else {
            schedule.regular
        };
        if asked.is_some_and(|asked| asked.elapsed() < pause) {
            continue;
        }
        // Clear the flag before the fetch: a token that arrives during the fetch may name a key that is newer than
        // the answer.
        issuer.wish_is_heard();
        asked = Some(Instant::now());
        let answer = ask().await;
        let taken = answer.and_then(|document| {
            let taken = issuer.take(&document);
            taken.map_err(|fault| FetchFault::Document(Box::new(fault)))
        });
        fetches.note(Outcome::of(&taken));
        let name = &*issuer.terms().issuer;
        match &taken {
            Ok(true) => {
                tracing::info!(
                    issuer = name,
                    keys = issuer.key_names().join(","),
                    "new keys of an issuer are in force"
                );
            }
            Ok(false) if failing => {
                tracing::info!(issuer = name, "the keys of an issuer can be fetched again");
            }
            Err(cause) if !failing => {
                tracing::warn!(
                    issuer = name,
                    cause = %causes(cause),
                    "the keys of an issuer cannot be fetched; the previous keys stay in force"
                );
            }
            Ok(false) | Err(_) => {}
        }
        failing = taken.is_err();
        if let Some(started) = started.take() {
            // The receiver is gone if the start no longer waits.
            let _ = started.send(());
        }
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, FetchFault> {
    let text = path.display().to_string();
    let read = spawn_blocking(move || read_bounded(&path)).await;
    let read = read.map_err(io::Error::other).and_then(|read| read);
    read.map_err(|fault| FetchFault::File(text, fault))
}

/// Reads one byte more than the limit, so that the parser sees a document that is too long.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    let most = Issuer::LONGEST as u64 + 1;
    std::fs::File::open(path)?
        .take(most)
        .read_to_end(&mut document)?;
    Ok(document)
}

type Fetcher = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Follows no redirects, uses no proxy, and keeps no connection open between fetches.
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

async fn fetch(client: Fetcher, url: Uri) -> Result<Vec<u8>, FetchFault> {
    let whole = async {
        let request = Request::get(&url)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .body(Empty::new())?;
        let response = client.request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(RequestFault::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), Issuer::LONGEST)
            .collect()
            .await;
        Ok(body.map_err(RequestFault::Body)?.to_bytes().to_vec())
    };
    let answer = timeout(PATIENCE, whole).await;
    let answer = answer.unwrap_or(Err(RequestFault::Timeout));
    answer.map_err(|fault| FetchFault::Request(url.to_string(), fault))
}

/// Why an issuer has no keys yet.
#[derive(Debug, thiserror::Error)]
enum FetchFault {
    #[error("{0}")]
    File(String, #[source] io::Error),
    #[error("{0}")]
    Request(String, #[source] RequestFault),
    #[error("the document {0}")]
    Document(#[source] Box<DocumentFault>),
}

/// Why a fetch of keys failed.
#[derive(Debug, thiserror::Error)]
enum RequestFault {
    #[error("the request cannot be made")]
    Request(#[from] hyper::http::Error),
    #[error(transparent)]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error(transparent)]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("it was answered {0}")]
    Status(StatusCode),
    #[error("no answer within {PATIENCE:?}")]
    Timeout,
}

#[cfg(test)]
mod tests;
