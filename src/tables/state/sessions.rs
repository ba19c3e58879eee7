//! Sessions of refresh tokens.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};

use super::{State, text, unsigned};
use crate::{
    domain::{
        account::{Identity, Username},
        revocation::Generation,
        session::RefreshToken,
        token::UnixTime,
    },
    tables::database::{Fault, Write, ask, query},
};

/// A session after its refresh token was exchanged.
#[derive(Debug)]
pub(crate) struct Session {
    /// The id of its user.
    pub(crate) user_id: String,
    /// The name of its user at the login.
    pub(crate) username: Username,
    /// The generation of the login.
    pub(crate) generation: Generation,
    /// The new refresh token.
    pub(crate) refresh: RefreshToken,
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

impl State {
    /// The write that closes all sessions of a user.
    pub(crate) fn closing_all(&self, user_id: &str) -> Write {
        Write::new(
            "DELETE FROM doorward_sessions WHERE user_id = ?",
            [user_id.into()],
        )
    }

    /// The write that closes one session.
    pub(crate) fn closing(&self, session_id: &str) -> Write {
        Write::new(
            "DELETE FROM doorward_sessions WHERE session_id = ?",
            [session_id.into()],
        )
    }

    /// The write that opens a session.
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
            let row = query(sql)
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
                // The clocks of a cluster's nodes differ, but by less than the grace.
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
