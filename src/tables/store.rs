//! The user table and Doorward's own state together: a change to both is written in one transaction if one database
//! holds both.

use crate::{
    domain::{
        account::{Roles, Username},
        revocation::{Generation, Revocations},
        token::UnixTime,
    },
    login::{account::Account, password::PasswordHash},
    observe::{
        causes,
        spans::{request_id, step},
    },
    tables::{
        database::{Fault, Write},
        state::State,
        users::{Users, UsersFault},
    },
};

/// The user table and Doorward's own state.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// The user table.
    pub(crate) users: Users,
    /// Doorward's own tables.
    pub(crate) state: State,
    /// Whether one database holds both.
    pub(crate) together: bool,
}

impl Store {
    /// Creates or updates the tables.
    ///
    /// # Errors
    ///
    /// A database cannot be reached, or has a `users` table that Doorward did not create.
    pub(crate) async fn migrate(&self) -> Result<(), UsersFault> {
        self.users.migrate().await?;
        Ok(self.state.migrate().await?)
    }

    /// With two databases, revokes first: if the second write fails, people only have to log in again.
    async fn write(
        &self,
        users: impl IntoIterator<Item = Write>,
        state: Vec<Write>,
    ) -> Result<(), UsersFault> {
        let users: Vec<_> = users.into_iter().collect();
        if self.together {
            let all: Vec<_> = users.into_iter().chain(state).collect();
            return Ok(self.users.connections.write(&all).await?);
        }
        self.state.connections.write(&state).await?;
        Ok(self.users.connections.write(&users).await?)
    }

    fn ending_all(&self, user_id: &str, expires: UnixTime) -> Vec<Write> {
        vec![
            self.state.ending_all(user_id, expires),
            self.state.closing_all(user_id),
        ]
    }

    /// Revokes all tokens and sessions of a user. `expires` is when the last of these tokens would have expired.
    ///
    /// # Errors
    ///
    /// The fault of the database; nothing is revoked then.
    pub(crate) async fn end_all(&self, user_id: &str, expires: UnixTime) -> Result<(), Fault> {
        let writes = self.ending_all(user_id, expires);
        self.state.connections.write(&writes).await
    }

    /// Revokes one token, and its session.
    ///
    /// # Errors
    ///
    /// The fault of the database; nothing is revoked then.
    pub(crate) async fn end(
        &self,
        token: &str,
        session: Option<&str>,
        expires: UnixTime,
        all_expired: UnixTime,
    ) -> Result<(), Fault> {
        let mut writes = vec![self.state.ending(token, expires)];
        if let Some(session) = session {
            writes.push(self.state.ending(session, all_expired));
            writes.push(self.state.closing(session));
        }
        self.state.connections.write(&writes).await
    }

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Exists`], or the fault of the database.
    pub(crate) async fn add(
        &self,
        username: &Username,
        hash: &PasswordHash,
        roles: &Roles,
        now: UnixTime,
    ) -> Result<(), UsersFault> {
        // A user table of others may hold the same name twice, and then neither user could log in.
        match self.users.find(username).await {
            Ok(None) => {}
            Ok(Some(_)) | Err(UsersFault::Row(_)) => return Err(UsersFault::Exists),
            Err(fault) => return Err(fault),
        }
        let write = self.users.adding(username, hash, roles, now.signed())?;
        Ok(self.users.connections.write(&[write]).await?)
    }

    /// Replaces a hash with another one of the same password, if the stored hash is still the one that was read.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`] if it is not, or the fault of the database.
    pub(crate) async fn upgrade_hash(
        &self,
        username: &Username,
        seen: &PasswordHash,
        hash: &PasswordHash,
    ) -> Result<(), UsersFault> {
        let writes = self.users.replacing_hash(username, seen, hash)?;
        Ok(self.users.connections.write(&writes).await?)
    }

    /// Replaces a password, if the stored hash is still the one that was read, and revokes all tokens and sessions of
    /// the user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`] if it is not, or the fault of the database.
    pub(crate) async fn change_password(
        &self,
        account: &Account,
        hash: &PasswordHash,
        expires: UnixTime,
    ) -> Result<(), UsersFault> {
        let writes = (self.users).replacing_hash(&account.username, &account.hash, hash)?;
        self.write(writes, self.ending_all(&account.id, expires))
            .await
    }

    /// Replaces a user's roles, and revokes all tokens and sessions of the user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or the fault of the database.
    pub(crate) async fn set_roles(
        &self,
        account: &Account,
        roles: &Roles,
        now: UnixTime,
        expires: UnixTime,
    ) -> Result<(), UsersFault> {
        let write = (self.users).setting_roles(&account.username, roles, now.signed())?;
        self.write([write], self.ending_all(&account.id, expires))
            .await
    }

    /// Disables a user: refuses logins, and revokes all tokens and sessions.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or the fault of the database.
    pub(crate) async fn disable(
        &self,
        account: &Account,
        now: UnixTime,
        expires: UnixTime,
    ) -> Result<(), UsersFault> {
        let write = (self.users).setting_disabled(&account.username, true, now.signed())?;
        self.write([write], self.ending_all(&account.id, expires))
            .await
    }

    /// Accepts a user's logins again.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or the fault of the database.
    pub(crate) async fn enable(&self, account: &Account, now: UnixTime) -> Result<(), UsersFault> {
        let write = (self.users).setting_disabled(&account.username, false, now.signed())?;
        Ok(self.users.connections.write(&[write]).await?)
    }

    /// Removes a user, and revokes all tokens and sessions of the user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or the fault of the database.
    pub(crate) async fn remove(
        &self,
        account: &Account,
        expires: UnixTime,
    ) -> Result<(), UsersFault> {
        let write = self.users.removing(&account.username)?;
        self.write([write], self.ending_all(&account.id, expires))
            .await
    }

    /// The current generation of a user's tokens: read from the database, or the last one known here if the database
    /// does not answer. A token that gets too early a generation is refused as soon as the right one is known.
    pub(crate) async fn generation(&self, user_id: &str, known: &Revocations) -> Generation {
        match step("fetch generation", self.state.generation(user_id)).await {
            Ok(generation) => generation.max(known.generation(user_id)),
            Err(fault) => {
                let request_id = request_id();
                tracing::warn!(cause = %causes(&fault), request_id, "the generation of a user's tokens cannot be read");
                known.generation(user_id)
            }
        }
    }
}
