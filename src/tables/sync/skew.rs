//! How far the clock of this replica is from the database's, which all replicas share.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    clock::unix_millis,
    domain::token::{TokenTerms, UnixTime},
    observe::{causes, metrics::Metrics},
    tables::{
        database::Fault,
        state::{DatabaseTime, State},
    },
};

/// How often to measure.
const EVERY: Duration = Duration::from_secs(10);

/// The shortest time between two warnings, and between two notices to other replicas.
const SAID_EVERY: Duration = Duration::from_secs(300);

/// The smallest limit: a measurement takes time itself.
const SMALLEST_LIMIT: Duration = Duration::from_secs(1);

/// The measured difference.
#[derive(Debug, Default)]
pub(super) struct Skew {
    /// How many milliseconds this replica's clock is ahead; negative if it is behind.
    ahead: i64,
    measured: Option<Instant>,
    /// Whether the difference exceeds the limit.
    differs: bool,
    /// The time of the last warning, and whether there was one since the clocks last agreed.
    said: Option<Instant>,
    is_said: bool,
    /// When other replicas were informed last.
    told: Option<Instant>,
}

impl Skew {
    /// Whether a measurement is due.
    pub(super) fn is_due(&self) -> bool {
        is_past(self.measured, EVERY)
    }

    /// Makes a measurement due: the next answer may come from another server.
    pub(super) fn measure_soon(&mut self) {
        self.measured = None;
    }

    /// Measures, and warns if the clocks differ by more than `leeway`. Returns whether the database takes no writes; then the
    /// next measurement is due at once.
    ///
    /// # Errors
    ///
    /// The error of the database.
    pub(super) async fn measure(
        &mut self,
        state: &State,
        leeway: Duration,
        metrics: &Metrics,
    ) -> Result<bool, Fault> {
        let before = unix_millis().0;
        let DatabaseTime { now, read_only } = state.time().await?;
        let theirs = now.0;
        let ours = before.midpoint(unix_millis().0);
        self.ahead = ours.cast_signed().saturating_sub(theirs.cast_signed());
        self.measured = (!read_only).then(Instant::now);
        let limit = leeway.max(SMALLEST_LIMIT);
        metrics.clock(self.ahead, limit);
        self.differs = u128::from(self.ahead.unsigned_abs()) > limit.as_millis();
        if self.differs && is_past(self.said, SAID_EVERY) {
            self.said = Some(Instant::now());
            self.is_said = true;
            tracing::warn!(
                ahead_seconds = self.ahead / 1000,
                "this clock differs from the database's by more than jwt.leeway"
            );
        }
        if !self.differs && self.is_said {
            self.is_said = false;
            tracing::info!("this clock agrees with the database's again");
        }
        Ok(read_only)
    }

    /// If this clock is ahead, other replicas accept its tokens only when their revocations would already be removed
    /// there. So this replica asks the others to keep revocations longer.
    pub(super) async fn tell(&mut self, state: &State, terms: &TokenTerms) {
        if !self.differs || self.ahead < 0 || !is_past(self.told, SAID_EVERY) {
            return;
        }
        let told_again = (unix_millis().0 / 1000).saturating_add(2 * SAID_EVERY.as_secs());
        let expiry = terms.all_expired(UnixTime(told_again));
        self.told = Some(Instant::now());
        if let Err(fault) = state.note_latest_expiry(expiry).await {
            tracing::warn!(cause = %causes(&fault), "other replicas cannot be told that this clock is ahead");
        }
    }

    /// The earlier of the database's time and that of this replica.
    pub(super) fn earlier(&self) -> UnixTime {
        let ahead = u64::try_from(self.ahead).unwrap_or(0);
        UnixTime(unix_millis().0.saturating_sub(ahead) / 1000)
    }
}

fn is_past(since: Option<Instant>, time: Duration) -> bool {
    since.is_none_or(|since| since.elapsed() >= time)
}
