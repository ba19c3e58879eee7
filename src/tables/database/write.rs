//! Writes as values, and running them: all of them or none.

use std::{borrow::Cow, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _};
use tokio::time::sleep;

use super::{BEGIN, Connections, Engine, Fault, Inferred, ask, end_transaction, query};
use crate::clock::random_part;

/// The longest pause before a rolled-back write is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// A bound value of a statement.
#[derive(Clone)]
pub(crate) enum Bound {
    Text(String),
    Bytes(Vec<u8>),
    Int(i64),
    Bool(bool),
    /// `NULL`, of which PostgreSQL needs the type.
    NoText,
    NoInt,
}

impl From<&str> for Bound {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Bound {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Bound {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<i64> for Bound {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u64> for Bound {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Bound {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<Option<u64>> for Bound {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::NoInt, Self::from)
    }
}

impl From<Option<&str>> for Bound {
    fn from(text: Option<&str>) -> Self {
        text.map_or(Self::NoText, Self::from)
    }
}

/// A statement that changes rows.
#[derive(Clone)]
pub(crate) struct Write {
    sql: Cow<'static, str>,
    bound: Vec<Bound>,
    needs: Needs,
}

/// What a write needs to succeed; otherwise it is rolled back, with all writes of its transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Row,
    Kept,
}

impl Write {
    /// A statement, with the values for its question marks.
    pub(crate) fn new<const N: usize>(
        sql: impl Into<Cow<'static, str>>,
        bound: [Bound; N],
    ) -> Self {
        Self::of(sql, bound.into())
    }

    /// The same, with any number of values.
    pub(crate) fn of(sql: impl Into<Cow<'static, str>>, bound: Vec<Bound>) -> Self {
        Self {
            sql: sql.into(),
            bound,
            needs: Needs::Nothing,
        }
    }

    /// If the write changes no row, everything in its transaction is rolled back, and the result is [`Fault::NoRow`].
    pub(crate) fn needs_a_row(self) -> Self {
        Self {
            needs: Needs::Row,
            ..self
        }
    }

    /// The write finds its row by the value that an earlier write of the transaction stored. If it finds none, the
    /// database has altered that value: everything is rolled back, and the result is [`Fault::Altered`].
    pub(crate) fn needs_to_be_kept(self) -> Self {
        Self {
            needs: Needs::Kept,
            ..self
        }
    }
}

/// Binds values in order; a macro, because sqlx has a query type per engine.
macro_rules! bind {
    ($sql:expr, $bound:expr) => {{
        let mut query = query(AssertSqlSafe($sql));
        for bound in $bound {
            query = match bound {
                Bound::Text(text) => query.bind(Inferred::Text(text.into())),
                Bound::Bytes(bytes) => query.bind(bytes),
                Bound::Int(number) => query.bind(number),
                Bound::Bool(bool) => query.bind(bool),
                Bound::NoText => query.bind(None::<Inferred<'_>>),
                Bound::NoInt => query.bind(None::<i64>),
            };
        }
        query
    }};
}

impl Connections {
    /// Writes everything or nothing. If the database rolls back because others wrote the same rows at the same time
    /// (a deadlock, or another node of a cluster was first), tries again until the timeout.
    pub(crate) async fn write(&self, writes: &[Write]) -> Result<(), Fault> {
        crate::observe::spans::step("write", self.write_together(writes)).await
    }

    async fn write_together(&self, writes: &[Write]) -> Result<(), Fault> {
        // In a deferred transaction SQLite does not wait for another writer: a write after a read fails at once.
        let engine = self.engine();
        let begin = match engine {
            Engine::MySql => "START TRANSACTION",
            Engine::Postgres => BEGIN,
            Engine::Sqlite => "BEGIN IMMEDIATE",
        };
        ask!(bare self, connection => {
            loop {
                let written: Result<(), Fault> = async {
                    if let [write] = writes
                        && engine != Engine::Postgres
                    {
                        let rows = bind!(write.sql.clone().into_owned(), write.bound.clone())
                            .execute(&mut *connection)
                            .await?
                            .rows_affected();
                        return return_if_none(write, rows);
                    }
                    let mut transaction = connection.begin_with(begin).await?;
                    let written: Result<(), Fault> = async {
                        for write in writes {
                            let rows = bind!(write.sql.clone().into_owned(), write.bound.clone())
                                .execute(&mut *transaction)
                                .await?
                                .rows_affected();
                            return_if_none(write, rows)?;
                        }
                        Ok(())
                    }
                    .await;
                    end_transaction(transaction, written).await
                }
                .await;
                match written {
                    Err(fault) if fault.is_undone() => sleep(random_part(PAUSE)).await,
                    written => return written,
                }
            }
        })
    }
}

fn return_if_none(write: &Write, rows: u64) -> Result<(), Fault> {
    match (write.needs, rows) {
        (Needs::Row, 0) => Err(Fault::NoRow),
        (Needs::Kept, 0) => Err(Fault::Altered),
        (Needs::Nothing | Needs::Row | Needs::Kept, _) => Ok(()),
    }
}
