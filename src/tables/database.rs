//! A database: its address, its connections, and statements with a timeout. Knows no table.

mod fault;
mod migrations;
mod place;
mod pools;
mod statement;
mod statements;
mod value;
mod write;

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, MySqlPool, PgPool, Row as _, SqlitePool};

pub use self::place::{Database, Server, Tls};
use self::{fault::FaultKind, pools::Left, statements::StatementStats};
pub(crate) use self::{
    fault::{Fault, OfDatabase},
    migrations::{Migration, migration},
    place::UrlFault,
    statement::{end_transaction, form_for, is_clean, query, question_marks},
    value::{Inferred, StoredText},
    write::Write,
};
use doorward_rules::private::create_file;

/// The bits of `wsrep_sync_wait` for reads, and for `UPDATE` and `DELETE`.
const READS_AND_CHANGES: u8 = 3;

/// SQL of PostgreSQL for whether it takes no writes.
pub(crate) const IS_READ_ONLY: &str = "current_setting('transaction_read_only') = 'on'";

/// A pool of connections to one database.
#[derive(Clone, Debug)]
pub struct Connections {
    pub(crate) pool: Pool,
    pub(crate) timeout: Duration,
    pub(crate) statements: Arc<StatementStats>,
    left: Left,
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
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// The kind of a database, where the SQL differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    MySql,
    Postgres,
    Sqlite,
}

/// How a transaction of PostgreSQL begins, whatever the default of the database is.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Runs `$body` on one connection and awaits it, within the timeout counted from here. sqlx picks the engine by the
/// type of the connection, so the same code is compiled for all engines. The body returns a `Result` whose error can
/// be made from [`Fault`].
///
/// With PostgreSQL, the body runs in a transaction, and no prepared statement outlives it: PgBouncer may run each transaction
/// in another session, where a statement of the same name may belong to another client. With `bare`, the body itself begins the transaction.
macro_rules! ask {
    ($connections:expr, $connection:ident => $body:expr) => {
        crate::tables::database::ask!(@ask $connections, @transaction, $connection => $body)
    };
    (bare $connections:expr, $connection:ident => $body:expr) => {
        crate::tables::database::ask!(@ask $connections, @bare, $connection => $body)
    };
    (@ask $connections:expr, @$postgres:ident, $connection:ident => $body:expr) => {{
        let connections: &crate::tables::database::Connections = $connections;
        let deadline = ::tokio::time::Instant::now() + connections.timeout;
        let statements = &connections.statements;
        let answer = match &connections.pool {
            crate::tables::database::Pool::MySql(pool) => crate::tables::database::ask!(@on pool, statements, deadline, @bare, $connection => $body),
            crate::tables::database::Pool::Postgres(pool) => crate::tables::database::ask!(@on pool, statements, deadline, @$postgres, $connection => $body),
            crate::tables::database::Pool::Sqlite(pool) => crate::tables::database::ask!(@on pool, statements, deadline, @bare, $connection => $body),
        };
        statements.note(&answer);
        answer
    }};
    (@bare $held:ident, $connection:ident => $body:expr) => {{
        let $connection = &mut *$held;
        async { $body }.await
    }};
    (@transaction $held:ident, $connection:ident => $body:expr) => {{
        match ::sqlx::Connection::begin_with(&mut *$held, crate::tables::database::BEGIN).await {
            Err(error) => Err(crate::tables::database::Fault::from(error).into()),
            Ok(mut transaction) => {
                let answer = {
                    let $connection = &mut *transaction;
                    async { $body }.await
                };
                crate::tables::database::end_transaction(transaction, answer).await
            }
        }
    }};
    (@on $pool:expr, $statements:expr, $deadline:expr, @$mode:ident, $connection:ident => $body:expr) => {{
        match ::tokio::time::timeout_at($deadline, $pool.acquire()).await {
            Err(_) => Err(crate::tables::database::Fault::NoConnection.into()),
            Ok(Err(error)) => Err(crate::tables::database::Fault::from(error).into()),
            Ok(Ok(mut held)) => {
                let begun = ::tokio::time::Instant::now();
                let answer = ::tokio::time::timeout_at(
                    $deadline,
                    async { crate::tables::database::ask!(@$mode held, $connection => $body) },
                )
                .await;
                $statements.took(begun.elapsed());
                match answer {
                    Ok(answer) => {
                        if crate::tables::database::is_stale(&answer) || !crate::tables::database::is_clean(&held) {
                            held.close_on_drop();
                        }
                        answer
                    }
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

/// Whether the connection leads to a server that another one has replaced. A new connection may reach the right one.
pub(crate) fn is_stale<T, E: OfDatabase>(answer: &Result<T, E>) -> bool {
    let fault = answer.as_ref().err().and_then(OfDatabase::fault);
    matches!(fault, Some(Fault::ReadOnly))
}

impl Connections {
    /// Prepares the pool and opens no connection, so that Doorward can start while the database is down.
    ///
    /// # Errors
    ///
    /// The embedded database file cannot be created.
    pub fn open(database: &Database, most: u32, timeout: Duration) -> Result<Self, Fault> {
        let left = Left::default();
        let pool = match database {
            Database::MySql(server) => Pool::MySql(pools::mysql(server, most, timeout)),
            Database::Postgres(server) => {
                Pool::Postgres(pools::postgres(server, most, timeout, left.clone()))
            }
            Database::Sqlite(path) => {
                // SQLite gives the files next to it the same mode.
                create_file(path).map_err(Fault::File)?;
                Pool::Sqlite(pools::sqlite(path, most, timeout))
            }
        };
        Ok(Self {
            pool,
            timeout,
            statements: Arc::default(),
            left,
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
            Pool::Postgres(pool) => (
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
            Pool::Postgres(_) => Engine::Postgres,
            Pool::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// Closes the connections of PostgreSQL, those in use after their statement: they may lead to a server that another one has
    /// replaced.
    pub(crate) fn leave_server(&self) {
        self.left.now();
        if let Pool::Postgres(pool) = &self.pool {
            while let Some(mut idle) = pool.try_acquire() {
                idle.close_on_drop();
            }
        }
    }

    /// Whether this is a PostgreSQL that takes no writes: a standby, or a server that is set to read-only.
    pub(crate) async fn is_read_only(&self) -> Result<bool, Fault> {
        if self.engine() != Engine::Postgres {
            return Ok(false);
        }
        ask!(self, connection => {
            let row = query(AssertSqlSafe(format!("SELECT {IS_READ_ONLY}"))).fetch_one(connection).await?;
            let read_only: bool = row.try_get(0)?;
            Ok(read_only)
        })
    }

    /// Whether this is a node of a Galera cluster that may answer before it has applied the writes of other nodes.
    pub(crate) async fn answers_early(&self) -> Result<bool, Fault> {
        if self.engine() != Engine::MySql {
            return Ok(false);
        }
        ask!(self, connection => {
            let rows = query("SHOW VARIABLES WHERE Variable_name IN ('wsrep_on', 'wsrep_sync_wait')")
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
}
