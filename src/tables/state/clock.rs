//! The database's clock, which all replicas share, and the removal of rows by it: no replica's own clock decides when a row
//! goes.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::Instant;

use super::{State, failures::KEPT, unsigned};
use crate::{
    domain::token::UnixTime,
    login::throttle::UnixMillis,
    tables::database::{Engine, Fault, IS_READ_ONLY, Write, ask, query},
};

/// How many seconds longer than needed rows are kept: each node of a cluster has its own clock.
const MARGIN: u64 = 3600;

/// How far the removal of rows has come.
const SWEPT: &str = "swept";

/// The last expiry of tokens that were issued by a clock that is ahead.
const LATEST_EXPIRY: &str = "latest-expiry";

/// Which revocations are still needed.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The longest time that a token is valid anywhere.
    pub lasts: Duration,
    /// The earlier of the database's time and this replica's; rows that were needed only until then are skipped.
    pub now: UnixTime,
    /// The last expiry of tokens of a replica whose clock is ahead.
    pub latest_expiry: UnixTime,
}

impl Kept {
    /// Keeps every revocation of tokens that last this long.
    #[must_use]
    pub fn always(lasts: Duration) -> Self {
        Self {
            lasts,
            now: UnixTime(0),
            latest_expiry: UnixTime(0),
        }
    }

    /// Until when a row is needed. `expires` is by the clock of the replica that wrote it, `written` by the database's.
    pub(super) fn until(&self, expires: i64, written: i64) -> UnixTime {
        let written = unsigned(written).saturating_add(self.lasts.as_secs());
        UnixTime(unsigned(expires).max(written)).max(self.latest_expiry)
    }
}

/// What the database says of its clock and of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatabaseTime {
    pub(crate) now: UnixMillis,
    /// Whether it takes no writes, as a standby, which may lag.
    pub(crate) read_only: bool,
}

/// How far rows have aged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Swept {
    /// Seconds since 1970, by the database's clock.
    until: i64,
    /// The time of this, by the monotonic clock of the process.
    since: Instant,
}

impl State {
    /// SQL for Unix time by the database's clock. SQLite has no clock of its own and uses that of the process.
    pub(super) fn clock(&self) -> &'static str {
        match self.connections.engine() {
            // An unsigned number cannot become negative in a subtraction.
            Engine::MySql => "CAST(UNIX_TIMESTAMP() AS SIGNED)",
            // NOW() is the time of BEGIN, and a condition with CLOCK_TIMESTAMP() uses no index.
            Engine::Postgres => "CAST(FLOOR(EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP())) AS BIGINT)",
            Engine::Sqlite => "unixepoch()",
        }
    }

    /// SQL for the time of a write. SQLite's clock may be behind an earlier note.
    pub(super) fn stamp(&self) -> &'static str {
        match self.connections.engine() {
            Engine::MySql | Engine::Postgres => self.clock(),
            Engine::Sqlite => {
                "MAX(unixepoch(), COALESCE((SELECT seconds FROM doorward_clocks WHERE clock_name = 'swept'), 0))"
            }
        }
    }

    /// Milliseconds since 1970 by the database's clock.
    pub(super) fn clock_millis(&self) -> &'static str {
        match self.connections.engine() {
            // UNIX_TIMESTAMP(NOW(3)) would be an hour off while summer time ends.
            Engine::MySql => {
                "(CAST(UNIX_TIMESTAMP() AS SIGNED) * 1000 + MICROSECOND(NOW(6)) DIV 1000)"
            }
            Engine::Postgres => {
                "CAST(FLOOR(EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP()) * 1000) AS BIGINT)"
            }
            Engine::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        }
    }

    /// The time by the database's clock, and whether the database takes no writes.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn time(&self) -> Result<DatabaseTime, Fault> {
        let asks_role = self.connections.engine() == Engine::Postgres;
        let role = match asks_role {
            true => format!(", {IS_READ_ONLY} AS read_only"),
            false => String::new(),
        };
        let sql = format!("SELECT {} AS now{role}", self.clock_millis());
        ask!(&self.connections, connection => {
            let row = query(AssertSqlSafe(sql)).fetch_one(connection).await?;
            Ok(DatabaseTime {
                now: UnixMillis(unsigned(row.try_get("now")?)),
                read_only: asks_role && row.try_get("read_only")?,
            })
        })
    }

    /// The last expiry of tokens of a replica whose clock is ahead.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn latest_expiry(&self) -> Result<UnixTime, Fault> {
        let seconds = self.noted(LATEST_EXPIRY).await?;
        Ok(UnixTime(seconds.map_or(0, unsigned)))
    }

    /// Tells all replicas that tokens may be valid until then.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn note_latest_expiry(&self, expiry: UnixTime) -> Result<(), Fault> {
        let change = format!("seconds = {}(doorward_clocks.seconds, ?)", self.greatest());
        self.note(LATEST_EXPIRY, expiry.signed(), &change).await
    }

    /// Advances how far rows have aged, which may be long ago.
    ///
    /// Rows age by the database's clock, and by no more than a replica has been running: a clock that is ahead, even the
    /// database's, makes no row old.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn advance(&self, last: Option<Swept>) -> Result<Swept, Fault> {
        let since = Instant::now();
        let clock = self.clock();
        let sql = format!("SELECT {clock} AS now, MAX(changed_at) AS newest FROM doorward_endings");
        let times: Result<(i64, Option<i64>), Fault> = ask!(&self.connections, connection => {
            let row = query(AssertSqlSafe(sql)).fetch_one(connection).await?;
            Ok((row.try_get("now")?, row.try_get("newest")?))
        });
        let (now, newest) = times?;
        let noted = self.noted(SWEPT).await?;
        let until = match (noted, last) {
            (None, _) => newest.map_or(now, |newest| newest.min(now)),
            (Some(noted), None) => noted,
            (Some(noted), Some(last)) => {
                let watched = i64::try_from((since - last.since).as_secs()).unwrap_or(i64::MAX);
                noted.max(last.until.saturating_add(watched).min(now))
            }
        };
        if noted != Some(until) {
            let change = format!("seconds = {}(doorward_clocks.seconds, ?)", self.greatest());
            self.note(SWEPT, until, &change).await?;
        }
        Ok(Swept { until, since })
    }

    /// Removes rows that are not needed any more.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn sweep(&self, lasts: Duration, swept: Swept) -> Result<(), Fault> {
        let now = swept.until;
        let before = |kept: Duration| {
            let kept = kept.as_secs().saturating_add(MARGIN);
            now.saturating_sub(UnixTime(kept).signed())
        };
        let (expired, written) = (before(Duration::ZERO), before(lasts));
        if self.latest_expiry().await?.signed() <= now {
            let endings = Write::new(
                "DELETE FROM doorward_endings WHERE expires_at < ? AND changed_at < ?",
                [expired.into(), written.into()],
            );
            // Keep generations in the future: the next one must not be earlier.
            let generations = Write::new(
                "DELETE FROM doorward_generations WHERE expires_at < ? AND changed_at < ? AND generation < ?",
                [
                    expired.into(),
                    written.into(),
                    expired.saturating_mul(1000).into(),
                ],
            );
            for write in [endings, generations] {
                self.connections.write(&[write]).await?;
            }
        }
        for write in [
            // By key, which skips familiar addresses: they begin with `f:` and are most of the rows.
            Write::new(
                "DELETE FROM doorward_tallies WHERE tally_key < 'f:' AND changed_at < ?",
                [now.saturating_sub(2 * KEPT.0).into()],
            ),
            Write::new(
                "DELETE FROM doorward_tallies WHERE tally_key > 'f;' AND changed_at < ?",
                [now.saturating_sub(2 * KEPT.0).into()],
            ),
            Write::new(
                "DELETE FROM doorward_tallies WHERE changed_at < ?",
                [now.saturating_sub(KEPT.1).into()],
            ),
            Write::new(
                "DELETE FROM doorward_sessions WHERE expires_at < ?",
                [expired.into()],
            ),
        ] {
            self.connections.write(&[write]).await?;
        }
        Ok(())
    }

    async fn noted(&self, name: &str) -> Result<Option<i64>, Fault> {
        ask!(&self.connections, connection => {
            let row = query("SELECT seconds FROM doorward_clocks WHERE clock_name = ?")
                .bind(name)
                .fetch_optional(connection)
                .await?;
            Ok(match row {
                None => None,
                Some(row) => Some(row.try_get("seconds")?),
            })
        })
    }

    async fn note(&self, name: &str, seconds: i64, change: &str) -> Result<(), Fault> {
        let sql = self.upsert(
            "doorward_clocks",
            "clock_name, seconds",
            "?, ?",
            "clock_name",
            change,
        );
        let write = Write::new(sql, [name.into(), seconds.into(), seconds.into()]);
        self.connections.write(&[write]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_writers_clock_shortens_the_lifetime_of_a_row() {
        let kept = Kept {
            lasts: Duration::from_secs(100),
            now: UnixTime(0),
            latest_expiry: UnixTime(0),
        };
        // Behind, right, ahead.
        for (expires, until) in [(0, 1100), (900, 1100), (1100, 1100), (5000, 5000)] {
            assert_eq!(kept.until(expires, 1000), UnixTime(until), "{expires}");
        }
        let ahead = Kept {
            latest_expiry: UnixTime(3000),
            ..kept
        };
        assert_eq!(ahead.until(900, 1000), UnixTime(3000));
        assert_eq!(ahead.until(5000, 1000), UnixTime(5000));
        assert_eq!(kept.until(-5, i64::MAX), UnixTime(i64::MAX as u64 + 100));
    }
}
