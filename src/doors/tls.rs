//! TLS at the doors: Doorward's certificate and key, and which client certificates are required. Replaced as a whole
//! while Doorward serves.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use crate::doors::listen::Socket;
use doorward_rules::files::Files;

/// The timeout of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// PEM files of the certificate and the key, and the client certificates that are required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The certificate chain; Doorward's own certificate is first.
    pub(crate) certificate: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
    /// Which clients may connect; `None` for all.
    pub(crate) clients: Option<Clients>,
}

/// Which client certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clients {
    /// The certificate authorities that issue them, in PEM.
    pub(crate) authorities: PathBuf,
    /// A certificate must have one of these names; if empty, every certificate of the authorities is accepted.
    pub(crate) names: Vec<ClientName>,
}

/// A subject alternative name (RFC 5280, 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientName {
    /// A URI such as `spiffe://cluster.local/ns/gateway/sa/envoy`, compared byte for byte.
    Uri(String),
    /// A DNS name such as `envoy.example.com`, compared without regard to case.
    Dns(String),
}

/// Why a text is not a subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a certificate; write a DNS name such as envoy.example.com or a URI such as spiffe://cluster.local/ns/gateway/sa/envoy"
)]
pub(crate) struct ClientNameFault(String);

impl ClientName {
    /// Parses a URI or a DNS name.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, ClientNameFault> {
        let visible = text.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
        let is_name = |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.');
        match text.split_once("://") {
            Some((scheme, rest)) if visible && !scheme.is_empty() && !rest.is_empty() => {
                Ok(Self::Uri(text.to_owned()))
            }
            None if !text.is_empty() && text.bytes().all(is_name) => Ok(Self::Dns(text.to_owned())),
            Some(_) | None => Err(ClientNameFault(text.to_owned())),
        }
    }

    fn is_of(&self, certificate: &EndEntityCert<'_>) -> bool {
        match self {
            Self::Uri(own) => certificate.valid_uri_names().any(|name| name == own),
            Self::Dns(own) => certificate
                .valid_dns_names()
                .any(|name| name.eq_ignore_ascii_case(own)),
        }
    }
}

impl Terms {
    /// Reads all files, and checks that the key belongs to the certificate.
    ///
    /// # Errors
    ///
    /// A file cannot be read or is not PEM, or the key belongs to another certificate.
    pub(crate) fn read(&self, files: &Files) -> anyhow::Result<Config> {
        let chain = certificates(files, &self.certificate, "listen.tls_certificate")?;
        let certificate = chain
            .first()
            .cloned()
            .context("the certificate chain is empty")?;
        let key = pem(files, &self.key, "listen.tls_key")?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .with_context(|| format!("listen.tls_key: {}", self.key.display()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients.verifier(files, provider)?),
        };
        let server = builder.with_single_cert(chain, key).with_context(|| {
            format!(
                "listen.tls_key: {} is not the key of the certificate in {}",
                self.key.display(),
                self.certificate.display()
            )
        })?;
        Ok(Config {
            server,
            certificate,
        })
    }
}

impl Clients {
    fn verifier(
        &self,
        files: &Files,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
        const SETTING: &str = "listen.tls_client_ca";
        let place = || format!("{SETTING}: {}", self.authorities.display());
        let mut roots = RootCertStore::empty();
        for authority in certificates(files, &self.authorities, SETTING)? {
            roots.add(authority).with_context(place)?;
        }
        let issued = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .with_context(place)?;
        Ok(match &*self.names {
            [] => issued,
            names => Arc::new(Named {
                issued,
                names: names.to_vec(),
            }),
        })
    }
}

/// Accepts a certificate that another verifier accepts, if it has one of the names.
#[derive(Debug)]
struct Named {
    issued: Arc<dyn ClientCertVerifier>,
    names: Vec<ClientName>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = (self.issued).verify_client_cert(end_entity, intermediates, now)?;
        let refused = |fault| Err(rustls::Error::InvalidCertificate(fault));
        match EndEntityCert::try_from(end_entity) {
            Ok(certificate) if self.names.iter().any(|name| name.is_of(&certificate)) => {
                Ok(verified)
            }
            Ok(_) => refused(CertificateError::ApplicationVerificationFailure),
            Err(_) => refused(CertificateError::BadEncoding),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        (self.issued).verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        (self.issued).verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

fn certificates(
    files: &Files,
    path: &Path,
    setting: &str,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = pem(files, path, setting)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.with_context(|| format!("{setting}: {}", path.display()))?;
    if chain.is_empty() {
        bail!("{setting}: {} holds no certificate", path.display());
    }
    Ok(chain)
}

fn pem(files: &Files, path: &Path, setting: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let read = files.read(path);
    read.with_context(|| format!("{setting}: {}", path.display()))
}

/// A certificate, its key, and the requirements for clients; read from files and checked.
#[derive(Debug)]
pub(crate) struct Config {
    server: ServerConfig,
    certificate: CertificateDer<'static>,
}

/// The protocol inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/2, for gRPC.
    Http2,
    /// HTTP/1.1.
    Http1,
}

/// The TLS configuration currently in force.
pub(crate) struct Tls(ArcSwap<Acceptors>);

struct Acceptors {
    http2: TlsAcceptor,
    http1: TlsAcceptor,
    certificate: CertificateDer<'static>,
}

impl Tls {
    /// Serves TLS 1.2 and 1.3 with this configuration.
    #[must_use]
    pub(crate) fn new(config: Config) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Acceptors::new(config))))
    }

    /// Replaces the configuration for new connections. Old TLS sessions are not resumed; otherwise a client whose
    /// certificate is no longer accepted could connect with one.
    pub(crate) fn exchange(&self, config: Config) {
        self.0.store(Arc::new(Acceptors::new(config)));
    }

    /// Doorward's own certificate, in DER.
    #[must_use]
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.load().certificate.clone()
    }

    async fn accept(
        &self,
        protocol: Protocol,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = {
            let acceptors = self.0.load();
            match protocol {
                Protocol::Http2 => acceptors.http2.clone(),
                Protocol::Http1 => acceptors.http1.clone(),
            }
        };
        timeout(HANDSHAKE, acceptor.accept(stream)).await?
    }
}

impl Acceptors {
    fn new(config: Config) -> Self {
        let Config {
            server,
            certificate,
        } = config;
        let acceptor = |protocol: &[u8]| {
            let mut server = server.clone();
            server.alpn_protocols = vec![protocol.to_vec()];
            TlsAcceptor::from(Arc::new(server))
        };
        Self {
            certificate,
            http2: acceptor(b"h2"),
            http1: acceptor(b"http/1.1"),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// A connection, plain or with TLS.
pub(crate) type Stream = Either<Socket, Box<TlsStream<TcpStream>>>;

/// Performs the handshake, if TLS is on. A Unix socket is always plain: its mode decides who may connect.
///
/// # Errors
///
/// The client breaks off, is too slow, does not speak TLS, or has no acceptable certificate.
pub(crate) async fn open(socket: Socket, tls: Option<(&Tls, Protocol)>) -> io::Result<Stream> {
    match (socket, tls) {
        (Either::Left(stream), Some((tls, protocol))) => {
            let stream = tls.accept(protocol, stream).await?;
            Ok(Either::Right(Box::new(stream)))
        }
        (plain, _) => Ok(Either::Left(plain)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_names_are_dns_names_or_uris() {
        for (text, expected) in [
            ("envoy.example.com", true),
            ("spiffe://cluster.local/ns/gateway/sa/envoy", true),
            ("", false),
            ("*.example.com", false),
            ("two words", false),
            ("://x", false),
            ("spiffe://", false),
            ("spiffe://a b", false),
        ] {
            assert_eq!(ClientName::parse(text).is_ok(), expected, "{text}");
        }
    }
}
