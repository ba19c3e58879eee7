//! Revoked tokens and sessions, and the generations of users' tokens.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Kept, Mark, OVERLAP, State, text, unsigned};
use crate::{
    domain::{
        revocation::{Generation, Revocations},
        token::UnixTime,
    },
    tables::database::{Fault, Write, ask},
};

/// Rows per page: all revocations of a day may take longer than one timeout.
const PAGE: i64 = 5_000;

/// A row of `doorward_endings` or `doorward_generations`.
struct Changed {
    id: String,
    generation: Generation,
    /// By the clock of the replica that wrote it.
    expires: i64,
    /// By the clock of the database.
    changed: i64,
}

impl State {
    /// The write that revokes a token or a session.
    pub(crate) fn ending(&self, id: &str, expires: UnixTime) -> Write {
        let sql = self.upsert(
            "doorward_endings",
            "ended_id, expires_at",
            "?, ?",
            "ended_id",
            &format!("expires_at = {}(expires_at, ?)", self.greatest()),
        );
        Write::new(sql, [id.into(), expires.0.into(), expires.0.into()])
    }

    /// The write that revokes all tokens of a user by starting a new generation.
    pub(crate) fn ending_all(&self, user_id: &str, expires: UnixTime) -> Write {
        let (greatest, clock) = (self.greatest(), self.clock_millis());
        let change = format!(
            "generation = {greatest}(generation + 1, {clock}), expires_at = {greatest}(expires_at, ?)"
        );
        let sql = self.upsert(
            "doorward_generations",
            "user_id, generation, expires_at",
            &format!("?, {clock}, ?"),
            "user_id",
            &change,
        );
        let expires = expires.0;
        Write::new(sql, [user_id.into(), expires.into(), expires.into()])
    }

    /// The generation of a user's tokens.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub async fn generation(&self, user_id: &str) -> Result<Generation, Fault> {
        ask!(&self.connections, connection => {
            let row = sqlx::query("SELECT generation FROM doorward_generations WHERE user_id = ?")
                .bind(user_id)
                .fetch_optional(connection)
                .await?;
            Ok(match row {
                None => Generation::default(),
                Some(row) => Generation(unsigned(row.try_get("generation")?)),
            })
        })
    }

    /// Reads revocations that have changed since the mark and are still needed, page by page, each within the timeout, and
    /// returns the new mark.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub async fn read_endings(
        &self,
        mark: Mark,
        kept: &Kept,
        into: &Revocations,
    ) -> Result<Mark, Fault> {
        let ended = self.read_ended(mark, kept, into).await?;
        let begun = self.read_begun(mark, kept, into).await?;
        Ok(Mark(mark.0.max(ended).max(begun)))
    }

    /// Reads tokens and sessions; returns the time of the last change.
    async fn read_ended(&self, mark: Mark, kept: &Kept, into: &Revocations) -> Result<i64, Fault> {
        let columns = "ended_id AS id, 0 AS generation";
        self.read_changes("doorward_endings", "ended_id", columns, mark, |row| {
            let until = kept.until(row.expires, row.changed);
            // An expired row stays in the table for a while.
            if until > kept.now {
                into.end(&row.id, until);
            }
        })
        .await
    }

    /// Reads generations; returns the time of the last change.
    async fn read_begun(&self, mark: Mark, kept: &Kept, into: &Revocations) -> Result<i64, Fault> {
        let columns = "user_id AS id, generation";
        self.read_changes("doorward_generations", "user_id", columns, mark, |row| {
            let until = kept.until(row.expires, row.changed);
            into.end_before(&row.id, row.generation, until);
        })
        .await
    }

    /// Calls `see` with every row that has changed since the mark, page by page; returns the time of the last change.
    async fn read_changes(
        &self,
        table: &str,
        id: &str,
        columns: &str,
        mark: Mark,
        mut see: impl FnMut(Changed),
    ) -> Result<i64, Fault> {
        let (mut from, mut after) = (mark.0, None::<String>);
        loop {
            let since = match after {
                None => format!("changed_at >= {}", self.since()),
                Some(_) => format!("changed_at >= ? AND (changed_at > ? OR {id} > ?)"),
            };
            let sql = AssertSqlSafe(format!(
                "SELECT {columns}, expires_at, changed_at FROM {table} WHERE {since} ORDER BY changed_at, {id} LIMIT ?"
            ));
            let page: Result<Vec<Changed>, Fault> = ask!(&self.connections, connection => {
                let query = sqlx::query(sql).bind(from);
                let query = match &after {
                    None => query.bind(OVERLAP),
                    Some(after) => query.bind(from).bind(&**after),
                };
                let rows = query.bind(PAGE).fetch_all(connection).await?;
                let mut page = Vec::with_capacity(rows.len());
                for row in &rows {
                    page.push(Changed {
                        id: text(row.try_get("id")?),
                        generation: Generation(unsigned(row.try_get("generation")?)),
                        expires: row.try_get("expires_at")?,
                        changed: row.try_get("changed_at")?,
                    });
                }
                Ok(page)
            });
            let page = page?;
            let is_last = page.len() < PAGE as usize;
            if let Some(last) = page.last() {
                (from, after) = (last.changed, Some(last.id.clone()));
            }
            page.into_iter().for_each(&mut see);
            if is_last {
                return Ok(from);
            }
        }
    }
}
