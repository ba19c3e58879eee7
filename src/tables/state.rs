//! What Doorward itself must keep: which tokens have ended, generations of users' tokens, failed attempts, and sessions
//! of refresh tokens. Tables of its own, in the database of the users or in another one. Knows its SQL and no rule.

mod clock;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};

pub use self::clock::{Kept, Swept};
use crate::{
    clock::unix_millis,
    domain::{
        account::{Identity, Username},
        revocation::{Generation, Revocations},
        session::RefreshToken,
        token::UnixTime,
    },
    login::throttle::{Change, FailureCount, SharedFailure, Throttle, UnixMillis},
    tables::database::{Connections, Engine, Fault, Write, ask},
};

/// Connections to Doorward's own tables.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) connections: Connections,
}

const TABLES: [(i64, &str, [&str; 2]); 8] = [
    (
        2,
        "endings",
        [
            include_str!("state/endings.mysql.sql"),
            include_str!("state/endings.sqlite.sql"),
        ],
    ),
    (
        3,
        "generations",
        [
            include_str!("state/generations.mysql.sql"),
            include_str!("state/generations.sqlite.sql"),
        ],
    ),
    (
        4,
        "tallies",
        [
            include_str!("state/tallies.mysql.sql"),
            include_str!("state/tallies.sqlite.sql"),
        ],
    ),
    (
        5,
        "sessions",
        [
            include_str!("state/sessions.mysql.sql"),
            include_str!("state/sessions.sqlite.sql"),
        ],
    ),
    // So that what has expired is found without a look at everything, which would keep others from writing.
    (6, "endings by expiry", [ENDINGS_BY_EXPIRY; 2]),
    (7, "generations by expiry", [GENERATIONS_BY_EXPIRY; 2]),
    (
        8,
        "clocks",
        [
            include_str!("state/clocks.mysql.sql"),
            include_str!("state/clocks.sqlite.sql"),
        ],
    ),
    // So that who has failed most is found among millions who failed once.
    (9, "tallies by failures", [TALLIES_BY_FAILURES; 2]),
];

const ENDINGS_BY_EXPIRY: &str =
    "CREATE INDEX doorward_endings_expires_at ON doorward_endings (expires_at)";
const GENERATIONS_BY_EXPIRY: &str =
    "CREATE INDEX doorward_generations_expires_at ON doorward_generations (expires_at)";

const TALLIES_BY_FAILURES: &str =
    "CREATE INDEX doorward_tallies_failures ON doorward_tallies (failures, changed_at)";

/// How far back a reading looks beyond the last change it saw, in seconds of the database's clock: a change is seen only
/// once it is committed, and others may have been committed before it.
const OVERLAP: i64 = 10;

/// After how many seconds without a failure a count is of no use any more, and after how many a familiar address is one
/// no longer.
const KEPT: (i64, i64) = (24 * 3600, 90 * 24 * 3600);

/// The most endings that are read at once: what all replicas have ended in a day can be more than is read in one time.
const PAGE: i64 = 5_000;

/// The most counts that are read at once.
const MOST_TALLIES: i64 = 50_000;

/// From how many failures on a count is read whole, however many others there are: a flood leaves one each.
const SOME_FAILURES: i64 = 2;

/// After how many seconds without a failure those of an address are of no use any more.
const KEPT_OF_ADDRESS: i64 = 3600;

/// How far the tables have been read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(i64);

/// A session that goes on.
#[derive(Debug)]
pub struct Session {
    /// Whose, as an id.
    pub user_id: String,
    /// Whose, as the name of the login.
    pub username: Username,
    /// The generation of the login.
    pub generation: Generation,
    /// The refresh token for the next time.
    pub refresh: RefreshToken,
}

/// The result of an exchange of a refresh token.
#[derive(Debug)]
pub(crate) enum Rotation {
    /// It was exchanged for its successor.
    Rotated(Session),
    /// It has no session.
    Unknown,
    /// It was used before; its session is revoked.
    Reused { user_id: String },
    /// The user name of its session is no longer valid.
    Unusable { user_id: String },
}

/// A row of `doorward_endings` or `doorward_generations`.
struct Changed {
    id: String,
    generation: Generation,
    /// By the clock of the replica that wrote it.
    expires: i64,
    /// By the clock of the database.
    changed: i64,
}

/// Failures of an account or address, for `doorward throttle list`.
#[derive(Clone, Debug)]
pub(crate) struct ListedFailures {
    pub(crate) key: String,
    pub(crate) tally: FailureCount,
    /// The user's id, if the account exists.
    pub(crate) user_id: Option<String>,
}

/// A count out of a row of either engine. How long ago the last failure was is told by the database, whose clock may differ.
macro_rules! tally {
    ($row:expr) => {
        FailureCount {
            epoch: unsigned($row.try_get("epoch")?),
            failures: u32::try_from($row.try_get::<i64, _>("failures")?).unwrap_or(u32::MAX),
            last: last_failure($row.try_get("age")?),
        }
    };
}

/// By this replica's clock, what was so many milliseconds ago by the database's. One that is still to come was written while
/// a clock was wrong, and says nothing of the time.
fn last_failure(age: i64) -> UnixMillis {
    let age = match age {
        ..-60_000 => i64::MAX,
        age => age.max(0),
    };
    UnixMillis(unix_millis().0.saturating_sub(unsigned(age)))
}

impl State {
    /// Takes connections to where the tables are.
    #[must_use]
    pub fn new(connections: Connections) -> Self {
        Self { connections }
    }

    /// Makes the tables, or brings them up to date.
    ///
    /// # Errors
    ///
    /// The database cannot be reached.
    pub async fn migrate(&self) -> Result<(), Fault> {
        self.connections.migrate(&TABLES).await
    }

    /// The greatest or least of several values, which is not that of several rows.
    fn greatest(&self) -> &'static str {
        match self.connections.engine() {
            Engine::MySql => "GREATEST",
            Engine::Sqlite => "MAX",
        }
    }

    fn least(&self) -> &'static str {
        match self.connections.engine() {
            Engine::MySql => "LEAST",
            Engine::Sqlite => "MIN",
        }
    }

    /// From where a reading goes on that has come to a mark. One that lies ahead is none: the clock was set back since.
    fn since(&self) -> String {
        format!("{}(?, {}) - ?", self.least(), self.clock())
    }

    /// The columns of a count.
    fn tally_columns(&self) -> String {
        let clock = self.clock_millis();
        format!("tally_key, epoch, failures, {clock} - last_failure AS age")
    }

    /// A row that is inserted, or changed where there is one of that key.
    fn upsert(&self, table: &str, columns: &str, values: &str, key: &str, change: &str) -> String {
        let on = match self.connections.engine() {
            Engine::MySql => "ON DUPLICATE KEY UPDATE".to_owned(),
            Engine::Sqlite => format!("ON CONFLICT ({key}) DO UPDATE SET"),
        };
        let stamp = self.stamp();
        format!(
            "INSERT INTO {table} ({columns}, changed_at) VALUES ({values}, {stamp}) {on} {change}, changed_at = {stamp}"
        )
    }

    /// Ends a token or a session.
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

    /// Ends all of a user's tokens by beginning a new generation.
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

    /// Ends all sessions of a user; that of refresh tokens, whose generation is looked at only when they are used.
    pub(crate) fn closing_all(&self, user_id: &str) -> Write {
        Write::new(
            "DELETE FROM doorward_sessions WHERE user_id = ?",
            [user_id.into()],
        )
    }

    /// Ends one session.
    pub(crate) fn closing(&self, session_id: &str) -> Write {
        Write::new(
            "DELETE FROM doorward_sessions WHERE session_id = ?",
            [session_id.into()],
        )
    }

    /// The generation of a user's tokens.
    ///
    /// # Errors
    ///
    /// What kept the database from answering.
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

    /// Reads what has ended since the mark and is still of use, and moves the mark. However much that is, each page of it is
    /// in time.
    ///
    /// # Errors
    ///
    /// What kept the database from answering; the mark is where it was.
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

    /// Tokens and sessions; gives the time of the last change.
    async fn read_ended(&self, mark: Mark, kept: &Kept, into: &Revocations) -> Result<i64, Fault> {
        let columns = "ended_id AS id, 0 AS generation";
        self.read_changes("doorward_endings", "ended_id", columns, mark, |row| {
            let until = kept.until(row.expires, row.changed);
            // The row stays in the table for a while.
            if until > kept.now {
                into.end(&row.id, until);
            }
        })
        .await
    }

    /// Generations; gives the time of the last change.
    async fn read_begun(&self, mark: Mark, kept: &Kept, into: &Revocations) -> Result<i64, Fault> {
        let columns = "user_id AS id, generation";
        self.read_changes("doorward_generations", "user_id", columns, mark, |row| {
            let until = kept.until(row.expires, row.changed);
            into.end_before(&row.id, row.generation, until);
        })
        .await
    }

    /// Calls `see` with every row that has changed since the mark, page by page; gives the time of the last change.
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

    /// Reads counts that have changed since the mark, and moves the mark. The first time, who has failed most comes first.
    ///
    /// # Errors
    ///
    /// What kept the database from answering; the mark is where it was.
    pub async fn read_tallies(&self, mark: Mark, into: &Throttle) -> Result<Mark, Fault> {
        // The first time, only what may still make somebody wait: familiar addresses are looked up when they matter.
        let (from, overlap) = match mark.0 {
            0 => (i64::MAX, KEPT.0),
            newest => (newest, OVERLAP),
        };
        let (columns, since) = (self.tally_columns(), self.since());
        if mark.0 == 0 {
            // Accounts and addresses apart, so that a flood of one does not hide the other.
            for (above, below) in [("b", "o"), ("a", "b")] {
                self.read_failures((from, overlap), (above, below), into)
                    .await?;
            }
        }
        let sql = AssertSqlSafe(format!(
            "SELECT {columns}, changed_at FROM doorward_tallies WHERE changed_at >= {since} ORDER BY changed_at DESC LIMIT ?"
        ));
        ask!(&self.connections, connection => {
            let mut newest = mark.0;
            let rows = sqlx::query(sql)
            .bind(from)
            .bind(overlap)
            .bind(MOST_TALLIES)
            .fetch_all(connection)
            .await?;
            let now = unix_millis();
            for row in &rows {
                into.learn(&row.try_get::<String, _>("tally_key")?, tally!(row), now);
                newest = newest.max(row.try_get("changed_at")?);
            }
            Ok(Mark(newest))
        })
    }

    /// The counts between two keys that have most failures.
    async fn read_failures(
        &self,
        (from, overlap): (i64, i64),
        (above, below): (&str, &str),
        into: &Throttle,
    ) -> Result<(), Fault> {
        let (columns, since) = (self.tally_columns(), self.since());
        let sql = AssertSqlSafe(format!(
            "SELECT {columns} FROM doorward_tallies WHERE failures >= ? AND changed_at >= {since} AND tally_key > ? AND tally_key < ? ORDER BY failures DESC LIMIT ?"
        ));
        ask!(&self.connections, connection => {
            let rows = sqlx::query(sql)
                .bind(SOME_FAILURES)
                .bind(from)
                .bind(overlap)
                .bind(above)
                .bind(below)
                .bind(MOST_TALLIES)
                .fetch_all(connection)
                .await?;
            let now = unix_millis();
            for row in &rows {
                into.learn(&row.try_get::<String, _>("tally_key")?, tally!(row), now);
            }
            Ok(())
        })
    }

    /// One count.
    ///
    /// # Errors
    ///
    /// What kept the database from answering.
    pub async fn tally(&self, key: &str) -> Result<Option<FailureCount>, Fault> {
        let columns = self.tally_columns();
        let sql = AssertSqlSafe(format!(
            "SELECT {columns} FROM doorward_tallies WHERE tally_key = ?"
        ));
        ask!(&self.connections, connection => {
            let row = sqlx::query(sql)
                .bind(key)
                .fetch_optional(connection)
                .await?;
            Ok(match row {
                None => None,
                Some(row) => Some(tally!(row)),
            })
        })
    }

    /// The counts that have failures, those with most first.
    ///
    /// # Errors
    ///
    /// What kept the database from answering.
    pub(crate) async fn tallies(&self) -> Result<Vec<ListedFailures>, Fault> {
        let columns = self.tally_columns();
        let sql = AssertSqlSafe(format!(
            "SELECT {columns}, user_id FROM doorward_tallies WHERE failures > 0 ORDER BY failures DESC, last_failure DESC LIMIT 1000"
        ));
        ask!(&self.connections, connection => {
            let rows = sqlx::query(sql)
            .fetch_all(connection)
            .await?;
            let mut counted = Vec::with_capacity(rows.len());
            for row in &rows {
                counted.push(ListedFailures {
                    key: row.try_get("tally_key")?,
                    tally: tally!(row),
                    user_id: row.try_get::<Option<Vec<u8>>, _>("user_id")?.map(text),
                });
            }
            Ok(counted)
        })
    }

    /// Tells the other replicas of a count.
    pub(crate) fn sharing(&self, share: &SharedFailure, user_id: Option<&str>) -> Write {
        let clock = self.clock_millis();
        let kept = match share.is_about_an_account() {
            true => KEPT.0,
            false => KEPT_OF_ADDRESS,
        };
        let forgotten = unsigned(kept).saturating_mul(1000);
        let (first, change) = match share.change {
            Change::Failed => (
                format!("?, 0, 1, {clock}, ?"),
                format!(
                    "failures = CASE WHEN last_failure < {clock} - {forgotten} THEN 1 ELSE failures + 1 END, last_failure = {clock}, user_id = ?"
                ),
            ),
            Change::Cleared => (
                "?, 1, 0, 0, ?".to_owned(),
                "epoch = epoch + 1, failures = 0, user_id = ?".to_owned(),
            ),
        };
        let sql = self.upsert(
            "doorward_tallies",
            "tally_key, epoch, failures, last_failure, user_id",
            &first,
            "tally_key",
            &change,
        );
        Write::new(sql, [(&*share.key).into(), user_id.into(), user_id.into()])
    }

    /// Clears every count that has failures.
    pub(crate) fn clearing_all(&self) -> Write {
        let stamp = self.stamp();
        Write::new(
            format!(
                "UPDATE doorward_tallies SET epoch = epoch + 1, failures = 0, changed_at = {stamp} WHERE failures > 0"
            ),
            [],
        )
    }

    /// Clears every count of a user that has failures, whatever address they came from.
    pub(crate) fn clearing_user(&self, user_id: &str) -> Write {
        let stamp = self.stamp();
        Write::new(
            format!(
                "UPDATE doorward_tallies SET epoch = epoch + 1, failures = 0, changed_at = {stamp} WHERE failures > 0 AND user_id = ?"
            ),
            [user_id.into()],
        )
    }

    /// Begins a session.
    pub(crate) fn opening(
        &self,
        refresh: &RefreshToken,
        identity: &Identity,
        generation: Generation,
        lifetime: Duration,
    ) -> Write {
        let (clock, millis) = (self.clock(), self.clock_millis());
        Write::new(
            format!(
                "INSERT INTO doorward_sessions (session_id, user_id, username, generation, current_hash, rotated_at, expires_at) VALUES (?, ?, ?, ?, ?, {millis}, {clock} + ?)"
            ),
            [
                refresh.session_id().into(),
                (&*identity.subject).into(),
                identity.username.as_str().into(),
                generation.0.into(),
                refresh.hash().into(),
                lifetime.as_secs().into(),
            ],
        )
    }

    /// Exchanges a refresh token for its successor, in one statement. If it is shown again within the grace (in seconds), it
    /// gives the same successor; later, its session is revoked.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn rotate(
        &self,
        refresh: &RefreshToken,
        grace: u64,
        all_expired: UnixTime,
    ) -> Result<Rotation, Fault> {
        let (session_id, presented) = (refresh.session_id(), refresh.hash());
        let Ok(successor) = refresh.successor() else {
            return Ok(Rotation::Unknown);
        };
        let (clock, millis) = (self.clock(), self.clock_millis());
        let rotation = Write::new(
            format!(
                "UPDATE doorward_sessions SET previous_hash = ?, current_hash = ?, sealed = ?, rotated_at = {millis} WHERE session_id = ? AND current_hash = ? AND expires_at > {clock}"
            ),
            [
                presented.clone().into(),
                successor.hash().into(),
                refresh.seal(&successor).into(),
                session_id.clone().into(),
                presented.clone().into(),
            ],
        );
        let rotated = match self.connections.write(&[rotation.needs_a_row()]).await {
            Ok(()) => true,
            Err(Fault::NoRow) => false,
            Err(fault) => return Err(fault),
        };
        let sql = AssertSqlSafe(format!(
            "SELECT user_id, username, generation, current_hash, previous_hash, sealed, {millis} - rotated_at AS age FROM doorward_sessions WHERE session_id = ? AND expires_at > {clock}"
        ));
        let row: Result<Option<Row>, Fault> = ask!(&self.connections, connection => {
            let row = sqlx::query(sql)
            .bind(&session_id)
            .fetch_optional(connection)
            .await?;
            let Some(row) = row else {
                return Ok(None);
            };
            Ok(Some(Row {
                user_id: text(row.try_get("user_id")?),
                username: text(row.try_get("username")?),
                generation: Generation(unsigned(row.try_get("generation")?)),
                current: row.try_get("current_hash")?,
                previous: row.try_get("previous_hash")?,
                sealed: row.try_get("sealed")?,
                age: row.try_get("age")?,
            }))
        });
        let Some(row) = row? else {
            return Ok(Rotation::Unknown);
        };
        let next = match rotated {
            true => Some(successor),
            false => {
                // Nodes of a cluster have clocks that differ, but not by more than the grace.
                let is_young = row.age.unsigned_abs() < grace.saturating_mul(1000);
                let is_previous = row.previous.as_deref() == Some(&*presented);
                let sealed = row
                    .sealed
                    .as_deref()
                    .and_then(|sealed| refresh.unseal(sealed));
                sealed
                    .filter(|_| is_previous && is_young)
                    .filter(|next| next.hash() == row.current)
            }
        };
        let Some(next) = next else {
            let writes = [
                self.closing(&session_id),
                self.ending(&session_id, all_expired),
            ];
            self.connections.write(&writes).await?;
            return Ok(Rotation::Reused {
                user_id: row.user_id,
            });
        };
        let Some(username) = Username::parse(&row.username) else {
            return Ok(Rotation::Unusable {
                user_id: row.user_id,
            });
        };
        Ok(Rotation::Rotated(Session {
            user_id: row.user_id,
            username,
            generation: row.generation,
            refresh: next,
        }))
    }
}

struct Row {
    user_id: String,
    username: String,
    generation: Generation,
    current: String,
    previous: Option<String>,
    sealed: Option<String>,
    /// Milliseconds since it was last rotated, by the database's clock.
    age: i64,
}

/// MySQL's VARBINARY compares byte for byte, and is bytes for sqlx too.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
