//! Revoked tokens and sessions, and the generations of users' tokens.

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::Instant;

use super::{Kept, Mark, State, mark::Since, text, unsigned};
use crate::{
    domain::{
        revocation::{Generation, Revocations},
        token::UnixTime,
    },
    tables::database::{Engine, Fault, Write, ask, query},
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
    /// The order among rows of the same time.
    place: String,
}

/// The result of a read.
#[derive(Default)]
struct Seen {
    rows: u64,
    /// The time of the last change.
    newest: Option<i64>,
}

impl State {
    /// The write that revokes a token or a session.
    pub(crate) fn ending(&self, id: &str, expires: UnixTime) -> Write {
        let sql = self.upsert(
            "doorward_endings",
            "ended_id, expires_at",
            "?, ?",
            "ended_id",
            &format!(
                "expires_at = {}(doorward_endings.expires_at, ?)",
                self.greatest()
            ),
        );
        Write::new(sql, [id.into(), expires.0.into(), expires.0.into()])
    }

    /// The write that revokes all tokens of a user by starting a new generation.
    pub(crate) fn ending_all(&self, user_id: &str, expires: UnixTime) -> Write {
        let (greatest, clock) = (self.greatest(), self.clock_millis());
        let change = format!(
            "generation = {greatest}(doorward_generations.generation + 1, {clock}), expires_at = {greatest}(doorward_generations.expires_at, ?)"
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
    pub(crate) async fn generation(&self, user_id: &str) -> Result<Generation, Fault> {
        ask!(&self.connections, connection => {
            let row = query("SELECT generation FROM doorward_generations WHERE user_id = ?")
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
        mark: &Mark,
        kept: &Kept,
        into: &Revocations,
    ) -> Result<Mark, Fault> {
        let began = Instant::now();
        let since = mark.since(began);
        let ended = self.read_ended(since, kept, into).await?;
        let begun = self.read_begun(since, kept, into).await?;
        let (rows, newest) = (ended.rows + begun.rows, ended.newest.max(begun.newest));
        Ok(mark.clone().read(began, Instant::now(), rows, newest))
    }

    /// Reads tokens and sessions.
    async fn read_ended(
        &self,
        since: Since,
        kept: &Kept,
        into: &Revocations,
    ) -> Result<Seen, Fault> {
        let columns = "ended_id AS id, NULL AS generation";
        self.read_changes("doorward_endings", "ended_id", columns, since, |row| {
            let until = kept.until(row.expires, row.changed);
            // An expired row stays in the table for a while.
            if until > kept.now {
                into.end(&row.id, until);
            }
        })
        .await
    }

    /// Reads generations.
    async fn read_begun(
        &self,
        since: Since,
        kept: &Kept,
        into: &Revocations,
    ) -> Result<Seen, Fault> {
        let columns = "user_id AS id, generation";
        self.read_changes("doorward_generations", "user_id", columns, since, |row| {
            let until = kept.until(row.expires, row.changed);
            into.end_before(&row.id, row.generation, until);
        })
        .await
    }

    /// Calls `see` with every row that has changed, page by page.
    async fn read_changes(
        &self,
        table: &str,
        id: &str,
        columns: &str,
        since: Since,
        mut see: impl FnMut(Changed),
    ) -> Result<Seen, Fault> {
        // The index of times ends with the primary key. In any other order, each page would read all rows of a burst.
        let (place, shown, last_place) = match self.connections.engine() {
            Engine::MySql | Engine::Postgres => (id, id, "?"),
            Engine::Sqlite => ("rowid", "CAST(rowid AS TEXT)", "CAST(? AS INTEGER)"),
        };
        let mut seen = Seen::default();
        let mut last = None::<(i64, String)>;
        loop {
            let condition = match (&last, since) {
                (Some(_), _) => self.after_last(place, last_place),
                (None, Since::Always) => "TRUE".to_owned(),
                (None, Since::Change { .. }) => self.changed_since(),
            };
            let sql = AssertSqlSafe(format!(
                "SELECT {columns}, expires_at, changed_at, {shown} AS place FROM {table} WHERE {condition} ORDER BY changed_at, {place} LIMIT ?"
            ));
            let page: Result<Vec<Changed>, Fault> = ask!(&self.connections, connection => {
                let query = query(sql);
                let query = match (&last, since) {
                    (Some((changed, place)), _) => query.bind(*changed).bind(*changed).bind(&**place),
                    (None, Since::Always) => query,
                    (None, Since::Change { after, overlap }) => query.bind(after).bind(overlap),
                };
                let rows = query.bind(PAGE).fetch_all(connection).await?;
                let mut page = Vec::with_capacity(rows.len());
                for row in &rows {
                    page.push(Changed {
                        id: text(row.try_get("id")?),
                        generation: (row.try_get::<Option<i64>, _>("generation")?)
                            .map_or_else(Generation::default, |one| Generation(unsigned(one))),
                        expires: row.try_get("expires_at")?,
                        changed: row.try_get("changed_at")?,
                        place: text(row.try_get("place")?),
                    });
                }
                Ok(page)
            });
            let page = page?;
            let is_last = page.len() < PAGE as usize;
            seen.rows += page.len() as u64;
            if let Some(row) = page.last() {
                seen.newest = seen.newest.max(Some(row.changed));
                last = Some((row.changed, row.place.clone()));
            }
            page.into_iter().for_each(&mut see);
            if is_last {
                return Ok(seen);
            }
        }
    }
}
