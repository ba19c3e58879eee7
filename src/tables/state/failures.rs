//! Counts of failed attempts: shared between replicas, read by the throttle.

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::Instant;

use super::{Mark, State, mark::Since, text, unsigned};
use crate::{
    clock::unix_millis,
    login::throttle::{Change, FailureCount, SharedFailure, Throttle, UnixMillis},
    tables::database::{Fault, StoredText, Write, ask, query},
};

/// Seconds without a failure after which a count is removed, and seconds after which a familiar address is forgotten.
pub(super) const KEPT: (i64, i64) = (24 * 3600, 90 * 24 * 3600);

/// The most counts that are read at once.
const MOST_TALLIES: i64 = 50_000;

/// Counts with at least this many failures are read first: a flood leaves one failure each.
const SOME_FAILURES: i64 = 2;

/// Seconds without a failure after which the count of an address starts again.
const KEPT_OF_ADDRESS: i64 = 3600;

/// Failures of an account or address, for `doorward throttle list`.
#[derive(Clone, Debug)]
pub(crate) struct ListedFailures {
    pub(crate) key: String,
    pub(crate) tally: FailureCount,
    /// The user's id, if the account exists.
    pub(crate) user_id: Option<String>,
}

/// A count from a row of any engine. The database says how long ago the last failure was, because its clock may differ.
macro_rules! tally {
    ($row:expr) => {
        FailureCount {
            epoch: unsigned($row.try_get("epoch")?),
            failures: u32::try_from($row.try_get::<i64, _>("failures")?).unwrap_or(u32::MAX),
            last: last_failure($row.try_get("age")?),
        }
    };
}

/// The time by this replica's clock of a failure that is this many milliseconds old by the database's. A failure in the
/// future was written with a wrong clock, and counts as long ago.
fn last_failure(age: i64) -> UnixMillis {
    let age = match age {
        ..-60_000 => i64::MAX,
        age => age.max(0),
    };
    UnixMillis(unix_millis().0.saturating_sub(unsigned(age)))
}

impl State {
    /// The columns of a count.
    fn tally_columns(&self) -> String {
        let clock = self.clock_millis();
        format!("tally_key, epoch, failures, {clock} - last_failure AS age")
    }

    /// Reads counts that have changed since the mark, and returns the new mark. The first read starts with the most failures.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub async fn read_tallies(&self, mark: &Mark, into: &Throttle) -> Result<Mark, Fault> {
        let began = Instant::now();
        let (mut rows_read, mut newest) = (0, None);
        let (after, overlap) = match mark.since(began) {
            Since::Change { after, overlap } => (after, overlap),
            // The first read skips counts that delay nobody; familiar addresses are looked up when they matter.
            Since::Always => {
                let recent = (i64::MAX, KEPT.0);
                // Accounts and addresses separately, so that a flood of one does not hide the other.
                for (above, below) in [("b", "o"), ("a", "b")] {
                    rows_read += self.read_failures(recent, (above, below), into).await?;
                }
                recent
            }
        };
        let (columns, since) = (self.tally_columns(), self.changed_since());
        let sql = AssertSqlSafe(format!(
            "SELECT {columns}, changed_at FROM doorward_tallies WHERE {since} ORDER BY changed_at DESC LIMIT ?"
        ));
        let read: Result<(), Fault> = ask!(&self.connections, connection => {
            let rows = query(sql)
                .bind(after)
                .bind(overlap)
                .bind(MOST_TALLIES)
                .fetch_all(connection)
                .await?;
            let now = unix_millis();
            for row in &rows {
                into.learn(&row.try_get::<String, _>("tally_key")?, tally!(row), now);
                newest = newest.max(Some(row.try_get("changed_at")?));
            }
            rows_read += rows.len() as u64;
            Ok(())
        });
        read?;
        Ok((mark.clone()).read(began, Instant::now(), rows_read, newest))
    }

    /// Reads the counts with the most failures between two keys, and returns their number.
    async fn read_failures(
        &self,
        (after, overlap): (i64, i64),
        (above, below): (&str, &str),
        into: &Throttle,
    ) -> Result<u64, Fault> {
        let (columns, since) = (self.tally_columns(), self.changed_since());
        let sql = AssertSqlSafe(format!(
            "SELECT {columns} FROM doorward_tallies WHERE failures >= ? AND {since} AND tally_key > ? AND tally_key < ? ORDER BY failures DESC LIMIT ?"
        ));
        ask!(&self.connections, connection => {
            let rows = query(sql)
                .bind(SOME_FAILURES)
                .bind(after)
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
            Ok(rows.len() as u64)
        })
    }

    /// One count.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn tally(&self, key: &str) -> Result<Option<FailureCount>, Fault> {
        let columns = self.tally_columns();
        let sql = AssertSqlSafe(format!(
            "SELECT {columns} FROM doorward_tallies WHERE tally_key = ?"
        ));
        ask!(&self.connections, connection => {
            let row = query(sql)
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
    /// The fault of the database.
    pub(crate) async fn tallies(&self) -> Result<Vec<ListedFailures>, Fault> {
        let columns = self.tally_columns();
        let sql = AssertSqlSafe(format!(
            "SELECT {columns}, user_id FROM doorward_tallies WHERE failures > 0 ORDER BY failures DESC, last_failure DESC LIMIT 1000"
        ));
        ask!(&self.connections, connection => {
            let rows = query(sql)
            .fetch_all(connection)
            .await?;
            let mut counted = Vec::with_capacity(rows.len());
            for row in &rows {
                counted.push(ListedFailures {
                    key: row.try_get("tally_key")?,
                    tally: tally!(row),
                    user_id: row.try_get::<Option<StoredText>, _>("user_id")?.map(text),
                });
            }
            Ok(counted)
        })
    }

    /// The write that shares a failure with other replicas.
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
                    "failures = CASE WHEN doorward_tallies.last_failure < {clock} - {forgotten} THEN 1 ELSE doorward_tallies.failures + 1 END, last_failure = {clock}, user_id = ?"
                ),
            ),
            Change::Cleared => (
                "?, 1, 0, 0, ?".to_owned(),
                "epoch = doorward_tallies.epoch + 1, failures = 0, user_id = ?".to_owned(),
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
}
