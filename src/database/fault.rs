//! Faults of a database.

use std::{fmt, io};

use sqlx::{Error, migrate::MigrateError};

/// Why a database operation failed.
#[derive(Debug)]
pub enum Fault {
    /// No answer in time.
    Timeout,
    /// No connection in time.
    NoConnection,
    /// The database refused, or cannot be reached.
    Refused(Error),
    /// The database asks for the password, but the connection is not encrypted.
    Unprotected,
    /// A table does not exist.
    NoTable(Error),
    /// A row with that key exists already.
    Exists,
    /// No row fits the write; nothing was written.
    NoRow,
    /// A column would store another value than the one written; nothing was written.
    Altered,
    /// The embedded database cannot be created or opened.
    File(io::Error),
    /// The tables could not be brought up to date.
    Migrate(MigrateError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("the database did not answer in time"),
            Self::NoConnection => {
                f.write_str("no connection to the database could be opened in time")
            }
            Self::Refused(error) => write!(f, "the database cannot be asked: {error}"),
            Self::Unprotected => f.write_str(
                "the database takes the password only where nobody else can read it, and this connection has no TLS; check database.tls and that the server offers it",
            ),
            Self::NoTable(error) => write!(
                f,
                "the database lacks a table; make Doorward's own with `doorward migrate`, or mend the settings under users: {error}"
            ),
            Self::Exists => f.write_str("there is such a row already"),
            Self::NoRow => f.write_str("there is no such row"),
            Self::Altered => f.write_str(
                "the database would not keep a hash as it is; make its column VARCHAR(255), so that nothing is cut off",
            ),
            Self::File(error) => write!(f, "the embedded database cannot be opened: {error}"),
            Self::Migrate(error) => write!(f, "the tables could not be made: {error}"),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    /// Whether the database rolled back because another transaction was first (SQLSTATE 40001).
    pub(super) fn is_undone(&self) -> bool {
        let Self::Refused(Error::Database(said)) = self else {
            return false;
        };
        said.code().as_deref() == Some("40001")
    }
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
            // MySQL's ER_NO_SUCH_TABLE; SQLite has one code for all errors of a statement.
            if said.code().as_deref() == Some("42S02")
                || said.message().starts_with("no such table")
            {
                return Self::NoTable(error);
            }
        }
        Self::Refused(error)
    }
}

impl Fault {
    /// The names of faults of the database itself. That a row exists or does not exist is not one of them.
    pub const KINDS: [&'static str; 6] = [
        "timeout",
        "no-connection",
        "refused",
        "unprotected",
        "no-table",
        "altered",
    ];

    /// The name of the fault, if it is one of the database itself.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Timeout => Some("timeout"),
            Self::NoConnection => Some("no-connection"),
            Self::Refused(_) => Some("refused"),
            Self::Unprotected => Some("unprotected"),
            Self::NoTable(_) => Some("no-table"),
            Self::Altered => Some("altered"),
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
