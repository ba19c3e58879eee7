//! Sends a check as it is: without normalising paths, following redirects, or merging headers.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{
    Request, Uri,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, HOST, WWW_AUTHENTICATE},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::time::timeout;

use super::plan::Check;
use crate::domain::probe::HEADER;

/// A gateway.
pub(super) struct Client {
    connections: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Scheme and authority.
    base: String,
    host: String,
    limit: Duration,
}

/// What an answer says about who made it.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) challenges: Vec<String>,
    pub(super) allows_origin: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskFault {
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("{}", causes(.0))]
    Connection(#[from] legacy::Error),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

impl Client {
    pub(super) fn new(url: &str, ca: Option<&Path>, limit: Duration) -> anyhow::Result<Self> {
        const WRONG: &str =
            "the URL of the gateway: write a scheme and a host, such as https://gateway.example";
        // Never shown: it may contain a password.
        let url = url::Url::parse(url).ok().context(WRONG)?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && matches!(url.path(), "" | "/")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        ensure!(is_plain, WRONG);
        let host = url.host_str().context(WRONG)?;
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            connections: legacy::Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector(ca)?),
            base: format!("{}://{host}", url.scheme()),
            host,
            limit,
        })
    }

    /// The authority of the gateway.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) async fn ask(&self, check: &Check, question: &str) -> Result<Answer, AskFault> {
        let uri: Uri = format!("{}{}", self.base, check.target)
            .parse()
            .map_err(hyper::http::Error::from)?;
        let mut request = Request::builder()
            .method(&*check.method)
            .uri(uri)
            .header(HOST, &check.host)
            .header(HEADER, question);
        for (name, value) in &check.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new())?;
        let answer = timeout(self.limit, self.connections.request(request));
        let answer = (answer.await).map_err(|_| AskFault::Timeout(self.limit))??;
        let headers = answer.headers();
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        Ok(Answer {
            status: answer.status().as_u16(),
            challenges: challenges
                .filter_map(|challenge| challenge.to_str().ok().map(str::to_owned))
                .collect(),
            allows_origin: headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN),
        })
    }
}

fn connector(ca: Option<&Path>) -> anyhow::Result<HttpsConnector<HttpConnector>> {
    let builder = HttpsConnectorBuilder::new();
    let builder = match ca {
        None => builder.with_webpki_roots(),
        Some(file) => {
            let text = fs::read(file)
                .with_context(|| format!("--ca: {} cannot be read", file.display()))?;
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(&text) {
                roots.add(certificate.context("--ca: not a certificate")?)?;
            }
            ensure!(
                !roots.is_empty(),
                "--ca: {} has no certificate",
                file.display()
            );
            let config = ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth();
            builder.with_tls_config(config)
        }
    };
    Ok(builder.https_or_http().enable_http1().build())
}

fn causes(fault: &legacy::Error) -> String {
    crate::observe::causes(fault).to_string()
}
