//! Reads the rows of several users at once: owners of keys are read at every poll.

use std::collections::{HashMap, HashSet};

use sqlx::AssertSqlSafe;

use super::{
    Users, UsersFault,
    cell::{Cell, Cells as _},
};
use crate::{
    domain::account::Username,
    login::account::Account,
    tables::database::{Inferred, ask, query, question_marks},
};

/// Names per statement.
const NAMES: usize = 250;

impl Users {
    /// Whether one statement finds many users. It does not with `users.query` or `users.roles_query`.
    pub(crate) fn finds_many(&self) -> bool {
        self.statements.find_many.is_some() && self.statements.roles.is_none()
    }

    /// The accounts with exactly these names. A name whose row is no valid account, or that several rows have, is left out.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn find_many(
        &self,
        names: &[&Username],
    ) -> Result<HashMap<String, Account>, UsersFault> {
        let mut found = HashMap::new();
        let Some(start) = (self.statements.find_many.as_ref()).filter(|_| self.finds_many()) else {
            for name in names {
                let account = match self.find(name).await {
                    Err(UsersFault::Row(_)) => None,
                    account => account?,
                };
                found.extend(account.map(|account| (name.as_str().to_owned(), account)));
            }
            return Ok(found);
        };
        for names in names.chunks(NAMES) {
            let sql = format!("{start} ({})", question_marks(names.len()));
            let rows: Result<Vec<Vec<(String, Cell)>>, UsersFault> = ask!(&self.connections, connection => {
                let mut query = query(AssertSqlSafe(sql));
                for name in names {
                    query = query.bind(Inferred::text(name.as_str()));
                }
                let rows = query.fetch_all(connection).await?;
                let mut cells = Vec::with_capacity(rows.len());
                for row in &rows {
                    cells.push(row.cells()?);
                }
                Ok(cells)
            });
            // If two rows have one name, there is no such user, even if one of them is no valid account.
            let (mut seen, mut doubled) = (HashSet::new(), Vec::new());
            for cells in rows? {
                let name = cells.iter().find(|(column, _)| column == "username");
                let Some(name) = name.and_then(|(_, name)| name.text()) else {
                    continue;
                };
                if !seen.insert(name.clone()) {
                    doubled.push(name.clone());
                }
                // A collation finds other names, too; `get` asks for the exact one.
                if let Ok(account) = self.account(&cells) {
                    found.insert(name, account);
                }
            }
            for name in doubled {
                found.remove(&name);
            }
        }
        Ok(found)
    }
}
