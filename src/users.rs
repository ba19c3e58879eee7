//! The user table. Owns the SQL, the same for SQLite, MariaDB and MySQL; knows nothing of who may log in.

mod database;

use std::{
    borrow::Cow,
    fmt, io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) use database::create_private_dir;
pub use database::{Database, DatabasePassword, MySql, Tls, UrlFault};
use sqlx::{
    Error, MySqlPool, Row as _, SqlSafeStr as _, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};
use tokio::time::{Instant, timeout_at};

use crate::domain::{
    account::{Account, Roles, Username},
    password::PasswordHash,
};

/// The users of one database.
#[derive(Clone, Debug)]
pub struct Users {
    pool: Pool,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Pool {
    MySql(MySqlPool),
    Sqlite(SqlitePool),
}

/// Runs the same code on either pool: sqlx decides the engine by the type of what a query runs on.
macro_rules! on_pool {
    ($users:expr, $pool:ident => $body:expr) => {
        match &$users.pool {
            Pool::MySql($pool) => $body,
            Pool::Sqlite($pool) => $body,
        }
    };
}

/// A row that the table holds, for people.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Listed {
    /// The immutable id.
    pub id: String,
    /// The name.
    pub username: String,
    /// The roles.
    pub roles: Vec<String>,
    /// Whether logins are refused.
    pub disabled: bool,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// What kept the user table from answering.
#[derive(Debug)]
pub enum UsersFault {
    /// No answer in time.
    Timeout,
    /// No connection in time.
    NoConnection,
    /// The database refused, or could not be reached.
    Database(Error),
    /// The database wants the password, and the connection is one that others can read.
    Unprotected,
    /// The table is not there.
    NotMigrated,
    /// A row that no account can be made of; the word says which part of it.
    Row(&'static str),
    /// There is a user of that name.
    Exists,
    /// There is no user of that name.
    Unknown,
    /// A table `users` that is not ours.
    Foreign,
    /// The embedded database cannot be made or opened.
    File(io::Error),
    /// The tables could not be brought up to date.
    Migrate(MigrateError),
}

impl fmt::Display for UsersFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("the database did not answer in time"),
            Self::NoConnection => {
                f.write_str("no connection to the database could be opened in time")
            }
            Self::Database(error) => write!(f, "the database cannot be asked: {error}"),
            Self::Unprotected => f.write_str(
                "the database takes the password only where nobody else can read it, and this connection has no TLS; check database.tls and that the server offers it",
            ),
            Self::NotMigrated => {
                f.write_str("the database has no table of ours; make it with: doorward migrate")
            }
            Self::Row(part) => write!(f, "the row of the user has a malformed {part}"),
            Self::Exists => f.write_str("there is a user of that name already"),
            Self::Unknown => f.write_str("there is no user of that name"),
            Self::Foreign => f.write_str(
                "the database has a table \"users\" that Doorward did not make; use another database, or rename the table",
            ),
            Self::File(error) => write!(f, "the embedded database cannot be opened: {error}"),
            Self::Migrate(error) => write!(f, "the tables could not be made: {error}"),
        }
    }
}

impl std::error::Error for UsersFault {}

impl From<Error> for UsersFault {
    fn from(error: Error) -> Self {
        if matches!(error, Error::PoolTimedOut) {
            return Self::NoConnection;
        }
        // MySQL's `caching_sha2_password` without TLS; sqlx's own words name features of Cargo.
        if matches!(&error, Error::Configuration(said) if said.to_string().starts_with("RSA ")) {
            return Self::Unprotected;
        }
        if let Some(said) = error.as_database_error() {
            if said.is_unique_violation() {
                return Self::Exists;
            }
            if is_missing_table(said) {
                return Self::NotMigrated;
            }
        }
        Self::Database(error)
    }
}

/// MySQL's ER_NO_SUCH_TABLE; SQLite has one code for every error of a statement.
fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().as_deref() == Some("42S02") || error.message().starts_with("no such table")
}

impl Users {
    /// Prepares connections and opens none, so a database that is away does not keep anybody from starting.
    ///
    /// # Errors
    ///
    /// The embedded database file cannot be made.
    pub fn open(
        database: &Database,
        connections: u32,
        timeout: Duration,
    ) -> Result<Self, UsersFault> {
        let pool = match database {
            Database::MySql(mysql) => {
                Pool::MySql(database::mysql_pool(mysql, connections, timeout))
            }
            Database::Sqlite(path) => {
                database::create_private_file(path).map_err(UsersFault::File)?;
                Pool::Sqlite(database::sqlite_pool(path, connections, timeout))
            }
        };
        Ok(Self { pool, timeout })
    }

    /// Makes the tables, or brings them up to date.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, or holds a `users` table of somebody else.
    pub async fn migrate(&self) -> Result<(), UsersFault> {
        let foreign = on_pool!(self, pool => {
            match sqlx::query(MIGRATED).fetch_optional(pool).await.map_err(UsersFault::from) {
                Ok(_) => false,
                Err(UsersFault::NotMigrated) => {
                    sqlx::query(ANY_USER).fetch_optional(pool).await.is_ok()
                }
                Err(fault) => return Err(fault),
            }
        });
        if foreign {
            return Err(UsersFault::Foreign);
        }
        let sql = match &self.pool {
            Pool::MySql(_) => include_str!("users/mysql.sql"),
            Pool::Sqlite(_) => include_str!("users/sqlite.sql"),
        };
        let users = Migration::new(
            1,
            Cow::Borrowed("users"),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        );
        let mut migrator = Migrator::with_migrations(vec![users]);
        migrator.dangerous_set_table_name("doorward_migrations");
        // A lock is a session's, and proxies in front of a database have none to give.
        migrator.set_locking(false);
        on_pool!(self, pool => migrator.run(pool).await).map_err(UsersFault::Migrate)
    }

    /// Fetches the account that the database takes for this name; a collation may make it somebody else's.
    ///
    /// # Errors
    ///
    /// No answer within the time, counted from the call.
    pub async fn find(&self, username: &Username) -> Result<Option<Account>, UsersFault> {
        let deadline = Instant::now() + self.timeout;
        on_pool!(self, pool => {
            let mut connection = timeout_at(deadline, pool.acquire())
                .await
                .map_err(|_| UsersFault::NoConnection)??;
            let rows = sqlx::query(
                "SELECT id, username, password_hash, roles, disabled FROM users WHERE username = ? LIMIT 2",
            )
            .bind(username.as_str())
            .fetch_all(&mut *connection);
            let Ok(rows) = timeout_at(deadline, rows).await else {
                // Given back, it would be pinged first, and a dead peer does not answer.
                connection.close_on_drop();
                return Err(UsersFault::Timeout);
            };
            match &*rows? {
                [] => Ok(None),
                [row] => Ok(Some(Account {
                    id: row.try_get("id")?,
                    username: text(row.try_get("username")?)
                        .and_then(|name| Username::parse(&name))
                        .ok_or(UsersFault::Row("name"))?,
                    hash: PasswordHash::new(row.try_get("password_hash")?),
                    roles: Roles::parse_list(&row.try_get::<String, _>("roles")?)
                        .map_err(|_| UsersFault::Row("list of roles"))?,
                    disabled: row.try_get("disabled")?,
                })),
                [..] => Err(UsersFault::Row("name: several users share it")),
            }
        })
    }

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Exists`], or what kept the database from answering.
    pub async fn add(
        &self,
        username: &Username,
        hash: &PasswordHash,
        roles: &Roles,
    ) -> Result<(), UsersFault> {
        let (id, now) = (uuid::Uuid::now_v7().to_string(), now());
        on_pool!(self, pool => {
            sqlx::query(
                "INSERT INTO users (id, username, password_hash, roles, disabled, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(id)
            .bind(username.as_str())
            .bind(hash.expose())
            .bind(roles.to_string())
            .bind(false)
            .bind(now)
            .bind(now)
            .execute(pool)
            .await?;
        });
        Ok(())
    }

    /// Replaces a user's password hash.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from answering.
    pub async fn set_hash(
        &self,
        username: &Username,
        hash: &PasswordHash,
    ) -> Result<(), UsersFault> {
        one(on_pool!(self, pool => {
            sqlx::query("UPDATE users SET password_hash = ?, updated_at = ? WHERE username = ?")
                .bind(hash.expose())
                .bind(now())
                .bind(username.as_str())
                .execute(pool)
                .await?
                .rows_affected()
        }))
    }

    /// Replaces a user's roles.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from answering.
    pub async fn set_roles(&self, username: &Username, roles: &Roles) -> Result<(), UsersFault> {
        one(on_pool!(self, pool => {
            sqlx::query("UPDATE users SET roles = ?, updated_at = ? WHERE username = ?")
                .bind(roles.to_string())
                .bind(now())
                .bind(username.as_str())
                .execute(pool)
                .await?
                .rows_affected()
        }))
    }

    /// Refuses a user's logins.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from answering.
    pub async fn disable(&self, username: &Username) -> Result<(), UsersFault> {
        self.set_disabled(username, true).await
    }

    /// Accepts a user's logins again.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from answering.
    pub async fn enable(&self, username: &Username) -> Result<(), UsersFault> {
        self.set_disabled(username, false).await
    }

    async fn set_disabled(&self, username: &Username, disabled: bool) -> Result<(), UsersFault> {
        one(on_pool!(self, pool => {
            sqlx::query("UPDATE users SET disabled = ?, updated_at = ? WHERE username = ?")
                .bind(disabled)
                .bind(now())
                .bind(username.as_str())
                .execute(pool)
                .await?
                .rows_affected()
        }))
    }

    /// Removes a user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from answering.
    pub async fn remove(&self, username: &Username) -> Result<(), UsersFault> {
        one(on_pool!(self, pool => {
            sqlx::query("DELETE FROM users WHERE username = ?")
                .bind(username.as_str())
                .execute(pool)
                .await?
                .rows_affected()
        }))
    }

    /// Every user, by name.
    ///
    /// # Errors
    ///
    /// What kept the database from answering.
    pub async fn list(&self) -> Result<Vec<Listed>, UsersFault> {
        on_pool!(self, pool => {
            sqlx::query("SELECT id, username, roles, disabled, created_at FROM users ORDER BY username")
                .fetch_all(pool)
                .await?
                .iter()
                .map(|row| {
                    let roles = Roles::parse_list(&row.try_get::<String, _>("roles")?)
                        .map_err(|_| UsersFault::Row("list of roles"))?;
                    Ok(Listed {
                        id: row.try_get("id")?,
                        username: text(row.try_get("username")?).ok_or(UsersFault::Row("name"))?,
                        roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
                        disabled: row.try_get("disabled")?,
                        created_at: row.try_get("created_at")?,
                    })
                })
                .collect()
        })
    }

    /// Asks the table whether it is there.
    ///
    /// # Errors
    ///
    /// What kept the database from answering.
    pub async fn probe(&self) -> Result<(), UsersFault> {
        on_pool!(self, pool => {
            sqlx::query(ANY_USER).fetch_optional(pool).await?;
        });
        Ok(())
    }
}

const MIGRATED: &str = "SELECT 1 FROM doorward_migrations LIMIT 1";

const ANY_USER: &str = "SELECT 1 FROM users LIMIT 1";

/// MySQL's VARBINARY compares byte for byte, and is bytes for sqlx too.
fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok()
}

fn one(rows: u64) -> Result<(), UsersFault> {
    match rows {
        0 => Err(UsersFault::Unknown),
        _ => Ok(()),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
