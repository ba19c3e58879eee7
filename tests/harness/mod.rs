//! Real parts for tests and for the demo: Doorward itself, Envoy, databases and a service, each started on free ports in
//! a temporary directory and stopped when its value is dropped.
//!
//! Must not know what any of them ought to answer.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shared by tests and an example that each use a part of it, and a part that does not start ends either"
)]

mod client;
mod database;
mod doorward;
mod envoy;
mod flask;
mod galera;
mod mariadb;
mod mysql;
mod process;
mod proxies;
mod service;
mod sqlite;

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

pub use client::{Reply, exchange, send, send_bytes, send_http2, try_send};
pub use database::{Database, Engine, Server};
pub use doorward::{Doorward, Home, Ran, Settings};
pub use envoy::{Envoy, EnvoyConfig};
pub use flask::Flask;
pub use galera::{Galera, Node};
pub use mariadb::MariaDb;
pub use mysql::MySql;
pub use process::{Process, fed};
pub use proxies::{Gateway, Proxy};
pub use service::Service;
pub use sqlite::Sqlite;

/// How long a part may take to start.
pub const START: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until there is something to see.
///
/// # Panics
///
/// If there is nothing after `limit`; `what` says what was awaited.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(
            start.elapsed() < limit,
            "after {limit:?}, still not: {what}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// An address that nobody listens on at this moment, for programs that cannot choose one themselves.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on 127.0.0.1")
}

/// An address that stays free while nobody listens there, for what is started again and again: connections leave from
/// 127.0.0.1, and take no port of another address of this machine.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let [_, _, process_high, process_low] = std::process::id().to_be_bytes();
    // Two test programs at once have other process numbers, and one has not as many addresses as an octet has values.
    let address = Ipv4Addr::new(127, process_high.max(1), process_low, low ^ high);
    TcpListener::bind((address, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on an address of this machine")
}

/// A file or folder that `make tools` or `make test-mysql` has fetched.
pub fn tool(name: &str) -> PathBuf {
    let tools =
        env::var_os("DOORWARD_TOOLS").map_or_else(|| repository().join(".tools"), PathBuf::from);
    let path = tools.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make {}`",
        path.display(),
        if name.starts_with("mysql") {
            "test-mysql"
        } else {
            "tools"
        }
    );
    path
}

/// Debian keeps servers where only the path of root looks.
pub fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("{name} is not installed: run `make test`, which says what is needed")
        })
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
