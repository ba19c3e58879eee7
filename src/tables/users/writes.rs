//! The writes that change the user table.

use super::{Users, UsersFault, mapping::Update};
use crate::{
    domain::account::{Roles, Username},
    login::password::PasswordHash,
    tables::database::Write,
};

impl Users {
    /// Whether stored hashes can be replaced.
    #[must_use]
    pub(crate) fn takes_hashes(&self) -> bool {
        self.statements.update_password.is_some()
    }

    /// Whether users can be added.
    #[must_use]
    pub(crate) fn takes_users(&self) -> bool {
        self.is_own || self.statements.insert.is_some()
    }

    /// The write that adds a user.
    pub(crate) fn adding(
        &self,
        username: &Username,
        hash: &PasswordHash,
        roles: &Roles,
        now: i64,
    ) -> Result<Write, UsersFault> {
        if let Some(sql) = &self.statements.insert {
            if roles.iter().next().is_some() {
                return Err(UsersFault::NotOurs("give roles"));
            }
            return Ok(Write::new(
                sql.clone(),
                [username.as_str().into(), hash.expose().into()],
            ));
        }
        self.ours("add users; set users.insert")?;
        Ok(Write::new(
            "INSERT INTO users (id, username, password_hash, roles, disabled, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                uuid::Uuid::now_v7().to_string().into(),
                username.as_str().into(),
                hash.expose().into(),
                roles.to_string().into(),
                false.into(),
                now.into(),
                now.into(),
            ],
        ))
    }

    /// The writes that replace a hash if it is still the one that was read. A second run of the same statement checks
    /// that the new hash is stored whole: without strict mode MySQL truncates a value that is too long for its
    /// column.
    pub(crate) fn replacing_hash(
        &self,
        username: &Username,
        seen: &PasswordHash,
        hash: &PasswordHash,
    ) -> Result<Vec<Write>, UsersFault> {
        let Some(update) = &self.statements.update_password else {
            return Err(UsersFault::NotOurs(
                "change passwords; set users.update_password",
            ));
        };
        let name = || username.as_str().into();
        let replacing = |seen: &PasswordHash| {
            let (hash, seen) = (hash.expose().into(), seen.expose().into());
            match update {
                Update::Exact(sql) => Write::new(sql.clone(), [hash, name(), name(), seen]),
                Update::Own(sql) => Write::new(sql.clone(), [hash, name(), seen]),
            }
        };
        let mut writes = vec![replacing(seen).needs_a_row()];
        // Do not run a statement from the settings twice: it may have other effects.
        if let Update::Exact(_) = update {
            writes.push(replacing(hash).needs_to_be_kept());
        }
        Ok(writes)
    }

    /// The write that replaces a user's roles.
    pub(crate) fn setting_roles(
        &self,
        username: &Username,
        roles: &Roles,
        now: i64,
    ) -> Result<Write, UsersFault> {
        self.ours("give or take roles; change them there, then run `doorward user logout`")?;
        Ok(Write::new(
            "UPDATE users SET roles = ?, updated_at = ? WHERE username = ?",
            [
                roles.to_string().into(),
                now.into(),
                username.as_str().into(),
            ],
        )
        .needs_a_row())
    }

    /// The write that disables or enables a user.
    pub(crate) fn setting_disabled(
        &self,
        username: &Username,
        disabled: bool,
        now: i64,
    ) -> Result<Write, UsersFault> {
        self.ours("disable users; change them there, then run `doorward user logout`")?;
        Ok(Write::new(
            "UPDATE users SET disabled = ?, updated_at = ? WHERE username = ?",
            [disabled.into(), now.into(), username.as_str().into()],
        )
        .needs_a_row())
    }

    /// The write that removes a user.
    pub(crate) fn removing(&self, username: &Username) -> Result<Write, UsersFault> {
        self.ours("remove users; remove them there, then run `doorward user logout`")?;
        Ok(Write::new(
            "DELETE FROM users WHERE username = ?",
            [username.as_str().into()],
        )
        .needs_a_row())
    }

    fn ours(&self, what: &'static str) -> Result<(), UsersFault> {
        match self.is_own {
            true => Ok(()),
            false => Err(UsersFault::NotOurs(what)),
        }
    }
}
