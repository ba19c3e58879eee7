//! The user table, Doorward's own or an existing one. Contains its SQL; does not decide who may log in.

mod cell;
mod fault;
mod fit;
mod many;
mod mapping;
mod parameter;
mod postgres;
mod writes;

use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Row as _};

use self::{
    cell::{Cell, Cells as _},
    mapping::Statements,
    parameter::IdType,
};
pub(crate) use self::{
    fault::UsersFault,
    mapping::{Columns, Mapping, Name, Source, Statement},
};
use crate::{
    domain::account::{ADMIN, Role, Roles, Username},
    login::{account::Account, password::PasswordHash},
    tables::database::{Connections, Engine, Fault, Inferred, Migration, ask, migration, query},
};

/// The user table of one database.
#[derive(Clone, Debug)]
pub struct Users {
    pub(crate) connections: Connections,
    statements: Statements,
    grant: Roles,
    is_own: bool,
    /// The type of the id in `users.roles_query`, once PostgreSQL has said it.
    id_type: Arc<Mutex<Option<IdType>>>,
}

/// A row of the table, as commands show it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Listed {
    /// The id, which never changes.
    pub(crate) id: String,
    /// The user name.
    pub(crate) username: String,
    /// The names of the roles.
    pub(crate) roles: Vec<String>,
    /// Whether logins are refused.
    pub(crate) disabled: bool,
    /// Seconds since 1970, if the table is Doorward's own.
    pub(crate) created_at: Option<i64>,
}

/// Doorward's own table, with one statement per engine.
const OWN_TABLE: Migration = migration!(1, "users", "users/");

/// The most rows whose names compare equal under the column's collation.
const MOST_ALIKE: usize = 16;

const MIGRATED: &str = "SELECT 1 FROM doorward_migrations WHERE version = 1";

const ANY_USER: &str = "SELECT 1 FROM users LIMIT 1";

impl Users {
    /// Takes the connections, and the mapping of an existing table, if it is not Doorward's own.
    #[must_use]
    pub fn new(connections: Connections, mapping: Option<&Mapping>) -> Self {
        Self {
            statements: match mapping {
                None => Statements::own(connections.engine()),
                Some(mapping) => Statements::of(mapping, connections.engine()),
            },
            connections,
            grant: mapping
                .map(|mapping| mapping.grant.clone())
                .unwrap_or_default(),
            is_own: mapping.is_none(),
            id_type: Arc::default(),
        }
    }

    /// Creates the table, if it is Doorward's own.
    ///
    /// # Errors
    ///
    /// The database cannot be reached, or has a `users` table that Doorward did not create.
    pub(crate) async fn migrate(&self) -> Result<(), UsersFault> {
        if !self.is_own {
            return Ok(());
        }
        if !self.has_row(MIGRATED).await? && self.is_there(ANY_USER).await? {
            return Err(UsersFault::Foreign);
        }
        Ok(self.connections.migrate(&[OWN_TABLE]).await?)
    }

    async fn has_row(&self, sql: &'static str) -> Result<bool, UsersFault> {
        let row: Result<bool, Fault> = ask!(&self.connections, connection => {
            Ok(query(sql).fetch_optional(connection).await?.is_some())
        });
        match row {
            Err(Fault::NoTable(_)) => Ok(false),
            row => Ok(row?),
        }
    }

    async fn is_there(&self, sql: &'static str) -> Result<bool, UsersFault> {
        let row: Result<(), Fault> = ask!(&self.connections, connection => {
            query(sql).fetch_optional(connection).await?;
            Ok(())
        });
        match row {
            Err(Fault::NoTable(_)) => Ok(false),
            row => Ok(row.map(|()| true)?),
        }
    }

    /// Fetches the account with exactly this name, byte for byte.
    ///
    /// # Errors
    ///
    /// The fault of the database, such as no answer within the timeout, or a row that is not a valid account.
    pub async fn find(&self, username: &Username) -> Result<Option<Account>, UsersFault> {
        let id_type = self.id_type().await?;
        let found = self.find_with(username, id_type).await;
        match &found {
            Err(UsersFault::Database(fault)) if fault.is_about_a_type() => self.forget_id_type(),
            Err(UsersFault::Unknown) => return Ok(None),
            Ok(_) | Err(_) => {}
        }
        found
    }

    async fn find_with(
        &self,
        username: &Username,
        id_type: IdType,
    ) -> Result<Option<Account>, UsersFault> {
        let statements = &self.statements;
        ask!(&self.connections, connection => {
            let mut accounts = Vec::new();
            {
                let mut rows = query(AssertSqlSafe(statements.find.clone()))
                    .bind(Inferred::text(username.as_str()))
                    .fetch(&mut *connection);
                let mut seen = 0;
                while let Some(row) = rows.try_next().await.map_err(|error| lookup_fault(error, Fault::refuses_text))? {
                    seen += 1;
                    if seen > MOST_ALIKE {
                        return Err(UsersFault::Row("name: very many users share it"));
                    }
                    let cells = row.cells()?;
                    // A collation ignores case, accents, trailing blanks or zero-width characters. These are
                    // different users.
                    let name = cells.iter().find(|(column, _)| column == "username");
                    if name.and_then(|(_, name)| name.text()).as_deref() == Some(username.as_str()) {
                        accounts.push(cells);
                    }
                }
            }
            let row = match &*accounts {
                [] => {
                    // Run the query for an unknown user too, so that the time does not reveal that the user is
                    // unknown.
                    if let Some(sql) = &statements.roles {
                        query(AssertSqlSafe(sql.clone()))
                            .bind(id_type.of_nobody(username))
                            .fetch_all(connection)
                            .await
                            .map_err(|error| lookup_fault(error, Fault::is_data_exception))?;
                    }
                    return Ok(None);
                }
                [row] => row,
                [..] => return Err(UsersFault::Row("name: several users share it")),
            };
            let mut account = self.account(row)?;
            if let Some(sql) = &statements.roles {
                let rows = query(AssertSqlSafe(sql.clone()))
                    .bind(id_type.of(&account.id)?)
                    .fetch_all(connection)
                    .await?;
                let mut roles: Vec<_> = account.roles.iter().cloned().collect();
                for row in &rows {
                    let cells = row.cells()?;
                    let more = cells.first().map(|(_, cell)| cell).unwrap_or(&Cell::Null);
                    roles.extend(more.roles()?);
                }
                account.roles = Roles::collect(roles).map_err(|_| UsersFault::Row("list of roles"))?;
            }
            Ok(Some(account))
        })
    }

    fn account(&self, cells: &[(String, Cell)]) -> Result<Account, UsersFault> {
        let cell = |name: &str| {
            cells
                .iter()
                .find(|(own, _)| own == name)
                .map(|(_, cell)| cell)
        };
        let username = cell("username").and_then(Cell::text);
        let username = username
            .and_then(|name| Username::parse(&name))
            .ok_or(UsersFault::Row("name"))?;
        let id = match cell("id") {
            None => username.as_str().to_owned(),
            Some(id) => id
                .id()
                .filter(|id| (1..=255).contains(&id.len()) && !id.contains('\0'))
                .ok_or(UsersFault::Row("id"))?,
        };
        let mut roles: Vec<Role> = self.grant.iter().cloned().collect();
        if let Some(list) = cell("roles") {
            roles.extend(list.roles()?);
        }
        if let Some(admin) = cell("admin")
            && admin.truth().ok_or(UsersFault::Row("admin flag"))?
        {
            roles.push(Role::admin());
        }
        let active = match cell("active") {
            None => true,
            Some(active) => active.truth().ok_or(UsersFault::Row("active flag"))?,
        };
        Ok(Account {
            id,
            username,
            // Without a stored hash: an empty one, which no password matches.
            hash: PasswordHash::new(cell("password").and_then(Cell::text).unwrap_or_default()),
            roles: Roles::collect(roles).map_err(|_| UsersFault::Row("list of roles"))?,
            disabled: !active,
        })
    }

    /// The ids of users whose tokens are refused now, at most `most`; `None` without `users.inactive_query`.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn inactive(&self, most: usize) -> Result<Option<Vec<String>>, UsersFault> {
        let Some(sql) = &self.statements.inactive else {
            return Ok(None);
        };
        let sql = self.limited(sql, most);
        ask!(&self.connections, connection => {
            let mut ids = Vec::new();
            let mut rows = query(AssertSqlSafe(sql.clone())).fetch(connection);
            while ids.len() < most && let Some(row) = rows.try_next().await? {
                let cells = row.cells()?;
                if let Some(id) = cells.first().and_then(|(_, cell)| cell.id()) {
                    ids.push(id);
                }
            }
            Ok(Some(ids))
        })
    }

    /// A query of which only the first rows are read. PostgreSQL sends all rows that it finds, and the transaction ends only
    /// when the last one has arrived.
    fn limited(&self, sql: &str, most: usize) -> String {
        match self.connections.engine() {
            Engine::Postgres => format!("SELECT * FROM (\n{sql}\n) AS found LIMIT {most}"),
            Engine::MySql | Engine::Sqlite => sql.to_owned(),
        }
    }

    /// Calls `see` with every stored hash.
    ///
    /// # Errors
    ///
    /// [`UsersFault::NotOurs`] with `users.query`, or the fault of the database.
    pub(crate) async fn hashes(&self, mut see: impl FnMut(PasswordHash)) -> Result<(), UsersFault> {
        let Some(sql) = &self.statements.hashes else {
            return Err(UsersFault::NotOurs(
                "read all hashes; set users.table instead of users.query, or users.hashes_query beside it",
            ));
        };
        ask!(&self.connections, connection => {
            let mut rows = query(AssertSqlSafe(sql.clone())).fetch(connection);
            while let Some(row) = rows.try_next().await? {
                let cells = row.cells()?;
                let hash = cells.first().and_then(|(_, cell)| cell.text());
                see(PasswordHash::new(hash.unwrap_or_default()));
            }
            Ok(())
        })
    }

    /// All users, sorted by name.
    ///
    /// # Errors
    ///
    /// [`UsersFault::NotOurs`] with `users.query`, or the fault of the database.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, UsersFault> {
        let Some(sql) = &self.statements.list else {
            return Err(UsersFault::NotOurs(
                "list everybody; set users.table instead of users.query",
            ));
        };
        ask!(&self.connections, connection => {
            let rows = query(AssertSqlSafe(sql.clone())).fetch_all(connection).await?;
            let mut listed = Vec::with_capacity(rows.len());
            for row in &rows {
                let cells = row.cells()?;
                let account = self.account(&cells)?;
                listed.push(Listed {
                    id: account.id,
                    username: account.username.as_str().to_owned(),
                    roles: account.roles.iter().map(|role| role.as_str().to_owned()).collect(),
                    disabled: account.disabled,
                    created_at: row.try_get("created_at").ok(),
                });
            }
            Ok(listed)
        })
    }

    /// Some stored hashes, at most `most` from each end of the table.
    ///
    /// # Errors
    ///
    /// [`UsersFault::NotOurs`] with `users.query` and no query for hashes, or the fault of the database; `see` may have been
    /// called before.
    pub(crate) async fn sample(
        &self,
        most: usize,
        mut see: impl FnMut(PasswordHash),
    ) -> Result<(), UsersFault> {
        let Some(hashes) = &self.statements.hashes else {
            return Err(UsersFault::NotOurs("read hashes; set users.hashes_query"));
        };
        // The newest rows first: later imports are at that end.
        for sql in self.statements.newest_hashes.iter().chain([hashes]) {
            let sql = self.limited(sql, most);
            let answer: Result<usize, UsersFault> = ask!(&self.connections, connection => {
                let mut rows = query(AssertSqlSafe(sql.clone())).fetch(connection);
                let mut seen = 0;
                while seen < most && let Some(row) = rows.try_next().await? {
                    let cells = row.cells()?;
                    let hash = cells.first().and_then(|(_, cell)| cell.text());
                    see(PasswordHash::new(hash.unwrap_or_default()));
                    seen += 1;
                }
                Ok(seen)
            });
            // The sample has all rows.
            if answer? < most {
                break;
            }
        }
        Ok(())
    }
}

/// The fault of a lookup. PostgreSQL may refuse a value where MySQL finds no row: then nobody has it.
fn lookup_fault(error: sqlx::Error, refuses_value: fn(&Fault) -> bool) -> UsersFault {
    let fault = Fault::from(error);
    match refuses_value(&fault) {
        true => UsersFault::Unknown,
        false => fault.into(),
    }
}

// The role that an admin flag gives must be the one that rules name.
const _: () = assert!(matches!(ADMIN.as_bytes(), b"admin"));
