//! Faults of a database.

use std::{borrow::Cow, io};

use sqlx::{Error, error::DatabaseError, migrate::MigrateError};

/// Why a database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No answer in time.
    #[error("the database did not answer in time")]
    Timeout,
    /// No connection in time.
    #[error("no connection to the database could be opened in time")]
    NoConnection,
    /// The database refused, or cannot be reached.
    #[error("the database cannot be asked")]
    Refused(#[source] Error),
    /// The database asks for the password, but the connection is not encrypted.
    #[error(
        "the database takes the password only where nobody else can read it, and this connection has no TLS; check database.tls and that the server offers it"
    )]
    Unprotected,
    /// A table does not exist.
    #[error(
        "the database lacks a table; make Doorward's own with `doorward migrate`, or mend the settings under users"
    )]
    NoTable(#[source] Error),
    /// PostgreSQL takes no writes (SQLSTATE 25006).
    #[error(
        "the database takes no writes: it is a standby, or set to read-only; let its URL lead to the primary"
    )]
    ReadOnly,
    /// A row with that key exists already.
    #[error("such a row exists already")]
    Exists,
    /// No row fits the write; nothing was written.
    #[error("there is no such row")]
    NoRow,
    /// A column would store another value than the one written; nothing was written.
    #[error(
        "the database would not keep a hash as it is; make its column VARCHAR(255), so that nothing is cut off"
    )]
    Altered,
    /// The embedded database cannot be created or opened.
    #[error("the embedded database cannot be opened")]
    File(#[source] io::Error),
    /// The tables could not be brought up to date.
    #[error("the tables could not be made")]
    Migrate(#[source] MigrateError),
}

impl Fault {
    /// Whether the database rolled back because another transaction was first: SQLSTATE 40001, and 40P01 for a deadlock of
    /// PostgreSQL.
    pub(super) fn is_undone(&self) -> bool {
        matches!(self.code().as_deref(), Some("40001" | "40P01"))
    }

    /// Whether PostgreSQL refuses the text of a value: its character set lacks a character, or the text is not a number.
    pub(crate) fn refuses_text(&self) -> bool {
        matches!(
            self.code().as_deref(),
            Some("22P05" | "22021" | "22P02" | "22003")
        )
    }

    /// Whether a value does not fit what the statement does with it: a data exception (SQLSTATE class 22).
    pub(crate) fn is_data_exception(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("22"))
    }

    /// Whether a parameter is not in the binary form of its type: the type of a column has changed.
    pub(crate) fn is_about_a_type(&self) -> bool {
        matches!(self.code().as_deref(), Some("22P03" | "08P01" | "42883"))
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        let Self::Refused(Error::Database(said)) = self else {
            return None;
        };
        said.code()
    }
}

fn takes_no_writes(said: &dyn DatabaseError) -> bool {
    said.code().as_deref() == Some("25006")
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if matches!(error, Error::PoolTimedOut) {
            return Self::NoConnection;
        }
        // MySQL's `caching_sha2_password` without TLS. sqlx's own message names Cargo features.
        if matches!(&error, Error::Configuration(said) if said.to_string().starts_with("RSA ")) {
            return Self::Unprotected;
        }
        if let Some(said) = error.as_database_error() {
            if said.is_unique_violation() {
                return Self::Exists;
            }
            // MySQL's ER_NO_SUCH_TABLE, and PostgreSQL's undefined_table; SQLite has one code for all errors of a statement.
            if matches!(said.code().as_deref(), Some("42S02" | "42P01"))
                || said.message().starts_with("no such table")
            {
                return Self::NoTable(error);
            }
            if takes_no_writes(said) {
                return Self::ReadOnly;
            }
        }
        Self::Refused(error)
    }
}

impl From<MigrateError> for Fault {
    fn from(error: MigrateError) -> Self {
        if let MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) = &error
            && let Some(said) = cause.as_database_error()
            && takes_no_writes(said)
        {
            return Self::ReadOnly;
        }
        Self::Migrate(error)
    }
}

/// The kind of a fault of the database itself. That a row exists or does not exist is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    Timeout,
    NoConnection,
    Refused,
    Unprotected,
    NoTable,
    ReadOnly,
    Altered,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Timeout,
        Self::NoConnection,
        Self::Refused,
        Self::Unprotected,
        Self::NoTable,
        Self::ReadOnly,
        Self::Altered,
    ];

    /// The label of the metric.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::NoConnection => "no-connection",
            Self::Refused => "refused",
            Self::Unprotected => "unprotected",
            Self::NoTable => "no-table",
            Self::ReadOnly => "read-only",
            Self::Altered => "altered",
        }
    }
}

impl Fault {
    pub(super) fn kind(&self) -> Option<FaultKind> {
        match self {
            Self::Timeout => Some(FaultKind::Timeout),
            Self::NoConnection => Some(FaultKind::NoConnection),
            Self::Refused(_) => Some(FaultKind::Refused),
            Self::Unprotected => Some(FaultKind::Unprotected),
            Self::NoTable(_) => Some(FaultKind::NoTable),
            Self::ReadOnly => Some(FaultKind::ReadOnly),
            Self::Altered => Some(FaultKind::Altered),
            Self::Exists | Self::NoRow | Self::File(_) | Self::Migrate(_) => None,
        }
    }
}

/// An error that may come from the database.
pub(crate) trait OfDatabase {
    /// The fault of the database, if it is one.
    fn fault(&self) -> Option<&Fault>;
}

impl OfDatabase for Fault {
    fn fault(&self) -> Option<&Fault> {
        Some(self)
    }
}
