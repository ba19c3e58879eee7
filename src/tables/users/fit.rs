//! Whether the settings fit the table.

use sqlx::{AssertSqlSafe, Column as _, Either, Executor as _, Statement as _, TypeInfo as _};

use super::{
    Users, UsersFault,
    mapping::{Statements, Update},
    parameter::must_be_text,
};
use crate::{
    domain::account::Username,
    tables::database::{Engine, Fault, Inferred, ask, form_for, query},
};

/// The names of a statement's columns, and the types of its parameters, which only PostgreSQL says.
pub(super) struct Described {
    columns: Vec<String>,
    pub(super) parameters: Vec<String>,
}

impl Users {
    /// Checks the settings against the table: looks up a user who does not exist, and has the database prepare every
    /// other statement.
    ///
    /// # Errors
    ///
    /// [`UsersFault::Mapping`] with the missing column, or the fault of the database.
    pub(crate) async fn probe(&self) -> Result<(), UsersFault> {
        let nobody = uuid::Uuid::new_v4().to_string();
        let Described {
            columns,
            parameters,
        } = self.describe(&self.statements.find).await?;
        for kind in &parameters {
            must_be_text(kind, "a statement compares the name")?;
        }
        for needed in ["username", "password"] {
            if !columns.iter().any(|column| column == needed) {
                return Err(UsersFault::Mapping(format!(
                    "the result has no column {needed:?}; it has {columns:?}; name columns with AS: id, username, password, roles, admin, active"
                )));
            }
        }
        if let Some(nobody) = Username::parse(&nobody) {
            self.find(&nobody).await?;
        }
        let Statements {
            roles,
            inactive,
            update_password,
            insert,
            ..
        } = &self.statements;
        for sql in [roles.as_ref(), inactive.as_ref()].into_iter().flatten() {
            self.describe(sql).await?;
        }
        // A replica may only be able to read Doorward's own table.
        let update = (update_password.as_ref()).filter(|_| !self.is_own);
        for sql in [update.map(Update::sql), insert.as_ref()]
            .into_iter()
            .flatten()
        {
            for kind in &self.describe(sql).await?.parameters {
                must_be_text(kind, "a statement compares a name or a hash")?;
            }
        }
        Ok(())
    }

    /// Has the database prepare a statement, without running it.
    pub(super) async fn describe(&self, sql: &str) -> Result<Described, UsersFault> {
        let described: Result<Described, Fault> = ask!(&self.connections, connection => {
            let statement = form_for(&*connection, AssertSqlSafe(sql.to_owned()));
            let statement = connection.prepare(statement).await?;
            let columns = statement.columns().iter();
            let parameters = match statement.parameters() {
                Some(Either::Left(types)) => types.iter().map(|kind| kind.name().to_owned()).collect(),
                Some(Either::Right(_)) | None => Vec::new(),
            };
            let described = Described {
                columns: columns.map(|column| column.name().to_ascii_lowercase()).collect(),
                parameters,
            };
            if self.connections.engine() == Engine::Postgres {
                // Unlike MySQL, PostgreSQL checks rights only when a plan is made for running.
                let mut plan = query(AssertSqlSafe(format!("EXPLAIN {sql}")));
                for _ in &described.parameters {
                    plan = plan.bind(None::<Inferred<'_>>);
                }
                plan.fetch_all(connection).await?;
            }
            Ok(described)
        });
        described.map_err(|fault| {
            if let Fault::Refused(sqlx::Error::Database(said)) = &fault {
                return UsersFault::Mapping(said.message().to_owned());
            }
            fault.into()
        })
    }
}
