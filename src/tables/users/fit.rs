//! Whether the settings fit the table.

use std::sync::PoisonError;

use sqlx::{
    AssertSqlSafe, Column as _, Either, Executor as _, SqlSafeStr as _, SqlStr, Statement as _,
    TypeInfo as _,
};

use super::{
    Users, UsersFault,
    mapping::{Statements, Update},
    postgres::IdType,
};
use crate::{
    domain::account::Username,
    tables::database::{Engine, Fault, Inferred, ask, numbered, query},
};

/// The names of a statement's columns, and the types of its parameters, which only PostgreSQL says.
struct Described {
    columns: Vec<String>,
    parameters: Vec<String>,
}

/// Types of PostgreSQL that are no text.
const NO_TEXT: &[&str] = &[
    "BOOL",
    "INT2",
    "INT4",
    "INT8",
    "OID",
    "NUMERIC",
    "FLOAT4",
    "FLOAT8",
    "MONEY",
    "UUID",
    "DATE",
    "TIME",
    "TIMETZ",
    "TIMESTAMP",
    "TIMESTAMPTZ",
    "INTERVAL",
    "INET",
    "CIDR",
    "BIT",
    "VARBIT",
    "JSONB",
];

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
        texts(&parameters, "the name")?;
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
            texts(&self.describe(sql).await?.parameters, "a name or a hash")?;
        }
        Ok(())
    }

    /// Has the database prepare a statement, without running it.
    async fn describe(&self, sql: &str) -> Result<Described, UsersFault> {
        let described: Result<Described, Fault> = ask!(&self.connections, connection => {
            let statement = self.prepared(sql);
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

    fn prepared(&self, sql: &str) -> SqlStr {
        let sql = match self.connections.engine() {
            Engine::Postgres => numbered(sql),
            Engine::MySql | Engine::Sqlite => sql.to_owned(),
        };
        AssertSqlSafe(sql).into_sql_str()
    }

    /// The type of the id in `users.roles_query`.
    pub(super) async fn id_type(&self) -> Result<IdType, UsersFault> {
        let Some(sql) = (self.statements.roles.as_ref())
            .filter(|_| self.connections.engine() == Engine::Postgres)
        else {
            return Ok(IdType::Text);
        };
        let known = *self.id_type.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known {
            return Ok(known);
        }
        let parameters = self.describe(sql).await?.parameters;
        let found = IdType::of_parameter(parameters.first().map_or("", String::as_str))?;
        *self.id_type.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(found)
    }

    /// Asks for the type again: somebody has changed the column.
    pub(super) fn forget_id_type(&self) {
        *self.id_type.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn texts(parameters: &[String], what: &str) -> Result<(), UsersFault> {
    match parameters
        .iter()
        .find(|kind| NO_TEXT.contains(&kind.as_str()))
    {
        None => Ok(()),
        Some(kind) => Err(UsersFault::Mapping(format!(
            "a statement compares {what} with a value of type {kind}; let it compare text: CAST(... AS TEXT)"
        ))),
    }
}
