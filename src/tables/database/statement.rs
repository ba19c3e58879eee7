//! What differs between engines in how a statement is sent, and how its transaction ends.

use sqlx::{
    AssertSqlSafe, Connection, Database, MySql, Postgres, SqlSafeStr, SqlStr, Sqlite, Transaction,
    database::HasStatementCache, pool::PoolConnection, query::Query,
};

use super::Fault;

/// The SQL of an engine.
pub(crate) trait SqlDialect: Database + HasStatementCache {
    /// Whether prepared statements may stay in the session after their transaction.
    const KEEPS_STATEMENTS: bool = true;

    /// The form that the engine takes of a statement with question marks.
    fn form(sql: SqlStr) -> SqlStr {
        sql
    }
}

impl SqlDialect for MySql {}

impl SqlDialect for Sqlite {}

impl SqlDialect for Postgres {
    const KEEPS_STATEMENTS: bool = false;

    fn form(sql: SqlStr) -> SqlStr {
        AssertSqlSafe(numbered(sql.as_str())).into_sql_str()
    }
}

/// Whether a connection may go back into the pool.
pub(crate) fn is_clean<DB: SqlDialect>(connection: &PoolConnection<DB>) -> bool {
    DB::KEEPS_STATEMENTS || connection.cached_statements_size() == 0
}

/// A statement with question marks. Use it for each statement, in place of `sqlx::query`.
pub(crate) fn query<'q, DB: SqlDialect>(sql: impl SqlSafeStr) -> Query<'q, DB, DB::Arguments> {
    sqlx::query(DB::form(sql.into_sql_str()))
}

/// A statement with question marks, in the form for `prepare` on this connection.
pub(crate) fn form_for<C>(_: &C, sql: impl SqlSafeStr) -> SqlStr
where
    C: Connection,
    C::Database: SqlDialect,
{
    <C::Database as SqlDialect>::form(sql.into_sql_str())
}

/// Closes the prepared statements that must not stay in the session. Commits if the answer is good, and otherwise rolls back.
pub(crate) async fn end_transaction<DB: SqlDialect, T, E: From<Fault>>(
    mut transaction: Transaction<'_, DB>,
    answer: Result<T, E>,
) -> Result<T, E> {
    let cleared = match DB::KEEPS_STATEMENTS {
        true => Ok(()),
        false => transaction.clear_cached_statements().await,
    };
    let ended = match answer.is_ok() && cleared.is_ok() {
        true => transaction.commit().await,
        false => transaction.rollback().await,
    };
    match (answer, cleared.and(ended)) {
        (Ok(_), Err(error)) => Err(Fault::from(error).into()),
        (answer, _) => answer,
    }
}

/// PostgreSQL numbers its parameters: `$1`, `$2`, …
fn numbered(sql: &str) -> String {
    let mut numbered = String::with_capacity(sql.len() + 8);
    for (number, part) in sql.split('?').enumerate() {
        if number > 0 {
            numbered += &format!("${number}");
        }
        numbered += part;
    }
    numbered
}

/// Question marks for a list of this many values.
pub(crate) fn question_marks(values: usize) -> String {
    vec!["?"; values].join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_become_numbers() {
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
        let sql = format!("a = ? AND b IN ({})", question_marks(10));
        assert_eq!(
            numbered(&sql),
            "a = $1 AND b IN ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        );
        assert_eq!(numbered("?"), "$1");
    }
}
