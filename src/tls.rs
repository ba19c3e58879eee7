//! TLS of the doors: one certificate with its key, exchanged while Doorward serves.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use zeroize::Zeroizing;

use crate::files::Files;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where the certificate and its key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The chain, the door's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Pair {
    /// Reads both, and holds them against each other.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is not PEM, or a key of another certificate.
    pub fn read(&self, files: &Files) -> anyhow::Result<CertifiedKey> {
        let chain = pem(files, &self.certificate, "listen.tls_certificate")?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let chain = chain
            .with_context(|| format!("listen.tls_certificate: {}", self.certificate.display()))?;
        if chain.is_empty() {
            bail!(
                "listen.tls_certificate: {} holds no certificate",
                self.certificate.display()
            );
        }
        let key = pem(files, &self.key, "listen.tls_key")?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .with_context(|| format!("listen.tls_key: {}", self.key.display()))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        certified.with_context(|| {
            format!(
                "listen.tls_key: {} is not the key of the certificate in {}",
                self.key.display(),
                self.certificate.display()
            )
        })
    }
}

fn pem(files: &Files, path: &Path, setting: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let read = files.read(path);
    read.with_context(|| format!("{setting}: {}", path.display()))
}

/// The certificate that is shown.
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// Shows this one.
    #[must_use]
    pub fn new(certified: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(certified)))
    }

    /// Shows another one to whoever connects from here on.
    pub fn exchange(&self, certified: CertifiedKey) {
        self.0.store(Arc::new(certified));
    }

    /// Accepts TLS 1.2 and 1.3 for a protocol (`h2` or `http/1.1`).
    ///
    /// # Errors
    ///
    /// The library has no such versions.
    pub fn acceptor(self: &Arc<Self>, protocol: &str) -> Result<TlsAcceptor, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(..)")
    }
}

/// A connection, plain or not.
#[derive(Debug)]
pub enum Stream {
    /// As it came.
    Plain(TcpStream),
    /// Within TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Shakes hands, where there is an acceptor.
    ///
    /// # Errors
    ///
    /// The other side breaks off, is too slow, or speaks no TLS.
    pub async fn open(stream: TcpStream, acceptor: Option<&TlsAcceptor>) -> io::Result<Self> {
        match acceptor {
            None => Ok(Self::Plain(stream)),
            Some(acceptor) => {
                let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await??;
                Ok(Self::Tls(Box::new(stream)))
            }
        }
    }

    /// The connection below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
