//! Why an operation on the user table failed.

use crate::tables::database::{Fault, OfDatabase};

/// Why an operation on the user table failed.
#[derive(Debug, thiserror::Error)]
pub enum UsersFault {
    /// The database failed.
    #[error(transparent)]
    Database(Fault),
    /// The row is not a valid account; the text says which part.
    #[error("the row of the user has a malformed {0}")]
    Row(&'static str),
    /// The settings do not fit the table; the text says where.
    #[error("the settings under users do not fit the table: {0}")]
    Mapping(String),
    /// A user with that name exists already.
    #[error("a user of that name exists already")]
    Exists,
    /// There is no user with that name.
    #[error("there is no user of that name")]
    Unknown,
    /// The database has a table `users` that Doorward did not create.
    #[error(
        "the database has a table \"users\" that Doorward did not make; describe it in the settings under users, use another database, or rename the table"
    )]
    Foreign,
    /// The table is not Doorward's own, and no setting says how to do this; the text says what.
    #[error("the user table is yours, and Doorward does not know how to {0} in it")]
    NotOurs(&'static str),
}

impl From<Fault> for UsersFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Exists => Self::Exists,
            Fault::NoRow => Self::Unknown,
            Fault::Timeout
            | Fault::NoConnection
            | Fault::Refused(_)
            | Fault::NoTable(_)
            | Fault::ReadOnly
            | Fault::Unprotected
            | Fault::Altered
            | Fault::File(_)
            | Fault::Migrate(_) => Self::Database(fault),
        }
    }
}

impl OfDatabase for UsersFault {
    fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Database(fault) => Some(fault),
            Self::Row(_)
            | Self::Mapping(_)
            | Self::Exists
            | Self::Unknown
            | Self::Foreign
            | Self::NotOurs(_) => None,
        }
    }
}

impl From<sqlx::Error> for UsersFault {
    fn from(error: sqlx::Error) -> Self {
        Fault::from(error).into()
    }
}
