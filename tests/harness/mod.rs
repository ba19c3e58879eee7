//! Real parts for tests, the demo, the benchmark and the matrix: Doorward, gateways, databases and a service. Each
//! starts on free ports in a temporary directory, and stops when its value is dropped.
//!
//! Must not know what the right answers are.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test or example uses only some of it, and panics if a part does not start"
)]

mod browser;
mod client;
mod clock;
mod credentials;
mod database;
mod doorward;
mod envoy;
mod example;
mod flask;
mod galera;
mod lighttpd;
mod mariadb;
mod mysql;
mod mysql_like;
mod postgres;
mod process;
mod proxies;
mod relay;
mod service;
mod sqlite;
mod standby;

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

pub use browser::Chromium;
pub use client::{Reply, ask_bytes, exchange, send, send_bytes, try_send, try_send_http2};
pub use clock::Clock;
pub use credentials::{basic, tampered};
pub use database::{Database, Engine, Server};
pub use doorward::{Doorward, Home, Ran, Settings};
pub use envoy::{Envoy, EnvoyConfig};
pub use example::{Example, Language};
pub use flask::Flask;
pub use galera::{Galera, Node};
pub use lighttpd::Lighttpd;
pub use mariadb::MariaDb;
pub use mysql::MySql;
pub use mysql_like::MySqlLike;
pub use postgres::{Postgres, postgres_command};
pub use process::{Process, fed};
pub use proxies::{Gateway, Proxy};
pub use relay::Relay;
pub use service::Service;
pub use sqlite::Sqlite;
pub use standby::{PostgresNode, PostgresPair};

/// The timeout for the start of a part.
pub const START: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// How long tests wait for what must happen but is not promised within a time, so that a busy machine does not fail them.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Calls `look` again and again until it returns a value.
///
/// # Panics
///
/// If there is no value within `limit`; `what` names the condition.
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

/// An address that nothing listens on now, for programs that cannot choose a free port themselves.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on 127.0.0.1")
}

/// An address that stays free when its program stops, for programs that restart: outgoing connections use 127.0.0.1
/// and take no ports of other loopback addresses.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let [_, _, process_high, process_low] = std::process::id().to_be_bytes();
    // Concurrent test programs have different process ids, and one program needs fewer addresses than an octet has
    // values.
    let address = Ipv4Addr::new(127, process_high.max(1), process_low, low ^ high);
    TcpListener::bind((address, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on an address of this machine")
}

/// A file or directory that `make tools` fetches, or `make test-mysql`.
pub fn tool(name: &str) -> PathBuf {
    let tools =
        env::var_os("DOORWARD_TOOLS").map_or_else(|| repository().join(".tools"), PathBuf::from);
    let path = tools.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `make {}`",
        path.display(),
        if name.starts_with("unstable") {
            "test-mysql"
        } else {
            "tools"
        }
    );
    path
}

/// Finds a program. Debian installs servers where only root's PATH looks.
pub fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .chain(postgres::programs())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("{name} is not installed: run `make test`, which says what is needed")
        })
}

/// The program `doorward`: the given one, or the one that was built beside the example that runs.
///
/// # Panics
///
/// If there is none.
pub fn doorward_binary(given: Option<&Path>) -> PathBuf {
    let beside = || {
        let own = env::current_exe().ok()?;
        Some(own.parent()?.parent()?.join("doorward"))
    };
    let path = given.map(Path::to_path_buf).or_else(beside);
    let path = path.unwrap_or_else(|| PathBuf::from("doorward"));
    fs::canonicalize(&path).unwrap_or_else(|fault| {
        panic!(
            "{}: {fault}; build it as this program was built, or name another with --doorward",
            path.display()
        )
    })
}

/// The root directory of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
