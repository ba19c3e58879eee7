//! Where a door listens: an address with a port, or a Unix socket with its mode. Must not know the protocol.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::domain::trust::Peer;
use doorward_rules::private;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

/// Why nothing can listen there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressFault {
    /// Neither `IP:PORT` nor `unix:PATH`.
    #[error(
        "{0:?} is not an address; write IP:PORT such as 127.0.0.1:9001 or [::]:9001, or unix:PATH"
    )]
    Syntax(String),
    /// The path of a directory, or no path.
    #[error("names no socket; write a path such as unix:/run/doorward/grpc.sock")]
    NoSocket,
    /// A socket without a file.
    #[error(
        "abstract sockets have no mode, so every process on the machine could ask; write a path"
    )]
    Abstract,
}

impl Address {
    /// Parses `IP:PORT` or `unix:PATH`.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressFault> {
        match text.strip_prefix("unix:") {
            None => {
                (text.parse().map(Self::Tcp)).map_err(|_| AddressFault::Syntax(text.to_owned()))
            }
            Some(path) if path.is_empty() || path.ends_with('/') => Err(AddressFault::NoSocket),
            Some(path) if path.starts_with('@') => Err(AddressFault::Abstract),
            Some(path) => Ok(Self::Unix(path.into())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Raises the limit of open files to the maximum that the system allows, and returns it. The default is often 1024, for
/// programs that use `select`.
#[must_use]
pub(crate) fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// An accepted connection.
pub(crate) type Socket = Either<TcpStream, UnixStream>;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Starts to listen. A Unix socket has `mode` before anybody can connect.
    ///
    /// # Errors
    ///
    /// The address is in use or not available.
    pub(crate) async fn bind(address: &Address, mode: u32) -> io::Result<Self> {
        Ok(Self(match address {
            Address::Tcp(address) => Kind::Tcp(TcpListener::bind(address).await?),
            Address::Unix(path) => {
                let (listener, file) = bind(path, mode)?;
                Kind::Unix(UnixListener::from_std(listener)?, file)
            }
        }))
    }

    /// Where it listens, with the port that the system chose.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn address(&self) -> io::Result<Address> {
        Ok(match &self.0 {
            Kind::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Kind::Unix(_, file) => Address::Unix(file.path.clone()),
        })
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// The error of the system, such as too many open files.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Without this, small answers wait for acknowledgements. If it fails, the connection ends soon anyway.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), Peer::Address(peer.ip())))
            }
            Kind::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), Peer::Socket))
            }
        }
    }
}

/// The file of a Unix socket; dropping this removes it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file.
    id: (u64, u64),
    /// Locked while the socket is in use, so that two processes never replace each other's socket.
    _lock: fs::File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn bind(path: &Path, mode: u32) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    let lock = lock(path)?;
    clear(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nothing can connect before `listen`.
    private::set_socket_mode(path, mode)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let file = SocketFile {
        id: identity(path)?,
        path: path.to_owned(),
        _lock: lock,
    };
    Ok((socket.into(), file))
}

/// A locked file next to the socket. It distinguishes a leftover socket from one in use.
fn lock(path: &Path) -> io::Result<fs::File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = fs::OpenOptions::new();
    let file = private::open(
        Path::new(&name),
        options.create(true).truncate(false).write(true),
    )?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(in_use("another Doorward listens there")),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the socket of a Doorward that was killed.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(in_use(
            "there is a file that is no socket; it is left alone",
        )),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(in_use("another program listens there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
        },
    }
}

fn in_use(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, why)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn an_address_is_an_ip_with_a_port_or_a_socket_path() {
        for (text, expected) in [
            ("127.0.0.1:9001", Some("127.0.0.1:9001")),
            ("[::]:0", Some("[::]:0")),
            ("unix:/run/d.sock", Some("unix:/run/d.sock")),
            ("unix:d.sock", Some("unix:d.sock")),
            ("unix:", None),
            ("unix:/run/", None),
            ("unix:@name", None),
            ("localhost:9001", None),
            ("/run/d.sock", None),
            ("", None),
        ] {
            let parsed = Address::parse(text).ok();
            assert_eq!(
                parsed.map(|address| address.to_string()).as_deref(),
                expected
            );
        }
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_is_removed_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address, 0o660).await.unwrap();
        assert_eq!(mode(&path), 0o660);
        assert_eq!(listener.address().unwrap(), address);
        let client = UnixStream::connect(&path).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, Peer::Socket);
        drop((client, listener));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = Address::Unix(path.clone());
        // Dropping a listener of the standard library leaves the socket file behind, as a kill does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = Listener::bind(&address, 0o600).await.unwrap();
        let fault = Listener::bind(&address, 0o600).await.unwrap_err();
        assert!(fault.to_string().contains("another Doorward"), "{fault}");
        assert!(path.exists());
        // A socket that another process put in its place is not removed.
        fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        let fault = Listener::bind(&address, 0o600).await.unwrap_err();
        assert!(fault.to_string().contains("another program"), "{fault}");
        drop(other);
        drop(Listener::bind(&address, 0o600).await.unwrap());
        fs::write(&path, "precious").unwrap();
        let fault = Listener::bind(&address, 0o600).await.unwrap_err();
        assert!(fault.to_string().contains("no socket"), "{fault}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
