//! Creates the tables that do not exist yet, and records which do.

use std::borrow::Cow;

use sqlx::{
    Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{self, MigrateError, MigrationType, Migrator},
};

use super::{BEGIN, Connections, Engine, Fault, Pool};

/// Creates a table or an index: its number, its name, and its SQL for each engine.
pub(crate) struct Migration {
    pub(crate) number: i64,
    pub(crate) name: &'static str,
    pub(crate) mysql: &'static str,
    pub(crate) postgres: &'static str,
    pub(crate) sqlite: &'static str,
}

impl Migration {
    /// The same statement for every engine.
    pub(crate) const fn for_all(number: i64, name: &'static str, sql: &'static str) -> Self {
        Self {
            number,
            name,
            mysql: sql,
            postgres: sql,
            sqlite: sql,
        }
    }
}

/// A migration with one file for each engine: `$files` is the beginning of their paths.
macro_rules! migration {
    ($number:literal, $name:literal, $files:literal) => {
        crate::tables::database::Migration {
            number: $number,
            name: $name,
            mysql: include_str!(concat!($files, "mysql.sql")),
            postgres: include_str!(concat!($files, "postgres.sql")),
            sqlite: include_str!(concat!($files, "sqlite.sql")),
        }
    };
}
pub(crate) use migration;

impl Connections {
    /// Creates the tables that do not exist yet, and records their numbers.
    pub(crate) async fn migrate(&self, tables: &[Migration]) -> Result<(), Fault> {
        let migrations = tables.iter().map(|table| {
            let sql = match self.engine() {
                Engine::MySql => table.mysql,
                Engine::Postgres => table.postgres,
                Engine::Sqlite => table.sqlite,
            };
            migrate::Migration::new(
                table.number,
                Cow::Borrowed(table.name),
                MigrationType::Simple,
                sql.into_sql_str(),
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
            Pool::Postgres(pool) => match pool.acquire().await {
                Ok(mut connection) => in_one_transaction(&migrator, &mut connection).await,
                Err(error) => Err(error.into()),
            },
            Pool::Sqlite(pool) => migrator.run(pool).await,
        }
        .map_err(Fault::from)
    }
}

/// Creates all tables or none. The lock admits one program at a time and ends with the transaction, so it works behind PgBouncer.
async fn in_one_transaction(
    migrator: &Migrator,
    connection: &mut PgConnection,
) -> Result<(), MigrateError> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    sqlx::raw_sql(LOCK).execute(&mut *transaction).await?;
    migrator.run_direct(None, &mut *transaction, false).await?;
    // The migrator names its statements, which must not stay in a session of PgBouncer.
    transaction.clear_cached_statements().await?;
    Ok(transaction.commit().await?)
}

/// The number is "doorward" in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7237125663627506276)";
