//! A database: its address, its connections, and statements with a timeout. Knows no table.

mod fault;
mod place;
mod statements;
mod write;

use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};

use sqlx::{
    MySqlPool, Row as _, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use self::place::{Database, MySql, Tls};
use self::{fault::FaultKind, statements::StatementStats};
pub(crate) use self::{
    fault::{Fault, OfDatabase},
    place::UrlFault,
    write::Write,
};
use doorward_rules::private::create_file;

/// The bits of `wsrep_sync_wait` for reads, and for `UPDATE` and `DELETE`.
const READS_AND_CHANGES: u8 = 3;

/// A pool of connections to one database.
#[derive(Clone, Debug)]
pub struct Connections {
    pub(crate) pool: Pool,
    pub(crate) timeout: Duration,
    pub(crate) statements: Arc<StatementStats>,
}

/// Number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Open connections, in use or idle.
    pub(crate) all: usize,
    /// Open connections that are not in use.
    pub(crate) idle: usize,
    /// The limit of open connections.
    pub(crate) most: u32,
}

/// A pool for one kind of database.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    MySql(MySqlPool),
    Sqlite(SqlitePool),
}

/// The kind of a database, where the SQL differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    MySql,
    Sqlite,
}

/// Runs `$body` on one connection and awaits it, within the timeout counted from here. sqlx picks the engine by the
/// type of the connection, so the same code is compiled for both engines. The body returns a `Result` whose error can
/// be made from [`Fault`].
macro_rules! ask {
    ($connections:expr, $connection:ident => $body:expr) => {{
        let connections: &crate::tables::database::Connections = $connections;
        let deadline = ::tokio::time::Instant::now() + connections.timeout;
        let statements = &connections.statements;
        let answer = match &connections.pool {
            crate::tables::database::Pool::MySql(pool) => crate::tables::database::ask!(@on pool, statements, deadline, $connection => $body),
            crate::tables::database::Pool::Sqlite(pool) => crate::tables::database::ask!(@on pool, statements, deadline, $connection => $body),
        };
        statements.note(&answer);
        answer
    }};
    (@on $pool:expr, $statements:expr, $deadline:expr, $connection:ident => $body:expr) => {{
        match ::tokio::time::timeout_at($deadline, $pool.acquire()).await {
            Err(_) => Err(crate::tables::database::Fault::NoConnection.into()),
            Ok(Err(error)) => Err(crate::tables::database::Fault::from(error).into()),
            Ok(Ok(mut held)) => {
                let begun = ::tokio::time::Instant::now();
                let answer = {
                    let $connection = &mut *held;
                    ::tokio::time::timeout_at($deadline, async { $body }).await
                };
                $statements.took(begun.elapsed());
                match answer {
                    Ok(answer) => answer,
                    Err(_) => {
                        // The pool would ping a returned connection first, and a dead peer does not answer.
                        held.close_on_drop();
                        Err(crate::tables::database::Fault::Timeout.into())
                    }
                }
            }
        }
    }};
}
pub(crate) use ask;

/// Question marks for a list of this many values.
pub(crate) fn question_marks(values: usize) -> String {
    vec!["?"; values].join(", ")
}

impl Connections {
    /// Prepares the pool and opens no connection, so that Doorward can start while the database is down.
    ///
    /// # Errors
    ///
    /// The embedded database file cannot be created.
    pub fn open(database: &Database, most: u32, timeout: Duration) -> Result<Self, Fault> {
        let pool = match database {
            Database::MySql(mysql) => Pool::MySql(mysql_pool(mysql, most, timeout)),
            Database::Sqlite(path) => {
                // SQLite gives the files next to it the same mode.
                create_file(path).map_err(Fault::File)?;
                Pool::Sqlite(sqlite_pool(path, most, timeout))
            }
        };
        Ok(Self {
            pool,
            timeout,
            statements: Arc::default(),
        })
    }

    /// The current number of connections.
    pub(crate) fn open_now(&self) -> Open {
        let (all, idle, most) = match &self.pool {
            Pool::MySql(pool) => (
                pool.size(),
                pool.num_idle(),
                pool.options().get_max_connections(),
            ),
            Pool::Sqlite(pool) => (
                pool.size(),
                pool.num_idle(),
                pool.options().get_max_connections(),
            ),
        };
        let all = usize::try_from(all).unwrap_or(usize::MAX);
        // The two numbers are read one after the other and may change in between.
        let idle = idle.min(all);
        Open { all, idle, most }
    }

    pub(crate) fn engine(&self) -> Engine {
        match &self.pool {
            Pool::MySql(_) => Engine::MySql,
            Pool::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// Whether this is a node of a Galera cluster that may answer before it has applied the writes of other nodes.
    pub(crate) async fn answers_early(&self) -> Result<bool, Fault> {
        if self.engine() == Engine::Sqlite {
            return Ok(false);
        }
        ask!(self, connection => {
            let rows = sqlx::query("SHOW VARIABLES WHERE Variable_name IN ('wsrep_on', 'wsrep_sync_wait')")
                .fetch_all(connection)
                .await?;
            let (mut is_node, mut waits) = (false, 0_u8);
            for row in &rows {
                let value: String = row.try_get(1)?;
                match &*row.try_get::<String, _>(0)? {
                    "wsrep_on" => is_node = value == "ON",
                    _ => waits = value.parse().unwrap_or(0),
                }
            }
            Ok(is_node && waits & READS_AND_CHANGES != READS_AND_CHANGES)
        })
    }

    /// Creates the tables that do not exist yet, one statement each, and records their numbers.
    pub(crate) async fn migrate(
        &self,
        tables: &[(i64, &'static str, [&'static str; 2])],
    ) -> Result<(), Fault> {
        let migrations = tables.iter().map(|(number, name, [mysql, sqlite])| {
            let sql = match self.engine() {
                Engine::MySql => mysql,
                Engine::Sqlite => sqlite,
            };
            let sql = sqlx::SqlSafeStr::into_sql_str(*sql);
            Migration::new(
                *number,
                Cow::Borrowed(*name),
                MigrationType::Simple,
                sql,
                false,
            )
        });
        let mut migrator = Migrator::with_migrations(migrations.collect());
        migrator.dangerous_set_table_name("doorward_migrations");
        // The user table and Doorward's own tables may be in one database or in two.
        migrator.set_ignore_missing(true);
        // Locks belong to sessions, and proxies in front of a database do not support them.
        migrator.set_locking(false);
        match &self.pool {
            Pool::MySql(pool) => migrator.run(pool).await,
            Pool::Sqlite(pool) => migrator.run(pool).await,
        }
        .map_err(Fault::Migrate)
    }
}

/// Sends no statement when a connection opens: proxies in front of a database pin or refuse sessions that use `SET`.
fn mysql_pool(mysql: &MySql, connections: u32, timeout: Duration) -> MySqlPool {
    let options = MySqlConnectOptions::new()
        .host(&mysql.host)
        .port(mysql.port)
        .username(&mysql.user)
        .password(&mysql.password.0)
        .database(&mysql.name)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .ssl_mode(match mysql.tls {
            Tls::Disabled => MySqlSslMode::Disabled,
            Tls::Preferred => MySqlSslMode::Preferred,
            Tls::Required => MySqlSslMode::Required,
            Tls::VerifyCa => MySqlSslMode::VerifyCa,
            Tls::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        });
    let options = match &mysql.tls_ca {
        Some(ca) => options.ssl_ca(ca),
        None => options,
    };
    MySqlPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .connect_lazy_with(options)
}

fn sqlite_pool(path: &Path, connections: u32, timeout: Duration) -> SqlitePool {
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
