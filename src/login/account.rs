//! What a row of the user table means.

use super::password::PasswordHash;
use crate::domain::account::{Identity, Roles, Username};

/// An account in the user table.
#[derive(Clone, Debug)]
pub struct Account {
    /// The id, which never changes; the `sub` of the account's tokens.
    pub(crate) id: String,
    /// The name as in the table.
    pub(crate) username: Username,
    /// The stored password hash.
    pub(crate) hash: PasswordHash,
    /// The roles of the user.
    pub(crate) roles: Roles,
    /// Whether logins are refused.
    pub(crate) disabled: bool,
}

impl From<Account> for Identity {
    fn from(account: Account) -> Self {
        let Account {
            id,
            username,
            hash: _,
            roles,
            disabled: _,
        } = account;
        Self {
            subject: id,
            username,
            roles,
        }
    }
}
