//! Pools of connections, one kind for each engine.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    MySqlPool, PgPool, SqlitePool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode},
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::place::{Server, Tls};

/// Sends no statement when a connection opens: proxies in front of a database pin or refuse sessions that use `SET`.
pub(super) fn mysql(server: &Server, connections: u32, timeout: Duration) -> MySqlPool {
    let options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .password(&server.password.0)
        .database(&server.name)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .ssl_mode(match server.tls {
            Tls::Disabled => MySqlSslMode::Disabled,
            Tls::Preferred => MySqlSslMode::Preferred,
            Tls::Required => MySqlSslMode::Required,
            Tls::VerifyCa => MySqlSslMode::VerifyCa,
            Tls::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        });
    let options = match &server.tls_ca {
        Some(ca) => options.ssl_ca(ca),
        None => options,
    };
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .connect_lazy_with(options)
}

/// When all connections of that time were found to lead to a standby, in milliseconds since the pool was made.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    made: Instant,
    at: Arc<AtomicU64>,
}

impl Default for Left {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            at: Arc::default(),
        }
    }
}

impl Left {
    fn millis(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn now(&self) {
        self.at.store(self.millis(), Ordering::Relaxed);
    }

    /// Whether a connection of this age was open at that time.
    fn includes(&self, age: Duration) -> bool {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.millis().saturating_sub(age) < self.at.load(Ordering::Relaxed)
    }
}

/// The startup message has only parameters that PgBouncer knows.
pub(super) fn postgres(server: &Server, connections: u32, timeout: Duration, left: Left) -> PgPool {
    // PostgreSQL does not offer TLS on a Unix socket.
    let tls = match server.host.starts_with('/') {
        true => Tls::Disabled,
        false => server.tls,
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .password(&server.password.0)
        .database(&server.name)
        .application_name("doorward")
        .extra_float_digits(None)
        .ssl_mode(match tls {
            Tls::Disabled => PgSslMode::Disable,
            Tls::Preferred => PgSslMode::Prefer,
            Tls::Required => PgSslMode::Require,
            Tls::VerifyCa => PgSslMode::VerifyCa,
            Tls::VerifyIdentity => PgSslMode::VerifyFull,
        });
    let options = match &server.tls_ca {
        Some(ca) => options.ssl_root_cert(ca),
        None => options,
    };
    PgPoolOptions::new()
        .max_connections(connections)
        // One that was in use when its server was left.
        .before_acquire(move |_, connection| {
            let is_good = !left.includes(connection.age);
            Box::pin(async move { Ok(is_good) })
        })
        .acquire_timeout(timeout)
        .connect_lazy_with(options)
}

pub(super) fn sqlite(path: &Path, connections: u32, timeout: Duration) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(timeout);
    SqlitePoolOptions::new()
        // Every SQLite connection needs a thread and a page cache.
        .max_connections(connections.min(4))
        .acquire_timeout(timeout)
        .connect_lazy_with(options)
}
