//! The user table and the ledger as one: what changes both changes all of it or nothing, where one database holds both.

use crate::{
    database::{Fault, Write},
    domain::{
        account::{Account, Roles, Username},
        password::PasswordHash,
        revocation::{Generation, Revocations},
        token::UnixTime,
    },
    ledger::Ledger,
    spans::{request_id, step},
    users::{Users, UsersFault},
};

/// The user table and the ledger.
#[derive(Clone, Debug)]
pub struct Store {
    /// Who there is.
    pub users: Users,
    /// What Doorward keeps.
    pub ledger: Ledger,
    /// Whether one database holds both.
    pub together: bool,
}

impl Store {
    /// Makes the tables, or brings them up to date.
    ///
    /// # Errors
    ///
    /// A database cannot be reached, or holds a `users` table of somebody else.
    pub async fn migrate(&self) -> Result<(), UsersFault> {
        self.users.migrate().await?;
        Ok(self.ledger.migrate().await?)
    }

    /// In two databases, sessions end first: if the rest does not come to be, people log in again and nothing else.
    async fn write(
        &self,
        users: impl IntoIterator<Item = Write>,
        ledger: Vec<Write>,
    ) -> Result<(), UsersFault> {
        let users: Vec<_> = users.into_iter().collect();
        if self.together {
            let all: Vec<_> = users.into_iter().chain(ledger).collect();
            return Ok(self.users.connections.write(&all).await?);
        }
        self.ledger.connections.write(&ledger).await?;
        Ok(self.users.connections.write(&users).await?)
    }

    fn ending_all(&self, user_id: &str, expires: UnixTime) -> Vec<Write> {
        vec![
            self.ledger.ending_all(user_id, expires),
            self.ledger.closing_all(user_id),
        ]
    }

    /// Ends every token and session of a user; `expires` is when the last of them would have expired.
    ///
    /// # Errors
    ///
    /// What kept the database from answering; nothing has ended then.
    pub async fn end_all(&self, user_id: &str, expires: UnixTime) -> Result<(), Fault> {
        let writes = self.ending_all(user_id, expires);
        self.ledger.connections.write(&writes).await
    }

    /// Ends one token, with the session that it is of.
    ///
    /// # Errors
    ///
    /// What kept the database from answering; nothing has ended then.
    pub async fn end(
        &self,
        token: &str,
        session: Option<&str>,
        expires: UnixTime,
        all_expired: UnixTime,
    ) -> Result<(), Fault> {
        let mut writes = vec![self.ledger.ending(token, expires)];
        if let Some(session) = session {
            writes.push(self.ledger.ending(session, all_expired));
            writes.push(self.ledger.closing(session));
        }
        self.ledger.connections.write(&writes).await
    }

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Exists`], or what kept the database from doing it.
    pub async fn add(
        &self,
        username: &Username,
        hash: &PasswordHash,
        roles: &Roles,
        now: UnixTime,
    ) -> Result<(), UsersFault> {
        // A table of somebody else may let a name be there twice, and then neither of the two could log in.
        match self.users.find(username).await {
            Ok(None) => {}
            Ok(Some(_)) | Err(UsersFault::Row(_)) => return Err(UsersFault::Exists),
            Err(fault) => return Err(fault),
        }
        let write = self.users.adding(username, hash, roles, now.signed())?;
        Ok(self.users.connections.write(&[write]).await?)
    }

    /// Replaces a hash by another of the same password, where it is still the one that was seen.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`] where it is not, or what kept the database from doing it.
    pub async fn upgrade_hash(
        &self,
        username: &Username,
        seen: &PasswordHash,
        hash: &PasswordHash,
    ) -> Result<(), UsersFault> {
        let writes = self.users.replacing_hash(username, seen, hash)?;
        Ok(self.users.connections.write(&writes).await?)
    }

    /// Replaces a password, where its hash is still the one that was seen, and ends every token and session of the user.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`] where it is not, or what kept the database from doing it.
    pub async fn change_password(
        &self,
        account: &Account,
        hash: &PasswordHash,
        expires: UnixTime,
    ) -> Result<(), UsersFault> {
        let writes = (self.users).replacing_hash(&account.username, &account.hash, hash)?;
        self.write(writes, self.ending_all(&account.id, expires))
            .await
    }

    /// Replaces a user's roles, and ends every token and session of theirs.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from doing it.
    pub async fn set_roles(
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

    /// Refuses a user's logins and ends every token and session of theirs.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from doing it.
    pub async fn disable(
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
    /// [`UsersFault::Unknown`], or what kept the database from doing it.
    pub async fn enable(&self, account: &Account, now: UnixTime) -> Result<(), UsersFault> {
        let write = (self.users).setting_disabled(&account.username, false, now.signed())?;
        Ok(self.users.connections.write(&[write]).await?)
    }

    /// Removes a user, and ends every token and session of theirs.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Unknown`], or what kept the database from doing it.
    pub async fn remove(&self, account: &Account, expires: UnixTime) -> Result<(), UsersFault> {
        let write = self.users.removing(&account.username)?;
        self.write([write], self.ending_all(&account.id, expires))
            .await
    }

    /// The generation of a user's tokens: what the ledger says, or what is known here where it cannot be asked. A token
    /// of too early a generation ends as soon as it is known that it is; it is never good for longer.
    pub async fn generation(&self, user_id: &str, known: &Revocations) -> Generation {
        match step("fetch generation", self.ledger.generation(user_id)).await {
            Ok(generation) => generation.max(known.generation(user_id)),
            Err(fault) => {
                let request_id = request_id();
                tracing::warn!(cause = %fault, request_id, "the generation of a user's tokens cannot be read");
                known.generation(user_id)
            }
        }
    }
}
